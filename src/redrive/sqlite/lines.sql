-- name: join
INSERT OR IGNORE INTO line (queue, group_id, free_at_ms) VALUES (?, ?, ?);

-- name: free
SELECT group_id FROM line WHERE queue = ? AND free_at_ms <= ? ORDER BY free_at_ms LIMIT ?;

-- name: front
SELECT seq, visible_at_ms FROM message WHERE queue = ? AND group_id = ? AND phase BETWEEN 3 AND 4 ORDER BY seq LIMIT ?;

-- name: take
UPDATE message SET phase = 4, visible_at_ms = ?1, receipt = randomblob(16), receive_count = receive_count + 1
WHERE seq IN (SELECT value FROM json_each(?2))
RETURNING {RECEIVED};

-- name: take_by_id
UPDATE message SET phase = 4, visible_at_ms = ?1, receipt = randomblob(16), receive_count = receive_count + 1
WHERE seq IN (
    SELECT seq FROM message AS chosen
    WHERE queue = ?2 AND id = ?4 AND notes IS NOT NULL AND phase BETWEEN 3 AND 4 AND NOT EXISTS (
        SELECT 1 FROM message AS leased
        WHERE leased.queue = ?2 AND leased.group_id = chosen.group_id AND leased.phase = 4
            AND leased.visible_at_ms > ?3
    )
    LIMIT 1
)
RETURNING {RECEIVED};

-- name: state
SELECT
    (SELECT visible_at_ms FROM message WHERE queue = ?1 AND group_id = ?2 AND phase BETWEEN 3 AND 4 ORDER BY seq LIMIT 1),
    (SELECT max(visible_at_ms) FROM message WHERE queue = ?1 AND group_id = ?2 AND phase = 4);

-- name: leave
DELETE FROM line WHERE queue = ? AND group_id = ?;

-- name: renew
INSERT INTO line (queue, group_id, free_at_ms) VALUES (?1, ?2, ?3)
ON CONFLICT (queue, group_id) DO UPDATE SET free_at_ms = ?3;

-- name: next_free
SELECT min(free_at_ms) FROM line WHERE queue = ?;
