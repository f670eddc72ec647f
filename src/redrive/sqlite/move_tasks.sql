-- name: running_for
SELECT id FROM move_task WHERE source = ? AND status = 'RUNNING';

-- name: start
INSERT INTO move_task (id, source, destination, rate, status, to_move, next_at_ms, started_at_ms)
VALUES (lower(hex(randomblob(16))), ?1, ?2, ?3, 'RUNNING', ?4, ?5, ?5)
RETURNING id;

-- name: forget
DELETE FROM move_task WHERE source = ?1 AND number < (
    SELECT number FROM move_task WHERE source = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2
);

-- name: list
SELECT id, source, destination, rate, status, to_move, moved, started_at_ms, failure FROM move_task
WHERE source = ? ORDER BY number DESC LIMIT ?;

-- name: cancel
UPDATE move_task SET status = 'CANCELLED' WHERE id = ? AND status = 'RUNNING' RETURNING moved;

-- name: running
SELECT id, source, destination, rate, status, to_move, moved, started_at_ms, failure, next_at_ms FROM move_task
INDEXED BY move_task_running WHERE status = 'RUNNING' ORDER BY number;

-- name: count
UPDATE move_task SET moved = moved + ?2, next_at_ms = ?3 WHERE id = ?1;

-- name: complete
UPDATE move_task SET status = 'COMPLETED' WHERE id = ?;

-- name: fail
UPDATE move_task SET moved = moved + ?2, status = 'FAILED', failure = ?3 WHERE id = ?1;
