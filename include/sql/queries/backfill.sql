-- Checkpoints, throttle samples and remembered rows of backfills.

-- name: key_columns
SELECT
    k.name,
    format_type(a.atttypid, a.atttypmod) AS type,
    coalesce(op.nspname::text, 'pg_catalog') AS operators,
    (
        -- Some types borrow the function of another one, which cannot be called with theirs.
        SELECT p.oid::regproc::text
        FROM pg_opclass AS hc
        INNER JOIN pg_am AS am ON hc.opcmethod = am.oid AND am.amname = 'hash'
        INNER JOIN pg_amproc AS f
            ON
                hc.opcfamily = f.amprocfamily
                AND hc.opcintype = f.amproclefttype
                AND hc.opcintype = f.amprocrighttype
                AND f.amprocnum = 1
        INNER JOIN pg_proc AS p ON f.amproc = p.oid AND p.proargtypes[0] = hc.opcintype
        WHERE hc.opcintype = op.opcintype AND hc.opcdefault
    ) AS hash
FROM unnest(%(columns)s::text[]) WITH ORDINALITY AS k (name, place)
INNER JOIN pg_namespace AS n ON n.nspname = %(schema)s
INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND c.relname = %(table)s
INNER JOIN pg_attribute AS a ON c.oid = a.attrelid AND k.name = a.attname AND NOT a.attisdropped
LEFT JOIN LATERAL (
    -- Where the key's own > lives: an extension's type must not be compared by another type's operators.
    SELECT ns.nspname, oc.opcintype
    FROM pg_index AS i
    CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) AS x (attnum, opclass)
    INNER JOIN pg_opclass AS oc ON x.opclass = oc.oid
    INNER JOIN pg_amop AS am
        ON
            oc.opcfamily = am.amopfamily
            AND oc.opcintype = am.amoplefttype
            AND oc.opcintype = am.amoprighttype
            AND am.amopstrategy = 5
    INNER JOIN pg_operator AS o ON am.amopopr = o.oid
    INNER JOIN pg_namespace AS ns ON o.oprnamespace = ns.oid
    WHERE i.indrelid = c.oid AND i.indisunique AND x.attnum = a.attnum
    ORDER BY i.indisprimary DESC
    LIMIT 1
) AS op ON true
ORDER BY k.place;

-- name: size
-- A partitioned table is as large as its partitions; blocks count only where rows are walked block by block.
SELECT
    coalesce(
        (SELECT sum(pg_relation_size(t.relid)) FROM pg_partition_tree(c.oid) AS t), pg_relation_size(c.oid)
    )::bigint AS bytes,
    pg_relation_size(c.oid) / current_setting('block_size')::bigint AS blocks,
    CASE
        WHEN c.reltuples < 0 OR c.relpages = 0 THEN NULL
        WHEN c.relkind = 'p' THEN c.reltuples::bigint
        ELSE (c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::bigint))::bigint
    END AS rows
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;

-- name: is_indexed
SELECT EXISTS (
    SELECT 1
    FROM pg_index AS i
    WHERE
        i.indrelid = c.oid
        AND (
            a.attnum = ANY(i.indkey)
            OR EXISTS (
                SELECT 1
                FROM pg_depend AS d
                WHERE
                    d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
            )
        )
)
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
INNER JOIN pg_attribute AS a ON c.oid = a.attrelid AND NOT a.attisdropped
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attname = %(column)s;

-- name: count
SELECT count(*) FROM {table} WHERE {predicate};

-- name: first_settings
SELECT set_config('search_path', 'public, pg_temp', true), set_config('statement_timeout', '0', true);

-- name: cut
-- The keys that end each shard but the last, from a sample of the table's pages; none in a table of a few batches.
WITH sample AS (
    SELECT {keys}, row_number() OVER (ORDER BY {order}) AS place, count(*) OVER () AS rows
    FROM {table} TABLESAMPLE system ({percent})
)

SELECT {names}
FROM sample AS s
CROSS JOIN LATERAL (SELECT least({shards}, floor(s.rows * 100 / {percent} / {least_rows}))::bigint AS shards) AS n
WHERE s.place < s.rows AND s.place * n.shards / s.rows > (s.place - 1) * n.shards / s.rows
ORDER BY s.place;

