-- Checks that run some time after a change landed.

CREATE TABLE schema_change.follow_up (
    run_id uuid NOT NULL REFERENCES schema_change.run ON DELETE CASCADE,
    name text NOT NULL,
    definition jsonb NOT NULL,
    baseline bigint,
    due_at timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'planned' CHECK (status IN ('planned', 'passed', 'failed', 'error')),
    message text NOT NULL DEFAULT '',
    checked_at timestamptz,
    PRIMARY KEY (run_id, name)
);
CREATE INDEX follow_up_due ON schema_change.follow_up (due_at) WHERE status = 'planned';
COMMENT ON TABLE schema_change.follow_up IS 'Checks that run some time after a change landed, each once';
COMMENT ON COLUMN schema_change.follow_up.baseline IS 'How often the index had been used when the change landed';
