-- Dropped data is kept for a while in a schema of its own, out of everybody's way, until a retention run purges it.

CREATE SCHEMA schema_change_retired;
COMMENT ON SCHEMA schema_change_retired IS 'Dropped tables, columns and rows, kept by airflow-provider-schema-change';

CREATE TABLE schema_change.retired (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES schema_change.run,
    kind text NOT NULL CHECK (kind IN ('table', 'column', 'rows')),
    table_schema text NOT NULL,
    table_name text NOT NULL,
    column_name text NOT NULL DEFAULT '',
    kept_name text NOT NULL,
    key_columns text[] NOT NULL DEFAULT '{}',
    definition jsonb NOT NULL DEFAULT '{}',
    retired_at timestamptz NOT NULL DEFAULT now(),
    purge_after timestamptz NOT NULL,
    purged_at timestamptz,
    recovered_at timestamptz
);
-- A change that was taken back by a restore can be made again, and keeps its data under the same name.
CREATE UNIQUE INDEX retired_kept_once ON schema_change.retired (kept_name)
WHERE purged_at IS NULL AND recovered_at IS NULL;
COMMENT ON TABLE schema_change.retired IS 'What was dropped, where its data is kept, and until when';
COMMENT ON COLUMN schema_change.retired.kept_name IS 'Table in schema schema_change_retired';
