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
SELECT
    shard, status = 'done' AS done, error IS NOT NULL AS failed,
    CASE WHEN updated_at > %(since)s THEN error END AS error, rows_done
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

-- name: others_at_work
-- Sessions that have run something within the last second. Those we may not look at are taken to be at work.
SELECT count(*)
FROM pg_stat_activity AS a
WHERE
    a.datname = current_database() AND a.usesysid IS NOT NULL
    AND coalesce(a.backend_type, 'client backend') = 'client backend'
    AND a.application_name NOT LIKE 'schema\_change:%'
    AND (a.state IS NULL OR a.state = 'active' OR a.state_change > clock_timestamp() - interval '1 second');

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

-- name: note_size
-- Kept from the first look on, so that growth is measured from there.
UPDATE schema_change.backfill
SET bytes_before = %(bytes)s
WHERE
    (run_id, seq, shard) IN (
        SELECT b.run_id, b.seq, b.shard
        FROM schema_change.backfill AS b
        WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s
        -- Another shard may be in the middle of a batch.
        FOR UPDATE SKIP LOCKED
    );

-- name: sample
-- All a look wants to know, from statistics and lock tables; of a partitioned table, from all its partitions.
WITH RECURSIVE tree AS (
    SELECT c.oid
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s
    UNION
    SELECT i.inhrelid
    FROM tree AS t
    INNER JOIN pg_inherits AS i ON t.oid = i.inhparent
),

shards AS (
    -- The sessions that fill shards of this backfill: no reason to pause.
    SELECT l.pid, b.throttle_reason
    FROM pg_locks AS l
    INNER JOIN pg_database AS d ON l.database = d.oid
    LEFT JOIN schema_change.backfill AS b
        ON b.run_id = %(run_id)s AND b.seq = %(seq)s AND l.objid = b.shard::oid
    WHERE
        l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND d.datname = current_database()
        AND l.classid = hashtext('schema_change.shards:' || %(run_id)s::text || ':' || %(seq)s::text)::oid
),

rows_of AS (
    SELECT
        coalesce(sum(s.n_dead_tup), 0)::bigint AS dead,
        coalesce(sum(s.n_live_tup), 0)::bigint AS live,
        bool_or(
            current_setting('autovacuum')::boolean
            AND coalesce(o.enabled, true)
            AND s.n_dead_tup > least(
                coalesce(o.threshold, current_setting('autovacuum_vacuum_threshold')::float8)
                + coalesce(o.scale, current_setting('autovacuum_vacuum_scale_factor')::float8) * greatest(c.reltuples, 0),
                -- From PostgreSQL 18 on; -1 means none.
                nullif(current_setting('autovacuum_vacuum_max_threshold', true)::float8, -1)
            )
        ) AS vacuum_due
    FROM tree AS t
    INNER JOIN pg_class AS c ON t.oid = c.oid
    LEFT JOIN pg_stat_all_tables AS s ON t.oid = s.relid
    CROSS JOIN LATERAL (
        SELECT
            max(x.option_value) FILTER (WHERE x.option_name = 'autovacuum_enabled')::boolean AS enabled,
            max(x.option_value) FILTER (WHERE x.option_name = 'autovacuum_vacuum_threshold')::float8 AS threshold,
            max(x.option_value) FILTER (WHERE x.option_name = 'autovacuum_vacuum_scale_factor')::float8 AS scale
        FROM pg_options_to_table(c.reloptions) AS x
    ) AS o
),

