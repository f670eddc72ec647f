-- What Amazon SQS tells of messages and queues, for those who ask in its language.

ALTER TABLE message ADD COLUMN first_received_at_ms INTEGER;  -- from this queue; NULL: never
ALTER TABLE message ADD COLUMN deduplication_id TEXT;         -- FIFO queue: given by its sender, or made of its body

ALTER TABLE queue ADD COLUMN deduplication_by_group INTEGER NOT NULL DEFAULT 0
    CHECK (deduplication_by_group IN (0, 1));         -- FIFO queue: the same id in two groups is no duplicate
ALTER TABLE queue ADD COLUMN created_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE queue ADD COLUMN changed_at_ms INTEGER NOT NULL DEFAULT 0;

-- What only clients that speak SQS know of a queue, and the engine has no use for.
CREATE TABLE sqs_queue (
    queue INTEGER PRIMARY KEY REFERENCES queue (id) ON DELETE CASCADE,
    attributes TEXT NOT NULL,                         -- a JSON object of strings: those that were set
    tags TEXT NOT NULL,                               -- likewise
    purged_at_ms INTEGER                              -- NULL: never
) STRICT;

-- The names of queues deleted in the last minute.
CREATE TABLE sqs_deleted_queue (
    name TEXT PRIMARY KEY,
    deleted_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
