-- name: join
INSERT OR IGNORE INTO line (queue, group_id, free_at_ms, front) VALUES (?, ?, ?, ?);

-- name: free
SELECT group_id, front FROM line WHERE queue = ? AND free_at_ms <= ? ORDER BY free_at_ms, front LIMIT ?;

-- name: front
SELECT seq, visible_at_ms FROM message WHERE queue = ? AND group_id = ? AND phase BETWEEN 3 AND 4 ORDER BY seq LIMIT ?;

-- name: take
UPDATE message SET
    phase = 4, visible_at_ms = ?1, receipt = randomblob(16), receive_count = receive_count + 1,
    first_received_at_ms = coalesce(first_received_at_ms, ?4)
WHERE seq IN (SELECT value FROM json_each(?2)) AND queue = ?3 AND phase BETWEEN 3 AND 4
RETURNING {RECEIVED};

-- name: find
SELECT seq FROM message AS chosen
WHERE queue = ?1 AND id = ?3 AND notes IS NOT NULL AND phase BETWEEN 3 AND 4 AND NOT EXISTS (
    SELECT 1 FROM message AS leased
    WHERE leased.queue = ?1 AND leased.group_id = chosen.group_id AND leased.phase = 4 AND leased.visible_at_ms > ?2
)
ORDER BY seq;

-- name: lapse
UPDATE message SET phase = 3, receipt = NULL
WHERE seq IN (
    SELECT message.seq FROM json_each(?2) AS free CROSS JOIN message
    WHERE message.queue = ?1 AND message.group_id = free.value AND message.phase = 4 AND message.visible_at_ms <= ?3
);

-- name: lock
UPDATE line SET free_at_ms = ?3 WHERE queue = ?1 AND group_id IN (SELECT value FROM json_each(?2));

-- name: leave
DELETE FROM line WHERE queue = ?1 AND group_id IN (SELECT value FROM json_each(?2)) AND NOT EXISTS (
    SELECT 1 FROM message
    WHERE message.queue = ?1 AND message.group_id = line.group_id AND phase BETWEEN 3 AND 4
);

-- name: renew
UPDATE line SET (front, free_at_ms) = (
    SELECT seq, max(visible_at_ms, coalesce((
        SELECT max(leased.visible_at_ms) FROM message AS leased
        WHERE leased.queue = ?1 AND leased.group_id = line.group_id AND leased.phase = 4
    ), 0))
    FROM message
    WHERE message.queue = ?1 AND message.group_id = line.group_id AND phase BETWEEN 3 AND 4 ORDER BY seq LIMIT 1
)
WHERE queue = ?1 AND group_id IN (SELECT value FROM json_each(?2))
RETURNING free_at_ms;

-- name: next_free
SELECT min(free_at_ms) FROM line WHERE queue = ?;
