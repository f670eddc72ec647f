-- name: next_round
INSERT INTO tenant (queue, group_id, round) VALUES (?1, ?2, ?3)
ON CONFLICT (queue, group_id) DO UPDATE SET round = max(round + 1, ?3)
RETURNING round;

-- name: advance
UPDATE queue SET round = max(round, ?2) WHERE id = ?1;

-- name: sweep
DELETE FROM tenant WHERE (queue, group_id) IN (
    SELECT tenant.queue, tenant.group_id FROM queue CROSS JOIN tenant
    WHERE tenant.queue = queue.id AND tenant.round <= queue.round LIMIT ?
);
