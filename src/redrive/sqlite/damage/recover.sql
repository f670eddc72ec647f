-- What is made anew from the messages in a recovered database.

-- name: lines
INSERT INTO line (queue, group_id, free_at_ms, front)
SELECT queue, group_id, max(
    (SELECT visible_at_ms FROM message WHERE seq = state.front),
    coalesce((
        SELECT max(visible_at_ms) FROM message
        WHERE message.queue = state.queue AND message.group_id = state.group_id AND phase = 4
    ), 0)
), front
FROM (
    SELECT queue, group_id, min(seq) AS front FROM message WHERE phase BETWEEN 3 AND 4 GROUP BY queue, group_id
) AS state;

-- name: tenants
INSERT INTO tenant (queue, group_id, round)
SELECT message.queue, group_id, max(message.round) FROM message JOIN queue ON queue.id = message.queue
WHERE phase < 3 AND group_id IS NOT NULL AND message.round > queue.round GROUP BY message.queue, group_id;

-- name: forget_dead_letter_queues
UPDATE queue SET dead_letter_queue = NULL, max_receives = NULL
WHERE dead_letter_queue IS NOT NULL
    AND (SELECT fifo FROM queue AS dead WHERE dead.name = queue.dead_letter_queue) IS NOT fifo
RETURNING name;

-- name: fail_moves
UPDATE move_task SET status = 'FAILED', failure = 'its queue was not there after the file was recovered'
WHERE status = 'RUNNING' AND source NOT IN (SELECT name FROM queue);

-- name: no_sequences
DELETE FROM sqlite_sequence;

-- name: sequence
INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?);
