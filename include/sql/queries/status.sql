-- What the command line shows about runs.

-- name: adopt
UPDATE schema_change.run
SET requested_from = %(origin)s
WHERE run_id = %(run_id)s AND requested_from = %(before)s;

-- name: backfills
SELECT
    s.title,
    sum(b.rows_done)::bigint AS rows_done,
    sum(b.rows_estimated)::bigint AS rows_estimated,
    max(b.throttle_reason) FILTER (WHERE b.status = 'running') AS waiting_for,
    bool_and(b.status = 'done') AS done,
    max(b.updated_at) AS updated_at
FROM schema_change.backfill AS b
INNER JOIN schema_change.step AS s ON b.run_id = s.run_id AND b.seq = s.seq
WHERE b.run_id = %(run_id)s
GROUP BY s.seq, s.title
ORDER BY s.seq;

-- name: waiting
SELECT s.stage, s.result ->> 'summary' AS summary
FROM schema_change.stage AS s
WHERE s.run_id = %(run_id)s AND s.status = 'started' AND s.result ? 'until'
ORDER BY s.started_at;

-- name: owners
SELECT o.table_schema, o.table_name, o.run_id, o.since
FROM schema_change.owner AS o
ORDER BY o.table_schema, o.table_name;
