-- name: get
SELECT value, version, due_at_ms FROM entry
WHERE namespace = ?1 AND key = ?2 AND (expires_at_ms IS NULL OR expires_at_ms > ?3);

-- name: create
INSERT INTO entry (namespace, key, value, version, due_at_ms, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (namespace, key) DO UPDATE SET value = ?3, version = ?4, due_at_ms = ?5, expires_at_ms = ?6
WHERE expires_at_ms <= ?7;

-- name: replace
UPDATE entry SET value = ?3, version = ?4, due_at_ms = ?5, expires_at_ms = ?6
WHERE namespace = ?1 AND key = ?2 AND version = ?8 AND (expires_at_ms IS NULL OR expires_at_ms > ?7);

-- name: delete
DELETE FROM entry
WHERE namespace = ?1 AND key = ?2 AND version = ?3 AND (expires_at_ms IS NULL OR expires_at_ms > ?4);

-- name: due
SELECT key, value, version, due_at_ms FROM entry
WHERE namespace = ?1 AND due_at_ms <= ?2 AND (expires_at_ms IS NULL OR expires_at_ms > ?4)
ORDER BY due_at_ms, key LIMIT ?3;

-- name: scan
SELECT key, value, version, due_at_ms FROM entry
WHERE namespace = ?1 AND key > ?2 AND (expires_at_ms IS NULL OR expires_at_ms > ?4) ORDER BY key LIMIT ?3;

-- name: next_due
SELECT min(due_at_ms) FROM entry WHERE namespace = ? AND due_at_ms IS NOT NULL;

-- name: sweep
DELETE FROM entry WHERE number IN (SELECT number FROM entry WHERE expires_at_ms <= ? LIMIT 500);
