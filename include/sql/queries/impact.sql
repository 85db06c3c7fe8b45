-- What a proposal and a guide say about a change beyond its plan: who queries the tables, and how fast earlier
-- backfills were.

-- name: statements_home
SELECT n.nspname
FROM pg_extension AS e
INNER JOIN pg_namespace AS n ON e.extnamespace = n.oid
WHERE e.extname = 'pg_stat_statements';

-- name: statements
-- The statements of this database that may name one of the relations, the most time first: (query, calls, mean ms).
-- The text is a first sieve only; the grammar decides.
SELECT s.query, sum(s.calls)::bigint, sum(s.total_exec_time) / greatest(sum(s.calls), 1)
FROM {home}.pg_stat_statements AS s
WHERE
    s.dbid = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
    AND EXISTS (SELECT FROM unnest(%(names)s::text[]) AS n (name) WHERE strpos(lower(s.query), lower(n.name)) > 0)
GROUP BY s.query
ORDER BY sum(s.total_exec_time) DESC, s.query;

-- name: hidden_statements
-- Another user's statements have no text for those without pg_read_all_stats.
SELECT count(*)
FROM {home}.pg_stat_statements AS s
WHERE
    s.dbid = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
    AND s.query = '<insufficient privilege>';

-- name: backfill_pace
-- Rows a second over the latest backfills that did something; waiting and pauses are part of it.
SELECT sum(b.rows) / nullif(sum(b.seconds), 0)
FROM (
    SELECT s.rows, extract(EPOCH FROM s.finished_at - s.started_at) AS seconds
    FROM schema_change.step AS s
    WHERE s.step -> 'backfill' <> 'null' AND s.finished_at > s.started_at AND s.rows > 0
    ORDER BY s.finished_at DESC
    LIMIT 20
) AS b;
