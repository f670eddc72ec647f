-- name: create
CREATE TABLE IF NOT EXISTS redrive_outbox (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- the order within a line, not that of commits
    app        TEXT NOT NULL,                                    -- the application whose queue it is
    queue      TEXT NOT NULL,
    line       TEXT NOT NULL,                                    -- sent in order: a group of a FIFO queue, else one message
    message_id TEXT NOT NULL,
    document   TEXT NOT NULL                                     -- the message, as JSON
);
CREATE INDEX IF NOT EXISTS redrive_outbox_by_app ON redrive_outbox (app, id);

-- name: insert
WITH written AS (
    INSERT INTO redrive_outbox (app, queue, line, message_id, document)
    VALUES (:app, :queue, :line, :message_id, :document)
    RETURNING id
)
SELECT pg_notify('redrive_outbox', '') FROM written

-- name: next
SELECT id, queue, line, document
FROM (
    SELECT id, queue, line, document, sum(length(document)) OVER (ORDER BY id) - length(document) AS before
    FROM (
        SELECT id, queue, line, document
        FROM redrive_outbox
        WHERE app = :app AND queue <> ALL (:queues) AND line <> ALL (:lines)
        ORDER BY id
        LIMIT :limit
    ) AS first
) AS sized
WHERE before < :characters
ORDER BY id

-- name: delete
DELETE FROM redrive_outbox WHERE id = ANY (:ids)

-- name: listen
LISTEN redrive_outbox
