-- name: sent_before
SELECT message_id, sequence FROM deduplication WHERE queue = ? AND id = ? AND expires_at_ms > ?;

-- name: remember_sent
INSERT OR REPLACE INTO deduplication (queue, id, expires_at_ms, message_id, sequence) VALUES (?, ?, ?, ?, ?);

-- name: received_before
SELECT receipts FROM receive_attempt WHERE queue = ? AND id = ? AND expires_at_ms > ?;

-- name: remember_received
INSERT OR REPLACE INTO receive_attempt (queue, id, expires_at_ms, receipts) VALUES (?, ?, ?, ?);

-- name: forget_sent
DELETE FROM deduplication WHERE expires_at_ms <= ?;

-- name: forget_received
DELETE FROM receive_attempt WHERE expires_at_ms <= ?;
