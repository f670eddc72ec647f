-- name: create
CREATE TABLE IF NOT EXISTS redrive_outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order within a line, and none is used twice
    app        TEXT NOT NULL,                      -- the application whose queue it is
    queue      TEXT NOT NULL,
    line       TEXT NOT NULL,                      -- what is sent in order: a group of a FIFO queue, else one message
    message_id TEXT NOT NULL,
    document   TEXT NOT NULL                       -- the message, as JSON
);
CREATE INDEX IF NOT EXISTS redrive_outbox_by_app ON redrive_outbox (app, id);

-- name: insert
INSERT INTO redrive_outbox (app, queue, line, message_id, document)
VALUES (:app, :queue, :line, :message_id, :document)

-- name: next
SELECT id, queue, line, document
FROM (
    SELECT id, queue, line, document, sum(length(document)) OVER (ORDER BY id) - length(document) AS before
    FROM (
        SELECT id, queue, line, document
        FROM redrive_outbox
        WHERE app = :app
            AND queue NOT IN (SELECT value FROM json_each(:queues))
            AND line NOT IN (SELECT value FROM json_each(:lines))
        ORDER BY id
        LIMIT :limit
    )
)
WHERE before < :characters
ORDER BY id

-- name: delete
DELETE FROM redrive_outbox WHERE id IN (SELECT value FROM json_each(:ids))
