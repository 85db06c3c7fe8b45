-- What lies around a change: sentinel queries, waiting stages, follow-up checks.

-- name: read_only
SET TRANSACTION READ ONLY;

-- name: query_settings
SELECT
    set_config('search_path', 'public', true),
    set_config('statement_timeout', '60s', true),
    set_config('lock_timeout', '60s', true);

-- name: explain
EXPLAIN (FORMAT JSON)

-- name: explain_analyze
EXPLAIN (ANALYZE, FORMAT JSON)

-- name: wait_stage
UPDATE schema_change.stage
SET result = %(result)s
-- What a shard waits for does not cover up how another one has ended.
WHERE run_id = %(run_id)s AND stage = %(stage)s AND status = 'started';

-- name: waited
-- A look that could not be had, and is tried again, does not begin the time anew; a change that is validated again does.
SELECT extract(EPOCH FROM clock_timestamp() - least(s.started_at, min(e.at)))::double precision
FROM schema_change.stage AS s
LEFT JOIN schema_change.stage AS v ON s.run_id = v.run_id AND v.stage = 'validate'
LEFT JOIN schema_change.event AS e
    ON s.run_id = e.run_id AND e.kind = s.stage || '_begun' AND e.at >= v.finished_at
WHERE s.run_id = %(run_id)s AND s.stage = %(stage)s
GROUP BY s.started_at;

-- name: index_scans
-- Of a partitioned index, those of its partitions: it has no statistics of its own.
SELECT sum(s.idx_scan)::bigint
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
CROSS JOIN LATERAL (
    SELECT c.oid AS index_oid
    UNION
    SELECT p.relid AS index_oid
    FROM pg_partition_tree(c.oid) AS p
) AS i
INNER JOIN pg_stat_all_indexes AS s ON i.index_oid = s.indexrelid
WHERE n.nspname = %(schema)s AND c.relname = %(index)s;

-- name: insert_follow_up
INSERT INTO schema_change.follow_up (run_id, name, definition, baseline, due_at)
VALUES (%(run_id)s, %(name)s, %(definition)s, %(baseline)s, now() + %(hours)s * interval '1 hour')
ON CONFLICT (run_id, name) DO NOTHING;

-- name: next_follow_up
SELECT f.run_id, r.change_version || '_' || r.change_name AS change_id, f.name, f.definition, f.baseline
FROM schema_change.follow_up AS f
INNER JOIN schema_change.run AS r ON f.run_id = r.run_id
WHERE f.status = 'planned' AND f.due_at <= clock_timestamp() AND r.status = 'applied'
ORDER BY f.due_at
LIMIT 1
FOR UPDATE OF f SKIP LOCKED;

-- name: finish_follow_up
UPDATE schema_change.follow_up
SET status = %(status)s, message = %(message)s, checked_at = clock_timestamp()
WHERE run_id = %(run_id)s AND name = %(name)s;

-- name: planned_follow_ups
SELECT count(*), min(f.due_at)
FROM schema_change.follow_up AS f
INNER JOIN schema_change.run AS r ON f.run_id = r.run_id
WHERE f.status = 'planned' AND r.status = 'applied';
