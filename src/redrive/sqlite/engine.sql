-- name: wake
UPDATE message SET phase = 0, round = max(round, ?4) WHERE seq IN (
    SELECT seq FROM (
        SELECT seq FROM message
        WHERE queue = ?1 AND phase = 1 AND visible_at_ms <= ?2
            AND 1 = (SELECT own.phase FROM message AS own WHERE own.seq = message.seq)
        ORDER BY visible_at_ms LIMIT ?3
    )
    UNION ALL
    SELECT seq FROM (
        SELECT seq FROM message
        WHERE queue = ?1 AND phase = 2 AND visible_at_ms <= ?2
            AND 2 = (SELECT own.phase FROM message AS own WHERE own.seq = message.seq)
        ORDER BY visible_at_ms LIMIT ?3
    )
);

-- name: receive
UPDATE message SET
    phase = 2, visible_at_ms = ?1, receipt = randomblob(16), receive_count = receive_count + 1,
    first_received_at_ms = coalesce(first_received_at_ms, ?4)
WHERE seq IN (
    SELECT seq FROM message  -- a damaged index may hold what the row itself denies: it would be given again for ever
    WHERE queue = ?2 AND phase = 0 AND 0 = (SELECT own.phase FROM message AS own WHERE own.seq = message.seq)
    ORDER BY round, visible_at_ms, seq LIMIT ?3
)
RETURNING {RECEIVED};

-- name: find
SELECT seq FROM message
WHERE queue = ?1 AND id = ?3 AND notes IS NOT NULL AND (phase <= 1 OR phase = 2 AND visible_at_ms <= ?2)
ORDER BY seq;

-- name: take
UPDATE message SET
    phase = 2, visible_at_ms = ?1, receipt = randomblob(16), receive_count = receive_count + 1,
    first_received_at_ms = coalesce(first_received_at_ms, ?3)
WHERE seq IN (SELECT value FROM json_each(?2))
RETURNING {RECEIVED};

-- name: count_leased
SELECT count(*) FROM json_each(?1) AS given JOIN message ON message.seq = CAST(given.value AS INTEGER)
WHERE given.value = message.seq || '.' || lower(hex(message.receipt)) AND message.visible_at_ms > ?2;

-- name: receive_again
UPDATE message SET visible_at_ms = ?1 WHERE seq IN (SELECT CAST(value AS INTEGER) FROM json_each(?2))
RETURNING {RECEIVED};

-- name: expires
SELECT expires_at_ms FROM message WHERE seq = ?;

-- name: in_flight
SELECT count(*) FROM (SELECT 1 FROM message WHERE queue = ? AND phase = 2 AND visible_at_ms > ? LIMIT ?);

-- name: leased
SELECT count(*) FROM (SELECT 1 FROM message WHERE queue = ? AND phase = 4 AND visible_at_ms > ? LIMIT ?);

-- name: acknowledge
DELETE FROM message
WHERE seq = ?1 AND receipt = ?2 AND queue = (SELECT queue.id FROM queue WHERE queue.name = ?3);

-- name: count_held
SELECT count(*) FROM json_each(?1) AS held JOIN message ON message.seq = CAST(held.value AS INTEGER)
WHERE held.value = message.seq || '.' || lower(hex(message.receipt))
    AND message.queue = (SELECT queue.id FROM queue WHERE queue.name = ?2);

-- name: acknowledge_all
DELETE FROM message WHERE seq IN (SELECT CAST(value AS INTEGER) FROM json_each(?));

-- name: hand_back
UPDATE message
SET phase = iif(phase < 3, ?5, 3), visible_at_ms = ?4, receipt = NULL, receive_count = receive_count - ?6,
    first_received_at_ms = iif(receive_count = ?6, NULL, first_received_at_ms),
    round = max(round, 1 + (SELECT queue.round FROM queue WHERE queue.id = message.queue))
WHERE seq = ?1 AND receipt = ?2 AND queue = (SELECT queue.id FROM queue WHERE queue.name = ?3);

