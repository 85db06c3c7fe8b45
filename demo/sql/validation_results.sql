-- How the expectations of a run came out, failures first.
SELECT d.status, d.severity, d.check_id, coalesce(d.unexpected_count, 0)
FROM schema_change.data_quality_results AS d
WHERE d.run_id = %(run_id)s
ORDER BY d.status, d.severity, d.check_id;