-- name: insert_shards
-- After lock_step in the same transaction, so that of two sessions that have cut only one is heard.
INSERT INTO schema_change.backfill (
    run_id, seq, shard, key_columns, lower_bound, upper_bound, cursor, batch_rows, rows_estimated
)
SELECT
    %(run_id)s,
    %(seq)s,
    s.place - 1,
    %(key)s,
    nullif(s.shard -> 'lower', 'null'),
    nullif(s.shard -> 'upper', 'null'),
    s.shard -> 'position',
    %(batch_rows)s,
    (s.shard ->> 'rows')::bigint
FROM jsonb_array_elements(%(shards)s) WITH ORDINALITY AS s (shard, place)
WHERE NOT EXISTS (SELECT 1 FROM schema_change.backfill AS b WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s);

-- name: get_shards
SELECT shard, status = 'done' AS done, CASE WHEN updated_at > %(since)s THEN error END AS error, rows_done
FROM schema_change.backfill
WHERE run_id = %(run_id)s AND seq = %(seq)s
ORDER BY shard;

-- name: try_shard
SELECT pg_try_advisory_lock(hashtext('schema_change.shards:' || %(run_id)s::text || ':' || %(seq)s::text), %(shard)s);

-- name: release_shard
SELECT pg_advisory_unlock(hashtext('schema_change.shards:' || %(run_id)s::text || ':' || %(seq)s::text), %(shard)s);

-- name: shard_failed
UPDATE schema_change.backfill
SET error = %(error)s, updated_at = clock_timestamp()
WHERE run_id = %(run_id)s AND seq = %(seq)s AND shard = %(shard)s;

-- name: get_checkpoint
SELECT
    b.key_columns, b.lower_bound, b.upper_bound, b.cursor, b.batch_rows, b.rows_done, b.rows_estimated, b.batches,
    b.throttled_ms, b.status,
    NOT EXISTS (
        SELECT 1 FROM schema_change.backfill AS n
        WHERE n.run_id = b.run_id AND n.seq = b.seq AND n.shard > b.shard
    ) AS is_last
FROM schema_change.backfill AS b
WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s AND b.shard = %(shard)s;

-- name: begin_batch
SELECT
    b.cursor,
    set_config('lock_timeout', %(lock_ms)s::text, true),
    set_config('statement_timeout', %(statement_ms)s::text, true),
    set_config('schema_change.bypass', 'on', true),
    -- A crash of the server may take back the last moments' batches together with their checkpoints: both are of one
    -- transaction. The journal's *step done* is committed synchronously, and with it everything before it.
    set_config('synchronous_commit', 'off', true),
    -- The same as the trigger's that fills new rows: one expression must have one meaning.
    set_config('search_path', 'public, pg_temp', true)
FROM schema_change.backfill AS b
WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s AND b.shard = %(shard)s
FOR UPDATE;

-- name: advance
UPDATE schema_change.backfill
SET
    upper_bound = %(upper)s,
    cursor = %(cursor)s,
    batch_rows = %(batch_rows)s,
    rows_done = rows_done + %(rows)s,
    batches = batches + 1,
    status = %(status)s,
    throttle_reason = NULL,
    error = NULL,
    updated_at = clock_timestamp()
WHERE run_id = %(run_id)s AND seq = %(seq)s AND shard = %(shard)s;

-- name: throttled
UPDATE schema_change.backfill
SET throttle_reason = %(reason)s, throttled_ms = throttled_ms + %(ms)s, error = NULL, updated_at = clock_timestamp()
WHERE run_id = %(run_id)s AND seq = %(seq)s AND shard = %(shard)s;

-- name: delete_checkpoint
DELETE FROM schema_change.backfill WHERE run_id = %(run_id)s AND seq = %(seq)s;

-- name: fill
UPDATE {table} SET {column} = (
{expression}
) WHERE {predicate};

