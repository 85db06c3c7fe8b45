-- The registry: one journal of runs, stages, steps and events, kept where the change happens.
-- schema_migrations and schema_audit are views on it. Applied once, inside one transaction, by schema_change.core.journal.

CREATE TABLE schema_change.run (
    run_id uuid PRIMARY KEY,
    change_version text NOT NULL,
    change_name text NOT NULL,
    description text NOT NULL,
    checksum text NOT NULL,
    parent_checksum text,
    checksum_algorithm text NOT NULL,
    files_sha256 text NOT NULL,
    conn_id text NOT NULL,
    requested_by text NOT NULL DEFAULT '',
    requested_from text NOT NULL DEFAULT '',
    options jsonb NOT NULL DEFAULT '{}',
    change jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'planned' CHECK (
        status IN (
            'planned', 'running', 'validated', 'contracting', 'applied',
            'rolling_back', 'rolled_back', 'rollback_failed', 'restored', 'stopped'
        )
    ),
    risk text NOT NULL DEFAULT 'low',
    plan jsonb NOT NULL DEFAULT '{}',
    catalog_before jsonb,
    fingerprint_before text,
    fingerprint_after text,
    catalog_after jsonb,
    checksums_before jsonb,
    backup jsonb,
    error text,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
COMMENT ON TABLE schema_change.run IS 'One execution of a plan against this database';
COMMENT ON COLUMN schema_change.run.requested_from IS 'Where the run came from: an Airflow DAG and run id, or the CLI';
COMMENT ON COLUMN schema_change.run.status IS
'stopped: ended before anything was changed; applied, rolled_back, restored, stopped are final';

-- A change lands once per database, and one run of it is at work at a time.
CREATE UNIQUE INDEX run_at_work_once ON schema_change.run (change_version)
WHERE status IN ('running', 'validated', 'contracting', 'applied', 'rolling_back', 'rollback_failed');

CREATE TABLE schema_change.stage (
    run_id uuid NOT NULL REFERENCES schema_change.run ON DELETE CASCADE,
    stage text NOT NULL,
    status text NOT NULL CHECK (status IN ('started', 'done', 'skipped', 'failed')),
    tries integer NOT NULL DEFAULT 1,
    result jsonb NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (run_id, stage)
);
COMMENT ON TABLE schema_change.stage IS 'What each task of a run did, with its result';

CREATE TABLE schema_change.step (
    run_id uuid NOT NULL REFERENCES schema_change.run ON DELETE CASCADE,
    seq integer NOT NULL,
    phase text NOT NULL CHECK (phase IN ('expand', 'backfill', 'cutover', 'contract')),
    title text NOT NULL,
    step jsonb NOT NULL,
    status text NOT NULL DEFAULT 'planned' CHECK (
        status IN ('planned', 'started', 'done', 'undoing', 'undone')
    ),
    rows bigint,
    lock_attempts integer NOT NULL DEFAULT 0,
    error text,
    started_at timestamptz,
    finished_at timestamptz,
    undone_at timestamptz,
    PRIMARY KEY (run_id, seq)
);
COMMENT ON COLUMN schema_change.step.step IS 'The step as planned: statements, lock mode, probe, undo. This is what runs';

CREATE TABLE schema_change.event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid REFERENCES schema_change.run ON DELETE CASCADE,
    seq integer,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL DEFAULT session_user,
    kind text NOT NULL,
    object_type text NOT NULL DEFAULT '',
    object_name text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    sql_statement text
);
CREATE INDEX event_run ON schema_change.event (run_id, id);
COMMENT ON TABLE schema_change.event IS 'The audit trail, append only';

CREATE TABLE schema_change.owner (
    table_schema text NOT NULL,
    table_name text NOT NULL,
    run_id uuid NOT NULL REFERENCES schema_change.run ON DELETE CASCADE,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (table_schema, table_name)
);
COMMENT ON TABLE schema_change.owner IS 'Which run owns a table. Rows do not expire; only reconcile releases another run''s';