slot AS (
    SELECT
        r.slot_name::text || CASE WHEN r.active THEN '' ELSE ' (not in use)' END AS name,
        pg_wal_lsn_diff(pg_current_wal_insert_lsn(), r.restart_lsn)::float8 AS bytes
    FROM pg_replication_slots AS r
    WHERE r.restart_lsn IS NOT NULL AND r.wal_status IS DISTINCT FROM 'lost'
    ORDER BY bytes DESC
    LIMIT 1
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
        WHERE
            l.locktype = 'relation' AND NOT l.granted AND l.pid <> %(work_pid)s
            AND l.relation IN (SELECT t.oid FROM tree AS t)
            AND l.pid NOT IN (SELECT p.pid FROM shards AS p)
    ) AS lock_waiters,
    greatest(
        (
            SELECT max(extract(EPOCH FROM clock_timestamp() - a.xact_start))::float8
            FROM pg_stat_activity AS a
            WHERE
                a.datname = current_database() AND a.backend_type = 'client backend'
                AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
                AND a.pid NOT IN (%(work_pid)s, pg_backend_pid())
                AND a.pid NOT IN (SELECT p.pid FROM shards AS p)
        ),
        (
            SELECT max(extract(EPOCH FROM clock_timestamp() - x.prepared))::float8
            FROM pg_prepared_xacts AS x
            WHERE x.database = current_database()
        )
    ) AS oldest_transaction_s,
    rows_of.dead AS dead_rows,
    rows_of.live AS live_rows,
    coalesce(rows_of.vacuum_due, false) AS vacuum_due,
    EXISTS (
        SELECT 1
        FROM pg_stat_progress_vacuum AS v
        INNER JOIN pg_stat_activity AS a ON v.pid = a.pid
        WHERE v.relid IN (SELECT t.oid FROM tree AS t) AND a.query LIKE '%%(to prevent wraparound)'
    ) AS wraparound,
    (
        SELECT min(b.bytes_before)
        FROM schema_change.backfill AS b
        WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s
    ) AS bytes_before,
    -- The size needs a lock on the table: not while somebody waits for it alone, or has it.
    CASE
        WHEN
            NOT EXISTS (
                SELECT 1
                FROM pg_locks AS l
                WHERE l.mode = 'AccessExclusiveLock' AND l.relation IN (SELECT t.oid FROM tree AS t)
            )
            THEN (SELECT sum(pg_total_relation_size(t.oid))::bigint FROM tree AS t)
    END AS bytes,
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal_bytes,
    EXISTS (SELECT 1 FROM shards AS p WHERE p.pid <> %(work_pid)s AND p.throttle_reason IS NULL) AS beside,
    slot.name AS slot,
    slot.bytes AS slot_bytes,
    (
        SELECT min(b.error)
        FROM schema_change.backfill AS b
        WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s AND b.updated_at > %(since)s
    ) AS failed
FROM rows_of
LEFT JOIN slot ON true
LEFT JOIN schema_change.control AS k ON k.run_id = %(run_id)s
WHERE EXISTS (SELECT 1 FROM tree);

-- name: in_vain
SELECT
    EXISTS (SELECT FROM schema_change.control AS k WHERE k.run_id = %(run_id)s AND k.cancelled)
    OR EXISTS (
        SELECT FROM schema_change.backfill AS b
        WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s AND b.error IS NOT NULL AND b.updated_at > %(since)s
    );

-- name: condition_settings
SET TRANSACTION READ ONLY;
SELECT
    set_config('search_path', 'public', true),
    set_config('statement_timeout', '1s', true),
    set_config('lock_timeout', '500ms', true);

-- name: control
INSERT INTO schema_change.control AS c (run_id, paused, cancelled, rows_per_second, changed_by)
VALUES (
    %(run_id)s, coalesce(%(paused)s::boolean, false), coalesce(%(cancelled)s::boolean, false),
    nullif(%(rows)s::integer, 0), %(by)s
)
ON CONFLICT (run_id) DO UPDATE SET
    -- What is not said stays; 0 rows per second stands for as fast as it can.
    paused = coalesce(%(paused)s::boolean, c.paused),
    cancelled = coalesce(%(cancelled)s::boolean, c.cancelled),
    rows_per_second = nullif(coalesce(%(rows)s::integer, c.rows_per_second), 0),
    changed_by = excluded.changed_by,
    changed_at = clock_timestamp();
