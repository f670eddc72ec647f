-- name: queue
SELECT id, name, fifo, content_deduplication, delay_ms, retention_ms, dead_letter_queue, max_receives, largest_message,
    round
FROM queue WHERE name = ?;

-- name: names
SELECT name FROM queue ORDER BY name;

-- name: name_of
SELECT name FROM queue WHERE id = ?;

-- name: sources
SELECT name FROM queue WHERE dead_letter_queue = ?;

-- name: spec
SELECT fifo, dead_letter_queue, max_receives, allowed_sources FROM queue WHERE name = ?;

-- name: retention
SELECT id, retention_ms FROM queue WHERE name = ?;

-- name: declare
INSERT INTO queue (
    name, fifo, content_deduplication, delay_ms, retention_ms, dead_letter_queue, max_receives, allowed_sources,
    largest_message
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (name) DO UPDATE SET
    content_deduplication = ?3, delay_ms = ?4, retention_ms = ?5, dead_letter_queue = ?6, max_receives = ?7,
    allowed_sources = ?8, largest_message = ?9
WHERE (content_deduplication, delay_ms, retention_ms, dead_letter_queue, max_receives, allowed_sources, largest_message)
    IS NOT (?3, ?4, ?5, ?6, ?7, ?8, ?9);

-- name: retain
UPDATE message SET expires_at_ms = coalesce(expires_at_ms - ?2, ?4) + ?3 WHERE queue = ?1 AND phase < 5;

-- name: delete
DELETE FROM queue WHERE id = ?;

-- name: delete_messages
DELETE FROM message WHERE queue = ?;

-- name: delete_lines
DELETE FROM line WHERE queue = ?;

-- name: delete_tenants
DELETE FROM tenant WHERE queue = ?;

-- name: forget_deduplication
DELETE FROM deduplication WHERE queue = ?;

-- name: forget_attempts
DELETE FROM receive_attempt WHERE queue = ?;
