-- Rows done, rows in all and seconds so far of the backfill that is at work in a run.
SELECT
    sum(b.rows_done)::bigint,
    sum(coalesce(b.rows_estimated, b.rows_done))::bigint,
    extract(EPOCH FROM max(b.updated_at) - min(b.started_at))::double precision
FROM schema_change.backfill AS b
INNER JOIN schema_change.run AS r ON b.run_id = r.run_id
WHERE r.requested_from = %(origin)s
HAVING count(*) > 0;
