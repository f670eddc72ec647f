CREATE TABLE {table} (
    namespace text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    due_at_ms bigint,
    expires_at_ms bigint,
    PRIMARY KEY (namespace, key)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX ON {table} (namespace, due_at_ms, key) WHERE due_at_ms IS NOT NULL;
CREATE INDEX ON {table} (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
