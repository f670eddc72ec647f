-- name: queue
SELECT id, name, fifo, content_deduplication, delay_ms, retention_ms, dead_letter_queue, max_receives, largest_message,
    round, deduplication_by_group
FROM queue WHERE name = ?;

-- name: names
SELECT name FROM queue ORDER BY name;

-- name: name_of
SELECT name FROM queue WHERE id = ?;

-- name: sources
SELECT name FROM queue WHERE dead_letter_queue = ? ORDER BY name;

-- name: spec
SELECT
    fifo, content_deduplication, deduplication_by_group, delay_ms, retention_ms, dead_letter_queue, max_receives,
    allowed_sources, largest_message
FROM queue WHERE name = ?;

-- name: retention
SELECT id, retention_ms FROM queue WHERE name = ?;

-- name: declare
INSERT INTO queue (
    name, fifo, content_deduplication, delay_ms, retention_ms, dead_letter_queue, max_receives, allowed_sources,
    largest_message, deduplication_by_group, created_at_ms, changed_at_ms
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)
ON CONFLICT (name) DO UPDATE SET
    content_deduplication = ?3, delay_ms = ?4, retention_ms = ?5, dead_letter_queue = ?6, max_receives = ?7,
    allowed_sources = ?8, largest_message = ?9, deduplication_by_group = ?10, changed_at_ms = ?11
WHERE (
    content_deduplication, delay_ms, retention_ms, dead_letter_queue, max_receives, allowed_sources, largest_message,
    deduplication_by_group
) IS NOT (?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10);

-- name: times
SELECT created_at_ms, changed_at_ms FROM queue WHERE name = ?;

-- name: note_changed
UPDATE queue SET changed_at_ms = ?2 WHERE id = ?1;

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
