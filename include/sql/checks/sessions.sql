-- Who is at work in this database. The text of a query is never read: it may hold data.

-- name: transactions
-- Open transactions of clients, oldest first, and which of our tables each has locked.
SELECT
    a.pid,
    a.usename,
    a.application_name,
    a.state,
    extract(EPOCH FROM clock_timestamp() - a.xact_start)::float8 AS age,
    extract(EPOCH FROM clock_timestamp() - a.state_change)::float8 AS idle,
    ARRAY(
        SELECT DISTINCT l.relation::regclass::text AS locked
        FROM pg_locks AS l
        WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.granted AND l.database = a.datid AND l.relation = ANY(%(relations)s::oid[])
        ORDER BY locked
    ) AS locked
FROM pg_stat_activity AS a
WHERE
    a.datname = current_database() AND a.backend_type = 'client backend'
    AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
ORDER BY a.xact_start;

-- name: hidden_sessions
-- The state of other users' sessions is null for a role without pg_read_all_stats.
SELECT count(*)
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.backend_type IS NULL;

-- name: waiting
-- Sessions of this database that have waited for a lock, and who blocks them.
SELECT
    l.pid,
    max(extract(EPOCH FROM clock_timestamp() - l.waitstart))::float8 AS waited,
    pg_blocking_pids(l.pid) AS blocked_by,
    coalesce(array_agg(DISTINCT l.relation::regclass::text) FILTER (WHERE l.relation = ANY(%(relations)s::oid[])), '{}')
FROM (
    -- A wait for another transaction names no table; the tables that the waiting session has locked do.
    SELECT w.pid, w.waitstart, coalesce(w.relation, h.relation) AS relation
    FROM pg_locks AS w
    LEFT JOIN pg_locks AS h
        ON w.pid = h.pid AND w.relation IS NULL AND h.granted AND h.locktype = 'relation' AND h.mode <> 'AccessShareLock'
    WHERE NOT w.granted
) AS l
INNER JOIN pg_stat_activity AS a ON l.pid = a.pid
WHERE a.datname = current_database()
GROUP BY l.pid
ORDER BY l.pid;

-- name: prepared
-- Until a restart its locks carry the virtual transaction of the session that prepared it, so the xid leads to them.
SELECT
    p.gid,
    p.owner::text,
    extract(EPOCH FROM clock_timestamp() - p.prepared)::float8 AS age,
    ARRAY(
        SELECT DISTINCT l.relation::regclass::text AS locked
        FROM pg_locks AS l
        INNER JOIN pg_locks AS x ON l.virtualtransaction = x.virtualtransaction AND x.pid IS NULL
        WHERE
            x.locktype = 'transactionid' AND x.transactionid = p.transaction
            AND l.pid IS NULL AND l.locktype = 'relation' AND l.relation = ANY(%(relations)s::oid[])
        ORDER BY locked
    ) AS locked
FROM pg_prepared_xacts AS p
WHERE p.database = current_database()
ORDER BY p.prepared;

-- name: wraparound
-- Tables (or their toast tables) that an autovacuum must freeze: it does not yield to us.
SELECT
    c.oid::regclass::text,
    greatest(age(c.relfrozenxid), age(t.relfrozenxid)) AS age,
    EXISTS (
        SELECT FROM pg_locks AS l
        INNER JOIN pg_stat_activity AS a ON l.pid = a.pid
        WHERE l.relation IN (c.oid, t.oid) AND a.backend_type = 'autovacuum worker'
    ) AS running
FROM pg_class AS c
LEFT JOIN pg_class AS t ON c.reltoastrelid = t.oid
WHERE
    c.oid = ANY(%(relations)s::oid[]) AND c.relkind IN ('r', 'm')
    AND greatest(age(c.relfrozenxid), age(t.relfrozenxid)) > coalesce(
        (
            SELECT o.option_value::bigint
            FROM pg_options_to_table(c.reloptions) AS o
            WHERE o.option_name = 'autovacuum_freeze_max_age'
        ), current_setting('autovacuum_freeze_max_age')::bigint
    )
ORDER BY 1;

-- name: relations
-- The tables of a plan with their partitions and children, by OID; what does not exist is not returned.
WITH RECURSIVE tree AS (
    SELECT c.oid
    FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (table_schema, table_name)
    INNER JOIN pg_namespace AS n ON t.table_schema = n.nspname
    INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND t.table_name = c.relname
    UNION
    SELECT i.inhrelid
    FROM tree
    INNER JOIN pg_inherits AS i ON tree.oid = i.inhparent
)

SELECT coalesce(array_agg(tree.oid::bigint), '{}') FROM tree;
