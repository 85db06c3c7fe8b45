-- What the report of a run reads besides its journal.

-- name: validation_outcomes
SELECT q.suite, q.table_name, q.check_id, q.severity, q.status, q.observed, q.unexpected_count, q.element_count, q.error
FROM schema_change.data_quality_results AS q
WHERE q.run_id = %(run_id)s
ORDER BY q.status = 'passed', q.suite, q.check_id;
