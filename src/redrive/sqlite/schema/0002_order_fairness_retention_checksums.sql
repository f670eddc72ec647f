-- FIFO queues, tenants, retention, checksums and message moves.

ALTER TABLE queue ADD COLUMN fifo INTEGER NOT NULL DEFAULT 0 CHECK (fifo IN (0, 1));
ALTER TABLE queue ADD COLUMN content_deduplication INTEGER NOT NULL DEFAULT 0 CHECK (content_deduplication IN (0, 1));
ALTER TABLE queue ADD COLUMN delay_ms INTEGER NOT NULL DEFAULT 0 CHECK (delay_ms BETWEEN 0 AND 900000);
ALTER TABLE queue ADD COLUMN retention_ms INTEGER CHECK (retention_ms BETWEEN 60000 AND 1209600000); -- NULL: for ever
ALTER TABLE queue ADD COLUMN allowed_sources TEXT;    -- a JSON list of names; NULL: every queue
ALTER TABLE queue ADD COLUMN largest_message INTEGER NOT NULL DEFAULT 1007616
    CHECK (largest_message BETWEEN 1024 AND 1048576);
ALTER TABLE queue ADD COLUMN round INTEGER NOT NULL DEFAULT 0; -- the highest round of what was received (see tenant)

ALTER TABLE message ADD COLUMN phase INTEGER NOT NULL DEFAULT 0 CHECK (phase BETWEEN 0 AND 5);
ALTER TABLE message ADD COLUMN round INTEGER NOT NULL DEFAULT 0;   -- lower ones are received first (see tenant)
ALTER TABLE message ADD COLUMN expires_at_ms INTEGER;  -- its queue's retention ends; NULL: never
ALTER TABLE message ADD COLUMN origin INTEGER;         -- the queue whose dead letter it is; it may be deleted since
ALTER TABLE message ADD COLUMN checksum INTEGER;       -- CRC-32 of what a receive gives; NULL: older than checksums
-- 0 ready      standard queue: may be received
-- 1 delayed    standard queue: ready from visible_at_ms on
-- 2 in flight  standard queue: leased until visible_at_ms, then ready
-- 3 in line    FIFO queue: may be received from visible_at_ms on, when it is its group's turn
-- 4 leased     FIFO queue: leased until visible_at_ms, then in line
-- 5 damaged    its checksum does not fit: never handed out
UPDATE message SET phase = iif(receipt IS NULL, 1, 2);

DROP INDEX message_by_visibility;
CREATE INDEX message_ready ON message (queue, round, visible_at_ms) WHERE phase = 0;
CREATE INDEX message_delayed ON message (queue, visible_at_ms) WHERE phase = 1;
CREATE INDEX message_in_flight ON message (queue, visible_at_ms) WHERE phase = 2;
-- Not by phase: a lease would have to change an entry of this large index for each message.
CREATE INDEX message_in_line ON message (queue, group_id) WHERE group_id IS NOT NULL;
CREATE INDEX message_leased ON message (queue, group_id, visible_at_ms) WHERE phase = 4;
CREATE INDEX message_damaged ON message (queue) WHERE phase = 5;
CREATE INDEX message_by_expiry ON message (expires_at_ms) WHERE expires_at_ms IS NOT NULL;

-- One row for each group that has messages in a FIFO queue.
CREATE TABLE line (
    queue INTEGER NOT NULL REFERENCES queue (id),
    group_id TEXT NOT NULL,
    free_at_ms INTEGER NOT NULL,                  -- its first message may be received from then on
    front INTEGER NOT NULL,                       -- seq of its first message
    PRIMARY KEY (queue, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX line_by_time ON line (queue, free_at_ms, front);

-- One row for each group that lately sent to a standard queue: a tenant. Its next message goes into the round after its
-- last one, or after the one being received, whichever is later. Rounds are received in order, so that a burst of one
-- tenant stands behind one message of each of the others.
CREATE TABLE tenant (
    queue INTEGER NOT NULL REFERENCES queue (id),
    group_id TEXT NOT NULL,
    round INTEGER NOT NULL,                       -- of its last message
    PRIMARY KEY (queue, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tenant_by_round ON tenant (queue, round);

-- What was sent to FIFO queues in the last five minutes.
CREATE TABLE deduplication (
    queue INTEGER NOT NULL REFERENCES queue (id),
    id TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deduplication_by_expiry ON deduplication (expires_at_ms);

-- What receives with an attempt id were given in the last five minutes.
CREATE TABLE receive_attempt (
    queue INTEGER NOT NULL REFERENCES queue (id),
    id TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    receipts TEXT NOT NULL,                       -- a JSON list
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX receive_attempt_by_expiry ON receive_attempt (expires_at_ms);

CREATE TABLE move_task (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    destination TEXT,                             -- NULL: each back to the queue whose dead letter it is
    rate INTEGER CHECK (rate BETWEEN 1 AND 500),  -- messages a second; NULL: as fast as it goes
    status TEXT NOT NULL CHECK (status IN ('RUNNING', 'COMPLETED', 'CANCELLED', 'FAILED')),
    to_move INTEGER NOT NULL CHECK (to_move >= 0),
    moved INTEGER NOT NULL DEFAULT 0 CHECK (moved >= 0),
    next_at_ms REAL NOT NULL,                     -- the rate allows the next message from then on
    started_at_ms INTEGER NOT NULL,
    failure TEXT
) STRICT;
CREATE UNIQUE INDEX move_task_running ON move_task (source) WHERE status = 'RUNNING';
CREATE INDEX move_task_by_source ON move_task (source, number);
