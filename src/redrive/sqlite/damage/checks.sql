-- Each statement finds what contradicts the engine: name of the queue, id or key, and the values of the sentence.
-- :now is the later one of the wall clock and the stored clock, and a minute more. Texts come as bytes: a damaged one may not be UTF-8.

-- name: messages
SELECT seq, queue, phase, checksum,
    CAST(id AS BLOB), sent_at_ms, CAST(group_id AS BLOB), CAST(attributes AS BLOB), CAST(notes AS BLOB), body
FROM message NOT INDEXED ORDER BY seq;

-- name: entries
SELECT CAST(namespace AS BLOB), CAST(key AS BLOB), value FROM entry NOT INDEXED ORDER BY number;

-- name: queues
SELECT id, CAST(name AS BLOB) FROM queue;

-- name: clock
SELECT only_row, clock_high_water_ms FROM meta;

-- name: sequences
SELECT CAST(name AS BLOB), seq FROM sqlite_sequence;

-- name: highest
SELECT 'message', max(seq) FROM message
UNION ALL SELECT 'queue', max(id) FROM queue
UNION ALL SELECT 'move_task', max(number) FROM move_task;

-- name: other_kind
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB), phase, iif(fifo, 'a FIFO', 'a standard')
FROM message JOIN queue ON queue.id = message.queue WHERE phase < 5 AND (phase >= 3) <> fifo;

-- name: without_receipt
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB)
FROM message JOIN queue ON queue.id = message.queue WHERE phase IN (2, 4) AND receipt IS NULL;

-- name: with_receipt
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB)
FROM message JOIN queue ON queue.id = message.queue WHERE phase IN (1, 3, 5) AND receipt IS NOT NULL;

-- name: never_received
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB)
FROM message JOIN queue ON queue.id = message.queue WHERE phase IN (2, 4) AND receive_count = 0;

-- name: received_too_often
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB), receive_count
FROM message JOIN queue ON queue.id = message.queue
WHERE receive_count > 1000 AND EXISTS (SELECT 1 FROM queue AS dead WHERE dead.name = queue.dead_letter_queue);

-- name: far_future
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB), iif(phase IN (2, 4), 'leased', 'delayed'),
    (visible_at_ms - :now) / 3600000
FROM message JOIN queue ON queue.id = message.queue
WHERE phase BETWEEN 1 AND 4 AND visible_at_ms > :now + :longest;

-- name: ready_later
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB), (visible_at_ms - :now) / 1000
FROM message JOIN queue ON queue.id = message.queue WHERE phase = 0 AND visible_at_ms > :now;

-- name: never_expires
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB)
FROM message JOIN queue ON queue.id = message.queue
WHERE retention_ms IS NOT NULL AND expires_at_ms IS NULL AND phase < 5;

-- name: expires
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB)
FROM message JOIN queue ON queue.id = message.queue
WHERE retention_ms IS NULL AND expires_at_ms IS NOT NULL;

-- name: expires_late
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB), (expires_at_ms - :now) / 86400000
FROM message JOIN queue ON queue.id = message.queue WHERE expires_at_ms > :now + :keeping;

-- name: unknown_origin
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB), origin
FROM message JOIN queue ON queue.id = message.queue
WHERE origin < 1 OR origin > (SELECT seq FROM sqlite_sequence WHERE name = 'queue');

-- name: without_group
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB)
FROM message JOIN queue ON queue.id = message.queue
WHERE phase BETWEEN 3 AND 4 AND (group_id IS NULL OR length(group_id) NOT BETWEEN 1 AND 128);

-- name: no_line
SELECT CAST(queue.name AS BLOB), NULL, CAST(found.group_id AS BLOB), found.messages
FROM (
    SELECT queue, group_id, count(*) AS messages FROM message
    WHERE phase BETWEEN 3 AND 4 AND group_id IS NOT NULL GROUP BY queue, group_id
) AS found
JOIN queue ON queue.id = found.queue
WHERE NOT EXISTS (SELECT 1 FROM line WHERE line.queue = found.queue AND line.group_id = found.group_id);

-- name: line_without_messages
SELECT CAST(queue.name AS BLOB), NULL, CAST(line.group_id AS BLOB)
FROM line JOIN queue ON queue.id = line.queue
WHERE NOT EXISTS (
    SELECT 1 FROM message
    WHERE message.queue = line.queue AND message.group_id = line.group_id AND phase BETWEEN 3 AND 4
);

