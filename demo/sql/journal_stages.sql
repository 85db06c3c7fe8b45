-- What each stage of a run says it did, or why it failed.
SELECT s.stage, coalesce(s.result ->> 'summary', s.result ->> 'error', '')
FROM schema_change.stage AS s
INNER JOIN schema_change.run AS r ON s.run_id = r.run_id
WHERE r.requested_from = %(origin)s;
