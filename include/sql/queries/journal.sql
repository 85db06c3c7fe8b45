-- name: is_installed
SELECT to_regclass('schema_change.registry_version') IS NOT NULL;

-- name: create_home
CREATE SCHEMA IF NOT EXISTS schema_change;
CREATE TABLE IF NOT EXISTS schema_change.registry_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: installed_versions
SELECT v.version FROM schema_change.registry_version AS v;

-- name: record_version
INSERT INTO schema_change.registry_version (version, name) VALUES (%(version)s, %(name)s);

-- name: insert_run
INSERT INTO schema_change.run (
    run_id, change_version, change_name, description, checksum, parent_checksum, checksum_algorithm, files_sha256,
    conn_id, requested_by, requested_from, options, change, risk, plan, catalog_before, fingerprint_before
)
VALUES (
    %(run_id)s, %(change_version)s, %(change_name)s, %(description)s, %(checksum)s, %(parent_checksum)s,
    %(checksum_algorithm)s, %(files_sha256)s, %(conn_id)s, %(requested_by)s, %(requested_from)s, %(options)s,
    %(change)s, %(risk)s, %(plan)s, %(catalog_before)s, %(fingerprint_before)s
)
ON CONFLICT (run_id) DO UPDATE SET
    checksum = excluded.checksum, parent_checksum = excluded.parent_checksum, files_sha256 = excluded.files_sha256,
    options = excluded.options, change = excluded.change, risk = excluded.risk, plan = excluded.plan,
    catalog_before = excluded.catalog_before, fingerprint_before = excluded.fingerprint_before, error = NULL,
    status = 'planned', finished_at = NULL
WHERE schema_change.run.status IN ('planned', 'stopped')
RETURNING
    run_id, change_version, change_name, description, checksum, parent_checksum, files_sha256, conn_id, requested_by,
    requested_from, options, change, status, risk, plan, catalog_before, fingerprint_before, fingerprint_after,
    checksums_before, backup, error, started_at, finished_at;

-- name: forget_earlier_plan
WITH stages AS (DELETE FROM schema_change.stage WHERE run_id = %(run_id)s)

DELETE FROM schema_change.step WHERE run_id = %(run_id)s;

-- name: insert_steps
INSERT INTO schema_change.step (run_id, seq, phase, title, step)
SELECT %(run_id)s, s.seq, s.step ->> 'phase', s.step ->> 'title', s.step
FROM jsonb_array_elements(%(steps)s) WITH ORDINALITY AS s (step, seq)
RETURNING seq, step, status, rows, lock_attempts, error, started_at, finished_at, undone_at;

-- name: get_run
SELECT
    run_id, change_version, change_name, description, checksum, parent_checksum, files_sha256, conn_id, requested_by,
    requested_from, options, change, status, risk, plan, catalog_before, fingerprint_before, fingerprint_after,
    checksums_before, backup, error, started_at, finished_at
FROM schema_change.run
WHERE run_id = %(run_id)s;

-- name: list_runs
SELECT
    run_id, change_version, change_name, description, checksum, parent_checksum, files_sha256, conn_id, requested_by,
    requested_from, options, change, status, risk, plan, catalog_before, fingerprint_before, fingerprint_after,
    checksums_before, backup, error, started_at, finished_at
FROM schema_change.run
ORDER BY started_at DESC
LIMIT %(limit)s;

-- name: unfinished_runs
SELECT run_id
FROM schema_change.run
WHERE status NOT IN ('applied', 'rolled_back', 'restored', 'stopped')
ORDER BY started_at;

-- name: applied_since
SELECT run_id
FROM schema_change.run
WHERE status = 'applied' AND finished_at > %(since)s
ORDER BY finished_at;

-- name: applied_changes
SELECT change_version, change_name, checksum, parent_checksum
FROM schema_change.run
WHERE status = 'applied'
ORDER BY finished_at;

