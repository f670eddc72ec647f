-- name: queue
SELECT id, dead_letter_queue, max_receives FROM queue WHERE name = ?;

-- name: queues
SELECT name FROM queue ORDER BY name;

-- name: declare
INSERT INTO queue (name, dead_letter_queue, max_receives) VALUES (?1, ?2, ?3)
ON CONFLICT (name) DO UPDATE SET dead_letter_queue = ?2, max_receives = ?3
WHERE dead_letter_queue IS NOT ?2 OR max_receives IS NOT ?3;

-- name: send
INSERT INTO message (queue, visible_at_ms, sent_at_ms, id, group_id, attributes, notes, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: receive
UPDATE message SET visible_at_ms = ?1, receipt = randomblob(16), receive_count = receive_count + 1
WHERE seq IN (SELECT seq FROM message WHERE queue = ?2 AND visible_at_ms <= ?3 ORDER BY visible_at_ms, seq LIMIT ?4)
RETURNING seq, receipt, receive_count, id, sent_at_ms, group_id, attributes, notes, body;

-- name: receive_by_id
UPDATE message SET visible_at_ms = ?1, receipt = randomblob(16), receive_count = receive_count + 1
WHERE seq IN (
    SELECT seq FROM message
    WHERE queue = ?2 AND id = ?4 AND notes IS NOT NULL AND (receipt IS NULL OR visible_at_ms <= ?3) LIMIT ?5
)
RETURNING seq, receipt, receive_count, id, sent_at_ms, group_id, attributes, notes, body;

-- name: acknowledge
DELETE FROM message WHERE seq = ? AND receipt = ?;

-- name: count_held
SELECT count(*) FROM json_each(?) AS held JOIN message ON message.seq = CAST(held.value AS INTEGER)
WHERE held.value = message.seq || '.' || lower(hex(message.receipt));

-- name: acknowledge_all
DELETE FROM message WHERE seq IN (SELECT CAST(value AS INTEGER) FROM json_each(?));

-- name: hand_back
UPDATE message SET visible_at_ms = ?1, receipt = NULL WHERE seq = ?2 AND receipt = ?3;

-- name: hand_back_noted
UPDATE message SET visible_at_ms = ?1, receipt = NULL, notes = ?4 WHERE seq = ?2 AND receipt = ?3;

-- name: forward
UPDATE message SET queue = ?4, visible_at_ms = ?1, receipt = NULL, receive_count = 0, notes = ?5, body = ?6
WHERE seq = ?2 AND receipt = ?3;

-- name: give_up
UPDATE message
SET queue = ?1, visible_at_ms = ?2, receipt = NULL, receive_count = 0, notes = coalesce(notes, '{"v":1,"forwards":1}')
WHERE seq = ?3;

-- name: extend
UPDATE message SET visible_at_ms = ?1 WHERE seq = ?2 AND receipt = ?3;

-- name: browse
SELECT seq, visible_at_ms, id, sent_at_ms, group_id, attributes, notes, body FROM message
WHERE queue = ?1 AND (visible_at_ms, seq) > (?2, ?3) ORDER BY visible_at_ms, seq LIMIT ?4;

-- name: count_ready
SELECT count(*) FROM message WHERE queue = ? AND visible_at_ms <= ?;

-- name: count_waiting
SELECT count(receipt), count(*) FROM message WHERE queue = ? AND visible_at_ms > ?;

-- name: next_visible
SELECT min(visible_at_ms) FROM message WHERE queue = ?;

-- name: purge
DELETE FROM message WHERE queue = ?;