-- name: look
SELECT {RECEIVED} FROM message
WHERE seq = ?1 AND receipt = ?2 AND queue = (SELECT queue.id FROM queue WHERE queue.name = ?3);

-- name: note
UPDATE message SET notes = ?2, checksum = ?3 WHERE seq = ?1;

-- name: extend
UPDATE message SET phase = iif(phase < 3, 2, 4), visible_at_ms = ?4
WHERE seq = ?1 AND receipt = ?2 AND queue = (SELECT queue.id FROM queue WHERE queue.name = ?3);

-- name: leased_until
SELECT visible_at_ms FROM message
WHERE seq = ?1 AND receipt = ?2 AND queue = (SELECT queue.id FROM queue WHERE queue.name = ?3);

-- name: is_there
SELECT 1 FROM message WHERE seq = ?1 AND queue = (SELECT queue.id FROM queue WHERE queue.name = ?2);

-- name: set_aside
UPDATE message SET phase = 5, receipt = NULL, expires_at_ms = NULL WHERE seq = ?;

-- name: expired
DELETE FROM message WHERE seq IN (SELECT seq FROM message WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)
RETURNING queue, CAST(group_id AS BLOB), phase;

-- name: postpone_expiry
UPDATE message SET expires_at_ms = expires_at_ms + ? WHERE expires_at_ms IS NOT NULL;

-- name: browse_ready
SELECT seq, round, visible_at_ms, x'', {RAW} FROM message
WHERE queue = ?1 AND phase = 0 AND (round, visible_at_ms, seq) > (?2, ?3, ?5)
ORDER BY round, visible_at_ms, seq LIMIT ?6;

-- name: browse_delayed
SELECT seq, 0, visible_at_ms, x'', {RAW} FROM message
WHERE queue = ?1 AND phase = 1 AND (visible_at_ms, seq) > (?3, ?5) ORDER BY visible_at_ms, seq LIMIT ?6;

-- name: browse_in_flight
SELECT seq, 0, visible_at_ms, x'', {RAW} FROM message
WHERE queue = ?1 AND phase = 2 AND (visible_at_ms, seq) > (?3, ?5) ORDER BY visible_at_ms, seq LIMIT ?6;

-- name: browse_in_line
SELECT seq, 0, 0, CAST(group_id AS BLOB), {RAW} FROM message
WHERE queue = ?1 AND group_id IS NOT NULL AND phase BETWEEN 3 AND 4 AND (group_id, seq) > (?4, ?5) ORDER BY group_id, seq LIMIT ?6;

-- name: depth
SELECT
    (SELECT count(*) FROM message WHERE queue = ?1 AND phase = 0),
    (SELECT count(*) FROM message WHERE queue = ?1 AND phase = 1 AND visible_at_ms <= ?2),
    (SELECT count(*) FROM message WHERE queue = ?1 AND phase = 1 AND visible_at_ms > ?2),
    (SELECT count(*) FROM message WHERE queue = ?1 AND phase = 2 AND visible_at_ms <= ?2),
    (SELECT count(*) FROM message WHERE queue = ?1 AND phase = 2 AND visible_at_ms > ?2);

-- name: depth_in_line
SELECT
    coalesce(sum(visible_at_ms <= ?2), 0),
    coalesce(sum(visible_at_ms > ?2 AND phase = 4), 0),
    coalesce(sum(visible_at_ms > ?2 AND phase = 3), 0)
FROM message WHERE queue = ?1 AND group_id IS NOT NULL AND phase BETWEEN 3 AND 4;

-- name: next_visible
SELECT min(at) FROM (
    SELECT * FROM (SELECT visible_at_ms AS at FROM message WHERE queue = ?1 AND phase = 0 LIMIT 1)
    UNION ALL
    SELECT min(visible_at_ms) FROM message WHERE queue = ?1 AND phase = 1
    UNION ALL
    SELECT min(visible_at_ms) FROM message WHERE queue = ?1 AND phase = 2
);