-- name: set_status
UPDATE schema_change.run
SET
    status = %(status)s,
    error = coalesce(%(error)s, error),
    finished_at = CASE
        WHEN %(status)s IN ('applied', 'rolled_back', 'restored', 'stopped') THEN clock_timestamp()
    END
WHERE run_id = %(run_id)s
RETURNING status, error, finished_at;

-- name: set_fingerprint_after
UPDATE schema_change.run
SET fingerprint_after = %(fingerprint)s, catalog_after = %(catalog)s
WHERE run_id = %(run_id)s;

-- name: set_backup
UPDATE schema_change.run
SET backup = %(backup)s, checksums_before = %(checksums)s
WHERE run_id = %(run_id)s;

-- name: get_steps
SELECT seq, step, status, rows, lock_attempts, error, started_at, finished_at, undone_at
FROM schema_change.step
WHERE run_id = %(run_id)s
ORDER BY seq;

-- name: set_step
UPDATE schema_change.step
SET
    status = %(status)s,
    rows = coalesce(%(rows)s, rows),
    lock_attempts = lock_attempts + %(lock_attempts)s,
    error = %(error)s,
    -- A step that is done at once began with its transaction.
    started_at = CASE %(status)s
        WHEN 'started' THEN coalesce(started_at, clock_timestamp())
        WHEN 'done' THEN coalesce(started_at, now())
        ELSE started_at
    END,
    finished_at = CASE WHEN %(status)s = 'done' THEN clock_timestamp() ELSE finished_at END,
    undone_at = CASE WHEN %(status)s = 'undone' THEN clock_timestamp() END
WHERE run_id = %(run_id)s AND seq = %(seq)s;

-- name: lock_step
SELECT status FROM schema_change.step WHERE run_id = %(run_id)s AND seq = %(seq)s FOR UPDATE;

-- name: step_error
UPDATE schema_change.step SET error = %(error)s WHERE run_id = %(run_id)s AND seq = %(seq)s;

-- name: start_stage
-- The first shard of a stage begins it and counts its tries; the others join, and take it up again when it has failed.
INSERT INTO schema_change.stage AS s (run_id, stage, status, started_at, tries)
VALUES (
    %(run_id)s, %(stage)s, 'started', coalesce(%(started_at)s, clock_timestamp()), CASE WHEN %(joins)s THEN 0 ELSE 1 END
)
ON CONFLICT (run_id, stage) DO UPDATE SET
    status = 'started', tries = s.tries + 1, started_at = clock_timestamp(), finished_at = NULL
WHERE NOT %(joins)s OR s.status = 'failed'
RETURNING s.stage, s.status, s.tries, s.result, s.started_at, s.finished_at;

-- name: finish_stage
UPDATE schema_change.stage
SET status = %(status)s, result = %(result)s, finished_at = clock_timestamp()
WHERE
    run_id = %(run_id)s AND stage = %(stage)s
    -- A shard's failure stands until that shard is tried again.
    AND NOT (status = 'failed' AND %(status)s = 'done')
RETURNING stage, status, tries, result, started_at, finished_at;

-- name: get_stages
SELECT stage, status, tries, result, started_at, finished_at
FROM schema_change.stage
WHERE run_id = %(run_id)s
ORDER BY started_at;

-- name: insert_event
INSERT INTO schema_change.event (run_id, seq, actor, kind, object_type, object_name, message, sql_statement)
VALUES (
    %(run_id)s, %(seq)s, coalesce(nullif(%(actor)s, ''), session_user), %(kind)s, %(object_type)s, %(object_name)s,
    %(message)s, %(sql_statement)s
);

-- name: get_events
SELECT at, actor, kind, object_type, object_name, message, sql_statement, seq
FROM schema_change.event
WHERE run_id = %(run_id)s
ORDER BY id;

-- name: claim_tables
INSERT INTO schema_change.owner (table_schema, table_name, run_id)
SELECT t.table_schema, t.table_name, %(run_id)s
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (table_schema, table_name)
ORDER BY t.table_schema, t.table_name
ON CONFLICT (table_schema, table_name) DO NOTHING;

