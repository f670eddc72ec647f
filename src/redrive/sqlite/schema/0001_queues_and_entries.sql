-- What stands here never changes; a later change is a file with the next number.

-- One row, what the database knows of itself.
CREATE TABLE meta (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    clock_high_water_ms INTEGER NOT NULL          -- engine time never starts below this
) STRICT;
INSERT INTO meta VALUES (1, 0);

CREATE TABLE queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    dead_letter_queue TEXT,                       -- where the engine itself moves what was received too often
    max_receives INTEGER CHECK (max_receives BETWEEN 1 AND 1000),
    CHECK ((dead_letter_queue IS NULL) = (max_receives IS NULL))
) STRICT;

-- AUTOINCREMENT: a reused number would break the order of what is received (seen: 206 violations in 30 s of kills).
CREATE TABLE message (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL REFERENCES queue (id),
    visible_at_ms INTEGER NOT NULL,               -- may be received from then on
    receipt BLOB CHECK (length(receipt) = 16),    -- of the last receive; NULL: never received, or handed back
    receive_count INTEGER NOT NULL DEFAULT 0 CHECK (receive_count >= 0),
    sent_at_ms INTEGER NOT NULL,                  -- the original send
    id TEXT NOT NULL,                             -- the message's id, kept through every move
    group_id TEXT,
    attributes TEXT,                              -- the producer's own, a JSON object of strings; NULL: none
    notes TEXT,                                   -- counters and failure record; NULL: it never failed
    body BLOB NOT NULL
) STRICT;
-- ready:     visible_at_ms <= now
-- in flight: visible_at_ms >  now, receipt set
-- delayed:   visible_at_ms >  now, receipt NULL

CREATE INDEX message_by_visibility ON message (queue, visible_at_ms);
-- Everything parked or dead has notes; what never failed has none and costs nothing here.
CREATE INDEX message_by_id ON message (queue, id) WHERE notes IS NOT NULL;

CREATE TABLE entry (
    number INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0), -- random, so that an old one never fits again
    due_at_ms INTEGER,
    expires_at_ms INTEGER,                        -- absent to every read from then on
    value BLOB NOT NULL,
    UNIQUE (namespace, key)
) STRICT;

CREATE INDEX entry_by_due ON entry (namespace, due_at_ms) WHERE due_at_ms IS NOT NULL;
CREATE INDEX entry_by_expiry ON entry (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
