-- The run behind a DAG run.
SELECT r.run_id::text, r.status, coalesce(r.error, '')
FROM schema_change.run AS r
WHERE r.requested_from = %(origin)s;