-- name: wrong_line
SELECT CAST(queue.name AS BLOB), NULL, CAST(group_id AS BLOB), iif(free_at_ms < truth, 'earlier', 'later'),
    abs(free_at_ms - truth)
FROM (
    SELECT queue, group_id, free_at_ms, max(
        (
            SELECT visible_at_ms FROM message
            WHERE message.queue = line.queue AND message.group_id = line.group_id AND phase BETWEEN 3 AND 4
            ORDER BY seq LIMIT 1
        ),
        coalesce((
            SELECT max(visible_at_ms) FROM message
            WHERE message.queue = line.queue AND message.group_id = line.group_id AND phase = 4
        ), 0)
    ) AS truth
    FROM line
) AS line
JOIN queue ON queue.id = line.queue
WHERE free_at_ms <> truth;

-- name: wrong_front
SELECT CAST(queue.name AS BLOB), NULL, CAST(group_id AS BLOB)
FROM line JOIN queue ON queue.id = line.queue
WHERE front <> (
    SELECT seq FROM message
    WHERE message.queue = line.queue AND message.group_id = line.group_id AND phase BETWEEN 3 AND 4
    ORDER BY seq LIMIT 1
);

-- name: no_tenant
SELECT CAST(queue.name AS BLOB), NULL, CAST(group_id AS BLOB), count(*)
FROM message JOIN queue ON queue.id = message.queue
WHERE phase < 3 AND group_id IS NOT NULL AND message.round > queue.round + 1 AND NOT EXISTS (
    SELECT 1 FROM tenant
    WHERE tenant.queue = message.queue AND tenant.group_id = message.group_id AND tenant.round >= message.round
)
GROUP BY message.queue, group_id;

-- name: no_round
SELECT CAST(queue.name AS BLOB), CAST(message.id AS BLOB), message.round
FROM message JOIN queue ON queue.id = message.queue
WHERE phase < 5 AND (message.round < 0 OR ((fifo OR group_id IS NULL) AND message.round > queue.round + 1));

-- name: dead_letter_queue
SELECT CAST(queue.name AS BLOB), NULL, CAST(queue.dead_letter_queue AS BLOB),
    iif(dead.id IS NULL, 'which does not exist', 'which is of another kind')
FROM queue LEFT JOIN queue AS dead ON dead.name = queue.dead_letter_queue
WHERE queue.dead_letter_queue IS NOT NULL AND dead.fifo IS NOT queue.fifo;

-- name: queue_settings
SELECT CAST(name AS BLOB), NULL FROM queue
WHERE name = '' OR length(name) > 80 OR name GLOB '*[^A-Za-z0-9_-]*'
    OR (content_deduplication AND NOT fifo) OR round < 0
    OR (allowed_sources IS NOT NULL AND iif(json_valid(allowed_sources), json_type(allowed_sources), '') <> 'array');

-- name: deduplication
SELECT CAST(queue.name AS BLOB), CAST(deduplication.id AS BLOB)
FROM deduplication JOIN queue ON queue.id = deduplication.queue
WHERE NOT fifo OR expires_at_ms > :now + :remembered OR sequence < 1
    OR sequence > (SELECT seq FROM sqlite_sequence WHERE name = 'message');

-- name: receive_attempt
SELECT CAST(queue.name AS BLOB), CAST(receive_attempt.id AS BLOB)
FROM receive_attempt JOIN queue ON queue.id = receive_attempt.queue
WHERE NOT fifo OR expires_at_ms > :now + :remembered
    OR iif(json_valid(receipts), json_type(receipts), '') <> 'array';

-- name: sqs_queue
SELECT CAST(queue.name AS BLOB), CAST(queue.name AS BLOB)
FROM sqs_queue JOIN queue ON queue.id = sqs_queue.queue
WHERE iif(json_valid(attributes), json_type(attributes), '') <> 'object'
    OR iif(json_valid(tags), json_type(tags), '') <> 'object';

-- name: move_task
SELECT CAST(source AS BLOB), CAST(id AS BLOB), CASE
    WHEN moved > to_move THEN 'has moved more than there was'
    WHEN source NOT IN (SELECT name FROM queue) THEN 'moves from a queue that does not exist'
    ELSE 'waits for longer than its rate asks for'
END
FROM move_task
WHERE status = 'RUNNING' AND (
    moved > to_move OR source NOT IN (SELECT name FROM queue) OR next_at_ms > :now + :longest_wait
);
