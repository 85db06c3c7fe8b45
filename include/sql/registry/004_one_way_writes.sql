-- That rows were written which only the new shape holds: a rollback after cutover would lose them, so it is refused.

CREATE TABLE schema_change.one_way_write (
    table_schema text NOT NULL,
    table_name text NOT NULL,
    column_name text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX one_way_write_column ON schema_change.one_way_write (table_schema, table_name, column_name);
COMMENT ON TABLE schema_change.one_way_write IS
'Column whose new values have no inverse and was written after cutover; a few rows at most, no key: nobody waits for it';
