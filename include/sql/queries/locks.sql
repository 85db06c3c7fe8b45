-- Who stands in the way of a lock. Both queries return one row per blocker in the same columns:
-- pid, user, application, state, age of the transaction (s), gid (prepared transactions), kind, virtual transaction.

-- name: look
WITH RECURSIVE tree AS (
    SELECT n.nspname::text AS root_schema, c.relname::text AS root_name, c.relkind AS root_kind, c.oid
    FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (table_schema, table_name)
    INNER JOIN pg_namespace AS n ON t.table_schema = n.nspname
    INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND t.table_name = c.relname
    UNION
    SELECT tree.root_schema, tree.root_name, tree.root_kind, i.inhrelid
    FROM tree
    INNER JOIN pg_inherits AS i ON tree.oid = i.inhparent
),
holder AS (
    SELECT DISTINCT l.relation, coalesce(a.leader_pid, l.pid) AS pid, l.virtualtransaction
    FROM pg_locks AS l
    LEFT JOIN pg_stat_activity AS a ON l.pid = a.pid
    WHERE
        l.locktype = 'relation'
        AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
        AND l.relation IN (SELECT t.oid FROM tree AS t)
        AND l.mode = ANY(%(modes)s::text[])
        AND coalesce(a.leader_pid, l.pid) IS DISTINCT FROM %(work_pid)s
)
SELECT
    t.root_schema,
    t.root_name,
    t.root_kind,
    h.virtualtransaction IS NOT NULL AS held,
    h.pid,
    coalesce(a.usename, p.owner) AS usename,
    a.application_name,
    a.state,
    extract(EPOCH FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 AS age,
    p.gid,
    CASE
        WHEN a.backend_type = 'autovacuum worker' AND a.query LIKE '%%(to prevent wraparound)' THEN 'wraparound'
        WHEN a.backend_type = 'autovacuum worker' THEN 'autovacuum'
        ELSE 'session'
    END AS kind,
    h.virtualtransaction
FROM tree AS t
LEFT JOIN holder AS h ON t.oid = h.relation
LEFT JOIN pg_stat_activity AS a ON h.pid = a.pid
-- A prepared transaction has no session; the lock on its own id tells which one it is.
LEFT JOIN pg_locks AS x
    ON
        h.pid IS NULL AND x.pid IS NULL AND x.granted
        AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock'
        AND h.virtualtransaction = x.virtualtransaction
LEFT JOIN pg_prepared_xacts AS p ON x.transactionid = p.transaction
-- A view that reads another one is the younger of the two.
ORDER BY t.oid DESC;

-- name: blocking
SELECT
    nullif(b.pid, 0) AS pid,
    coalesce(a.usename, p.owner) AS usename,
    a.application_name,
    a.state,
    extract(EPOCH FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 AS age,
    p.gid,
    CASE
        WHEN a.backend_type = 'autovacuum worker' AND a.query LIKE '%%(to prevent wraparound)' THEN 'wraparound'
        WHEN a.backend_type = 'autovacuum worker' THEN 'autovacuum'
        ELSE 'session'
    END AS kind,
    coalesce(v.virtualtransaction, b.pid::text) AS virtualtransaction
FROM (SELECT DISTINCT u.pid FROM unnest(pg_blocking_pids(%(work_pid)s)) AS u (pid)) AS b
LEFT JOIN pg_stat_activity AS a ON b.pid = a.pid
LEFT JOIN LATERAL (
    -- The server says 0 for a prepared transaction; the oldest of this database is the best guess.
    SELECT x.gid, x.owner, x.prepared, x.transaction
    FROM pg_prepared_xacts AS x
    WHERE x.database = current_database()
    ORDER BY x.prepared
    LIMIT 1
) AS p ON b.pid = 0
LEFT JOIN LATERAL (
    -- Every transaction holds the lock on its own id, a prepared one that on its permanent id.
    SELECT max(l.virtualtransaction) AS virtualtransaction
    FROM pg_locks AS l
    WHERE
        (b.pid <> 0 AND l.pid = b.pid AND l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock')
        OR (b.pid = 0 AND l.locktype = 'transactionid' AND l.pid IS NULL AND l.transactionid = p.transaction)
) AS v ON true;

-- name: any_left
SELECT EXISTS (SELECT 1 FROM pg_locks AS l WHERE l.virtualtransaction = ANY(%(transactions)s::text[]));

-- name: terminate
SELECT a.pid, pg_terminate_backend(a.pid)
FROM pg_stat_activity AS a
WHERE
    a.pid = ANY(%(pids)s::integer[])
    AND a.backend_type = 'client backend'
    AND a.application_name NOT LIKE 'schema\_change:%%'
    AND a.xact_start < clock_timestamp() - make_interval(secs => %(older_than_s)s);

-- name: attempt_settings
SELECT
    set_config('lock_timeout', %(lock_ms)s::text, true),
    set_config('statement_timeout', %(statement_ms)s::text, true);

-- name: session_settings
SELECT
    set_config('lock_timeout', %(lock)s, false),
    set_config('statement_timeout', %(statement)s, false);

-- name: ourselves_again
-- What the statements of a script became ends before the journal's entry.
SET LOCAL SESSION AUTHORIZATION DEFAULT;
SET LOCAL ROLE TO DEFAULT;

-- name: current_settings
SELECT
    current_setting('lock_timeout') AS lock_timeout,
    current_setting('statement_timeout') AS statement_timeout;

-- name: deadlock_timeout_ms
SELECT round(extract(EPOCH FROM current_setting('deadlock_timeout')::interval) * 1000)::integer;

-- name: index_progress
SELECT p.phase, p.blocks_done, p.blocks_total
FROM pg_stat_progress_create_index AS p
WHERE p.pid = %(work_pid)s;