-- name: owners
SELECT o.table_schema, o.table_name, o.run_id, o.since, r.requested_from, r.change_version || '_' || r.change_name AS change
FROM schema_change.owner AS o
INNER JOIN schema_change.run AS r ON o.run_id = r.run_id
WHERE
    (o.table_schema, o.table_name) IN (
        SELECT t.table_schema, t.table_name
        FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (table_schema, table_name)
    )
    AND o.run_id <> %(run_id)s;

-- name: other_owners
SELECT o.table_schema, o.table_name, o.run_id
FROM schema_change.owner AS o
WHERE o.run_id <> %(run_id)s
ORDER BY o.since;

-- name: release_tables
DELETE FROM schema_change.owner WHERE run_id = %(run_id)s;

-- name: try_fence
SELECT pg_try_advisory_lock(hashtextextended('schema_change.run:' || %(run_id)s::text, 0));

-- name: try_fence_shared
SELECT pg_try_advisory_lock_shared(hashtextextended('schema_change.run:' || %(run_id)s::text, 0));

-- name: release_fence_shared
SELECT pg_advisory_unlock_shared(hashtextextended('schema_change.run:' || %(run_id)s::text, 0));

-- name: release_fence
SELECT pg_advisory_unlock(hashtextextended('schema_change.run:' || %(run_id)s::text, 0));

-- name: current_version
SELECT version
FROM schema_change.schema_registry
WHERE table_name = %(table_name)s
ORDER BY id DESC
LIMIT 1;

-- name: insert_version
INSERT INTO schema_change.schema_registry (table_name, version, schema_definition, change_description, run_id)
VALUES (%(table_name)s, %(version)s, %(definition)s, %(description)s, %(run_id)s)
ON CONFLICT (table_name, version) DO NOTHING;

-- name: delete_versions
DELETE FROM schema_change.schema_registry WHERE run_id = %(run_id)s;

-- name: last_rehearsal
SELECT s.result
FROM schema_change.stage AS s
INNER JOIN schema_change.run AS r ON s.run_id = r.run_id
WHERE r.change_version = %(change_version)s AND s.stage = 'rehearse' AND s.status = 'done'
ORDER BY s.finished_at DESC
LIMIT 1;

-- name: approvals
SELECT object_name, actor, message
FROM schema_change.event
WHERE
    run_id = %(run_id)s AND kind = 'approved'
    AND id > (SELECT max(p.id) FROM schema_change.event AS p WHERE p.run_id = %(run_id)s AND p.kind = 'planned')
ORDER BY id;

-- name: insert_approval
INSERT INTO schema_change.event (run_id, actor, kind, object_type, object_name, message)
VALUES (%(run_id)s, %(user)s, 'approved', 'role', %(role)s, %(comment)s);

-- name: insert_retired
INSERT INTO schema_change.retired (
    run_id, kind, table_schema, table_name, column_name, kept_name, key_columns, definition, purge_after
)
VALUES (
    %(run_id)s, %(kind)s, %(schema)s, %(table)s, %(column)s, %(kept)s, %(key)s, %(definition)s,
    now() + %(days)s * interval '1 day'
);

-- name: pass_stages
-- The stages are read in the order in which they began.
INSERT INTO schema_change.stage AS s (run_id, stage, status, result, started_at, finished_at)
SELECT %(run_id)s, p.stage, 'skipped', p.result, t.at, t.at
FROM clock_timestamp() AS c (now)
CROSS JOIN unnest(%(stages)s::text[], %(results)s::jsonb[]) WITH ORDINALITY AS p (stage, result, position)
CROSS JOIN LATERAL (SELECT c.now + p.position * interval '1 microsecond' AS at) AS t
ON CONFLICT (run_id, stage) DO UPDATE
SET status = 'skipped', result = excluded.result, tries = s.tries + 1, finished_at = excluded.finished_at
RETURNING s.stage, s.status, s.tries, s.result, s.started_at, s.finished_at;
