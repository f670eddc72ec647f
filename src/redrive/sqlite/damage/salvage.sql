-- Where rows were found and what indexes know, while a damaged file is read; kept in a temporary database.

-- name: stage
CREATE TABLE found (
    number INTEGER PRIMARY KEY,
    tab TEXT NOT NULL,
    row INTEGER NOT NULL,                         -- its number in its table
    page INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    kind INTEGER NOT NULL,                        -- of the page
    place TEXT NOT NULL,                          -- tree, free (a page said to be free), stray, searched
    is_ordered INTEGER NOT NULL,                  -- its number fits between those beside it
    low INTEGER,                                  -- the numbers beside it
    high INTEGER,
    is_whole INTEGER NOT NULL,
    key TEXT,                                     -- JSON of the columns that its table is searched by
    queue INTEGER,
    phase INTEGER,
    round INTEGER,
    visible_at_ms INTEGER,
    group_id TEXT,
    expires_at_ms INTEGER,
    fate TEXT                                     -- NULL: it is saved. left: an old copy of what is gone. damaged
);
CREATE INDEX found_row ON found (tab, row);
CREATE TABLE known (
    tab TEXT NOT NULL,
    row INTEGER NOT NULL,
    is_ordered INTEGER NOT NULL,                  -- its entry fits between those beside it
    low TEXT,                                     -- JSON of the entries beside it
    high TEXT,
    key TEXT,
    queue INTEGER,
    low_phase INTEGER,
    high_phase INTEGER,
    round INTEGER,
    visible_at_ms INTEGER,
    group_id TEXT
);
CREATE TABLE expiry (row INTEGER NOT NULL, expires_at_ms INTEGER NOT NULL, low INTEGER, high INTEGER);

-- name: index_known
CREATE INDEX known_row ON known (tab, row);
CREATE INDEX expiry_row ON expiry (row);

