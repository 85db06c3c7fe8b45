-- name: set_guards
SELECT set_config(g.name, g.setting, false) FROM unnest(%(names)s::text[], %(settings)s::text[]) AS g (name, setting);

-- name: export_snapshot
SELECT pg_export_snapshot();

-- name: primary_keys
-- One row per table that exists; an empty array when it has no primary key.
SELECT
    t.table_schema,
    t.table_name,
    coalesce(
        array_agg(a.attname::text ORDER BY array_position(i.indkey::smallint[], a.attnum))
        FILTER (WHERE a.attname IS NOT NULL),
        '{}'
    ) AS key_columns
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (table_schema, table_name)
INNER JOIN pg_namespace AS n ON t.table_schema = n.nspname
INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND t.table_name = c.relname AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
LEFT JOIN pg_index AS i ON c.oid = i.indrelid AND i.indisprimary
LEFT JOIN pg_attribute AS a ON i.indrelid = a.attrelid AND a.attnum = ANY (i.indkey)
GROUP BY t.table_schema, t.table_name;

-- name: columns
-- format_type() leaves the schema out of a type that search_path finds; both spellings are returned.
SELECT
    a.attname AS column_name,
    format_type(a.atttypid, a.atttypmod) AS column_type,
    CASE
        WHEN pg_type_is_visible(a.atttypid) THEN quote_ident(n.nspname) || '.' || format_type(a.atttypid, a.atttypmod)
        ELSE format_type(a.atttypid, a.atttypmod)
    END AS qualified_type,
    NOT a.attnotnull AS nullable
FROM pg_attribute AS a
INNER JOIN pg_class AS c ON a.attrelid = c.oid
INNER JOIN pg_namespace AS cn ON c.relnamespace = cn.oid
INNER JOIN pg_type AS t ON a.atttypid = t.oid
INNER JOIN pg_namespace AS n ON t.typnamespace = n.oid
WHERE cn.nspname = %(schema)s AND c.relname = %(name)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: store_results
INSERT INTO schema_change.data_quality_results AS r (
    run_id, dag_id, suite, table_name, check_id, expectation_type, column_name, severity, status, observed,
    element_count, unexpected_count, unexpected_percent, sample, error, kwargs
)
SELECT
    %(run_id)s, %(dag_id)s, o.suite, o.table_name, o.check_id, o.expectation_type, o.column_name, o.severity, o.status,
    o.observed, o.element_count, o.unexpected_count, o.unexpected_percent, o.sample, o.error, o.kwargs
FROM jsonb_to_recordset(%(outcomes)s::jsonb) AS o (
    suite text, table_name text, check_id text, expectation_type text, column_name text, severity text, status text,
    observed jsonb, element_count bigint, unexpected_count bigint, unexpected_percent double precision, sample jsonb,
    error text, kwargs jsonb
)
ON CONFLICT (run_id, suite, check_id) DO UPDATE SET
    check_timestamp = excluded.check_timestamp,
    dag_id = excluded.dag_id,
    table_name = excluded.table_name,
    expectation_type = excluded.expectation_type,
    column_name = excluded.column_name,
    severity = excluded.severity,
    status = excluded.status,
    observed = excluded.observed,
    element_count = excluded.element_count,
    unexpected_count = excluded.unexpected_count,
    unexpected_percent = excluded.unexpected_percent,
    sample = excluded.sample,
    error = excluded.error,
    kwargs = excluded.kwargs;