-- name: fill_and_remember
WITH filled AS (
    UPDATE {table} SET {column} = (
{expression}
) WHERE {predicate}
    RETURNING jsonb_build_array({key}) AS key, {table_name}.{column}::text AS value
),
kept AS (
    INSERT INTO schema_change.filled_row (run_id, seq, key, value)
    SELECT {run_id}, {seq}, f.key, f.value
    FROM filled AS f
    WHERE f.value IS NOT NULL
    ON CONFLICT (run_id, seq, key) DO UPDATE SET value = excluded.value
)
SELECT count(*) FROM filled;

-- name: check_constraints_now
SET CONSTRAINTS ALL IMMEDIATE;

-- name: undo_batch
WITH batch AS (
    DELETE FROM schema_change.filled_row AS f
    WHERE
        f.run_id = {run_id} AND f.seq = {seq}
        -- An array, so that the rows are fetched by key: without statistics a join would compare every row with every one.
        AND f.key = ANY(
            ARRAY(
                SELECT x.key
                FROM schema_change.filled_row AS x
                WHERE x.run_id = {run_id} AND x.seq = {seq}
                ORDER BY x.key
                LIMIT {rows}
            )
        )
    RETURNING f.key, f.value
),
undone AS (
    UPDATE {table} SET {column} = NULL
    FROM (SELECT {keys}, b.value AS our_value FROM batch AS b) AS schema_change_ours
    WHERE {same_key} AND {table_name}.{column}::text = schema_change_ours.our_value
    RETURNING 1
)
SELECT (SELECT count(*) FROM batch) AS looked_at, (SELECT count(*) FROM undone) AS undone;

-- name: undo_settings
SELECT
    set_config('lock_timeout', %(lock_ms)s::text, true),
    set_config('statement_timeout', %(statement_ms)s::text, true),
    set_config('schema_change.bypass', 'on', true);

-- name: sample
WITH shards AS (
    -- The sessions that fill shards of this backfill, ours included.
    SELECT l.pid
    FROM pg_locks AS l
    INNER JOIN pg_database AS d ON l.database = d.oid
    WHERE
        l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND d.datname = current_database()
        AND l.classid = hashtext('schema_change.shards:' || %(run_id)s::text || ':' || %(seq)s::text)::oid
)

SELECT
    coalesce(k.paused, false) AS paused,
    coalesce(k.cancelled, false) AS cancelled,
    k.changed_by,
    -- The limit is the run's; every shard gets its part.
    CASE
        WHEN k.rows_per_second IS NOT NULL
            THEN greatest(1, k.rows_per_second / greatest(1, (SELECT count(*) FROM shards)))
    END::integer AS rows_per_second,
    (
        SELECT max(extract(EPOCH FROM r.replay_lag))::float8
        FROM pg_stat_replication AS r
        WHERE r.state = 'streaming'
    ) AS replica_lag_s,
    (
        SELECT count(*)
        FROM pg_locks AS l
        WHERE l.locktype = 'relation' AND NOT l.granted AND l.relation = c.oid AND l.pid NOT IN (SELECT p.pid FROM shards AS p)
    ) AS lock_waiters,
    (
        SELECT max(extract(EPOCH FROM clock_timestamp() - a.xact_start))::float8
        FROM pg_stat_activity AS a
        WHERE
            a.datname = current_database() AND a.backend_type = 'client backend' AND a.backend_xmin IS NOT NULL
            AND a.pid <> pg_backend_pid() AND a.pid NOT IN (SELECT p.pid FROM shards AS p)
    ) AS oldest_transaction_s,
    coalesce(s.n_dead_tup, 0) AS dead_rows,
    coalesce(s.n_live_tup, 0) AS live_rows,
    current_setting('autovacuum')::boolean
    AND NOT coalesce('autovacuum_enabled=false' = ANY(c.reloptions), false) AS autovacuum,
    EXISTS (
        SELECT 1
        FROM pg_stat_progress_vacuum AS v
        INNER JOIN pg_stat_activity AS a ON v.pid = a.pid
        WHERE v.relid = c.oid AND a.query LIKE '%%(to prevent wraparound)'
    ) AS wraparound,
    (
        SELECT min(b.error)
        FROM schema_change.backfill AS b
        WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s AND b.updated_at > %(since)s
    ) AS failed
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN pg_stat_all_tables AS s ON c.oid = s.relid
LEFT JOIN schema_change.control AS k ON k.run_id = %(run_id)s
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;