CREATE TABLE schema_change.backfill (
    run_id uuid NOT NULL,
    seq integer NOT NULL,
    shard integer NOT NULL DEFAULT 0,
    key_columns text[] NOT NULL DEFAULT '{}',
    lower_bound jsonb,
    upper_bound jsonb,
    cursor jsonb,
    batch_rows integer NOT NULL DEFAULT 1000,
    rows_done bigint NOT NULL DEFAULT 0,
    rows_estimated bigint,
    batches integer NOT NULL DEFAULT 0,
    throttled_ms bigint NOT NULL DEFAULT 0,
    throttle_reason text,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'done')),
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, seq, shard),
    FOREIGN KEY (run_id, seq) REFERENCES schema_change.step ON DELETE CASCADE
);
COMMENT ON TABLE schema_change.backfill IS 'Checkpoints; the cursor is committed in the transaction of the batch it follows';

CREATE TABLE schema_change.filled_row (
    run_id uuid NOT NULL,
    seq integer NOT NULL,
    key jsonb NOT NULL,
    value text,
    PRIMARY KEY (run_id, seq, key),
    FOREIGN KEY (run_id, seq) REFERENCES schema_change.step ON DELETE CASCADE
);
COMMENT ON TABLE schema_change.filled_row IS 'Rows we filled, so that an undo touches only rows that still hold our value';

CREATE TABLE schema_change.control (
    run_id uuid PRIMARY KEY REFERENCES schema_change.run ON DELETE CASCADE,
    paused boolean NOT NULL DEFAULT false,
    cancelled boolean NOT NULL DEFAULT false,
    rows_per_second integer CHECK (rows_per_second > 0),
    changed_by text NOT NULL DEFAULT session_user,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE schema_change.control IS 'Pause, cancel or slow down a running backfill';

CREATE TABLE schema_change.schema_registry (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    version text NOT NULL,
    schema_definition jsonb,
    change_description text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    run_id uuid REFERENCES schema_change.run,
    UNIQUE (table_name, version)
);
COMMENT ON TABLE schema_change.schema_registry IS 'One row per version of a table; the current version is the latest row';

CREATE TABLE schema_change.data_quality_results (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    check_timestamp timestamptz NOT NULL DEFAULT now(),
    run_id text NOT NULL,
    dag_id text,
    suite text NOT NULL,
    table_name text NOT NULL,
    check_id text NOT NULL,
    expectation_type text NOT NULL,
    column_name text,
    severity text NOT NULL,
    status text NOT NULL CHECK (status IN ('passed', 'failed', 'error')),
    observed jsonb,
    element_count bigint,
    unexpected_count bigint,
    unexpected_percent double precision,
    sample jsonb,
    error text,
    kwargs jsonb NOT NULL DEFAULT '{}',
    UNIQUE (run_id, suite, check_id)
);
CREATE INDEX data_quality_results_time ON schema_change.data_quality_results (check_timestamp);
COMMENT ON COLUMN schema_change.data_quality_results.run_id IS
'The run of a change, or the run of the scheduled data-quality DAG';

CREATE VIEW schema_change.schema_migrations AS
SELECT
    r.change_version || '_' || r.change_name AS version,
    r.requested_by AS installed_by,
    r.description,
    r.finished_at AS installed_on,
    r.status = 'applied' AS success,
    round(extract(EPOCH FROM r.finished_at - r.started_at) * 1000)::bigint AS execution_time,
    r.run_id
FROM schema_change.run AS r
WHERE r.finished_at IS NOT NULL AND r.status <> 'stopped';
COMMENT ON COLUMN schema_change.schema_migrations.execution_time IS 'Milliseconds, from plan to end';

CREATE VIEW schema_change.schema_audit AS
SELECT
    r.change_version || '_' || r.change_name AS migration_id,
    e.kind AS operation_type,
    e.object_type,
    e.object_name,
    e.message AS description,
    e.at AS performed_at,
    e.actor AS performed_by,
    e.sql_statement,
    e.run_id
FROM schema_change.event AS e
LEFT JOIN schema_change.run AS r ON e.run_id = r.run_id;