-- name: find
INSERT INTO found (
    tab, row, page, offset, kind, place, is_ordered, low, high, is_whole, key, queue, phase, round, visible_at_ms,
    group_id, expires_at_ms
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: know
INSERT INTO known (
    tab, row, is_ordered, low, high, key, queue, low_phase, high_phase, round, visible_at_ms, group_id
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: know_expiry
INSERT INTO expiry (row, expires_at_ms, low, high) VALUES (?, ?, ?, ?);

-- name: anything
SELECT 1 FROM found LIMIT 1;

-- name: drop_copies
UPDATE found SET fate = 'left' WHERE number IN (
    SELECT number FROM (
        SELECT number, row_number() OVER (
            PARTITION BY tab, row ORDER BY is_whole DESC, is_ordered DESC, place <> 'tree', number
        ) AS rank, is_whole AND NOT is_ordered AS is_misplaced
        FROM found
    )
    WHERE rank > 1 AND NOT is_misplaced
);

-- name: lost
SELECT DISTINCT row FROM known AS index_entry
WHERE tab = ?1 AND NOT EXISTS (
    SELECT 1 FROM found WHERE tab = ?1 AND found.row = index_entry.row AND fate IS NULL
)
ORDER BY row;

-- name: pages_beside
SELECT page FROM (SELECT page FROM found WHERE tab = ?1 AND row < ?2 AND place = 'tree' ORDER BY row DESC LIMIT 1)
UNION
SELECT page FROM (SELECT page FROM found WHERE tab = ?1 AND row > ?2 AND place = 'tree' ORDER BY row LIMIT 1);

-- name: misplaced
SELECT number, tab, key, queue, phase, round, visible_at_ms, group_id, low, high FROM found
WHERE is_whole AND NOT is_ordered AND fate IS NULL AND (
    NOT EXISTS (SELECT 1 FROM known WHERE known.tab = found.tab AND known.row = found.row)
    OR EXISTS (
        SELECT 1 FROM found AS other
        WHERE other.tab = found.tab AND other.row = found.row AND other.number <> found.number AND other.fate IS NULL
    )
);

-- name: place_of
SELECT DISTINCT row FROM known
WHERE tab = :tab AND row > coalesce(:low, -1) AND row < coalesce(:high, row + 1)
    AND NOT EXISTS (SELECT 1 FROM found WHERE found.tab = :tab AND found.row = known.row AND fate IS NULL)
    AND iif(:tab <> 'message', key = :key, queue = :queue
        AND coalesce(:phase, low_phase) BETWEEN low_phase AND high_phase AND coalesce(round = :round, 1)
        AND coalesce(visible_at_ms = :visible_at_ms, 1) AND coalesce(group_id = :group_id, group_id IS NULL));

-- name: put_in_place
UPDATE found SET row = ?2, is_ordered = 1 WHERE number = ?1;

-- name: drop_leftovers
UPDATE found SET fate = 'left'
WHERE tab = ?1 AND fate IS NULL AND place IN ('free', 'stray')
    AND NOT EXISTS (SELECT 1 FROM known WHERE known.tab = ?1 AND known.row = found.row);

-- name: in_doubt
SELECT queue, count(*) FROM found
WHERE tab = ?1 AND fate IS NULL AND is_whole AND place IN ('free', 'stray')
    AND NOT EXISTS (SELECT 1 FROM known WHERE known.tab = ?1 AND known.row = found.row)
GROUP BY queue;

-- name: contradicted
SELECT number, known.low_phase, known.high_phase, known.queue, known.round, known.visible_at_ms, known.low, known.high,
    found.phase, found.queue, found.round, found.group_id, found.visible_at_ms, found.row
FROM found JOIN known ON known.tab = 'message' AND known.row = found.row
WHERE found.tab = 'message' AND fate IS NULL AND is_whole AND found.is_ordered AND known.is_ordered AND (
    known.queue <> found.queue OR found.phase NOT BETWEEN known.low_phase AND known.high_phase
    OR known.round <> found.round OR known.visible_at_ms <> found.visible_at_ms
)
AND NOT EXISTS (
    SELECT 1 FROM known AS other
    WHERE other.tab = 'message' AND other.row = found.row AND other.queue = found.queue
        AND coalesce(found.phase, other.low_phase) BETWEEN other.low_phase AND other.high_phase
        AND coalesce(other.round, found.round) = found.round AND other.visible_at_ms = found.visible_at_ms
)
ORDER BY number, known.low_phase;

-- name: believe_index
UPDATE found SET
    queue = ?2, phase = iif(phase BETWEEN ?3 AND ?4, phase, ?3), round = coalesce(?5, round),
    visible_at_ms = coalesce(?6, visible_at_ms)
WHERE number = ?1;

-- name: believe_expiry
UPDATE found SET expires_at_ms = (SELECT expiry.expires_at_ms FROM expiry WHERE expiry.row = found.row)
WHERE tab = 'message' AND 1 = (SELECT count(*) FROM expiry WHERE expiry.row = found.row) AND NOT EXISTS (
    SELECT 1 FROM expiry WHERE expiry.row = found.row
        AND found.expires_at_ms BETWEEN coalesce(low, found.expires_at_ms) AND coalesce(high, found.expires_at_ms)
);

-- name: other_keys
SELECT found.number, found.tab, found.key, known.key, known.low, known.high FROM found JOIN known USING (tab, row)
WHERE tab <> 'message' AND fate IS NULL AND found.is_ordered AND known.is_ordered AND known.key <> found.key AND NOT EXISTS (
    SELECT 1 FROM known AS other WHERE other.tab = found.tab AND other.row = found.row AND other.key = found.key
);

-- name: believe_key
UPDATE found SET key = ?2 WHERE number = ?1;

-- name: damage
UPDATE found SET fate = 'damaged' WHERE fate IS NULL AND NOT is_whole;

-- name: saved
SELECT row, page, offset, kind, key, queue, phase, round, visible_at_ms, expires_at_ms FROM found
WHERE tab = ? AND fate IS NULL ORDER BY place <> 'tree', row, number;

-- name: damaged
SELECT tab, row, page, offset, kind, coalesce(
    (SELECT known.queue FROM known WHERE known.tab = found.tab AND known.row = found.row), found.queue
)
FROM found WHERE fate = 'damaged' ORDER BY number;

-- name: lost_rows
SELECT row, max(queue), max(key) FROM known AS index_entry
WHERE tab = ?1 AND NOT EXISTS (
    SELECT 1 FROM found WHERE tab = ?1 AND found.row = index_entry.row AND fate IS NOT 'left'
)
GROUP BY row ORDER BY row;

-- name: searched
SELECT count(*) FROM found WHERE tab = ?1 AND fate IS NULL AND place = 'searched';

-- name: left
SELECT tab, count(*) FROM found WHERE fate = 'left' GROUP BY tab;

-- name: kinds
SELECT queue, max(phase BETWEEN 3 AND 4), max(phase BETWEEN 0 AND 2) FROM found
WHERE tab = 'message' AND fate IS NULL AND is_whole GROUP BY queue;

-- name: highest
SELECT max(row) FROM (
    SELECT row FROM found WHERE tab = ?1 AND fate IS NULL UNION ALL SELECT row FROM known WHERE tab = ?1 AND is_ordered
);
