-- name: said
SELECT attributes, tags, purged_at_ms FROM sqs_queue WHERE queue = ?;

-- name: say
INSERT OR REPLACE INTO sqs_queue (queue, attributes, tags, purged_at_ms) VALUES (?, ?, ?, ?);

-- name: note_deleted
INSERT OR REPLACE INTO sqs_deleted_queue (name, deleted_at_ms) VALUES (?, ?);

-- name: forget_deleted
DELETE FROM sqs_deleted_queue WHERE deleted_at_ms <= ?;

-- name: deleted_at_ms
SELECT deleted_at_ms FROM sqs_deleted_queue WHERE name = ?;
