-- name: write
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest(
        %(namespaces)s::text[], %(keys)s::text[], %(contents)s::bytea[], %(if_versions)s::bigint[],
        %(versions)s::bigint[], %(dues)s::bigint[], %(expiries)s::bigint[]
    ) AS asked (namespace, key, value, if_version, version, due_at_ms, expires_at_ms)
), replaced AS (
    UPDATE {table} AS entry
    SET value = asked.value, version = asked.version,
        due_at_ms = asked.due_at_ms, expires_at_ms = asked.expires_at_ms
    FROM asked
    WHERE asked.if_version <> 0 AND asked.value IS NOT NULL
        AND entry.namespace = asked.namespace AND entry.key = asked.key AND entry.version = asked.if_version
        AND (entry.expires_at_ms IS NULL OR entry.expires_at_ms > %(now_ms)s::bigint)
    RETURNING asked.namespace, asked.version
), deleted AS (
    DELETE FROM {table} AS entry USING asked
    WHERE asked.value IS NULL
        AND entry.namespace = asked.namespace AND entry.key = asked.key AND entry.version = asked.if_version
        AND (entry.expires_at_ms IS NULL OR entry.expires_at_ms > %(now_ms)s::bigint)
    RETURNING asked.namespace, asked.version
), created AS (
    INSERT INTO {table} AS entry (namespace, key, value, version, due_at_ms, expires_at_ms)
    SELECT namespace, key, value, version, due_at_ms, expires_at_ms FROM asked
    WHERE if_version = 0 AND value IS NOT NULL
    ON CONFLICT (namespace, key) DO UPDATE
    SET value = excluded.value, version = excluded.version,
        due_at_ms = excluded.due_at_ms, expires_at_ms = excluded.expires_at_ms
    WHERE entry.expires_at_ms <= %(now_ms)s::bigint
    RETURNING entry.namespace, entry.version
), written AS (
    SELECT * FROM replaced UNION ALL SELECT * FROM deleted UNION ALL SELECT * FROM created
)
SELECT version, NULL AS told, NULL AS notified FROM written
UNION ALL
SELECT 0, namespace, pg_notify(%(channel)s, namespace)::text FROM written
WHERE namespace = ANY (%(told)s::text[]) GROUP BY namespace;

-- name: notify
SELECT pg_notify(%(channel)s, %(namespace)s);

-- name: standing
SELECT version FROM {table} WHERE version = ANY (%(versions)s::bigint[]) AND (namespace, key) IN (
    SELECT * FROM unnest(%(namespaces)s::text[], %(keys)s::text[])
);

-- name: get
SELECT entry.namespace, entry.key, entry.value, entry.version, entry.due_at_ms
FROM unnest(%(namespaces)s::text[], %(keys)s::text[]) AS asked (namespace, key)
JOIN {table} AS entry ON entry.namespace = asked.namespace AND entry.key = asked.key
WHERE entry.expires_at_ms IS NULL OR entry.expires_at_ms > %(now_ms)s::bigint;

-- name: due
SELECT key, value, version, due_at_ms FROM {table}
WHERE namespace = %(namespace)s::text AND due_at_ms <= %(before_ms)s::bigint
    AND (expires_at_ms IS NULL OR expires_at_ms > %(now_ms)s::bigint)
ORDER BY due_at_ms, key LIMIT %(limit)s::bigint;

-- name: scan
SELECT key, value, version, due_at_ms FROM {table}
WHERE namespace = %(namespace)s::text AND key > %(after)s::text
    AND (expires_at_ms IS NULL OR expires_at_ms > %(now_ms)s::bigint)
ORDER BY key LIMIT %(limit)s::bigint;

-- name: sweep
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {table} WHERE expires_at_ms <= %(before_ms)s::bigint
    ORDER BY expires_at_ms LIMIT 500 FOR UPDATE SKIP LOCKED
)) AND expires_at_ms <= %(before_ms)s::bigint;

-- name: session
SET default_transaction_isolation = 'read committed';
SET statement_timeout = 4000;
SET plan_cache_mode = force_generic_plan;
SET jit = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
