-- What planning and checking a change of a template have to know.

-- name: is_installed
SELECT to_regclass('_wh.toolkit_version') IS NOT NULL AS is_installed;

-- name: templates
SELECT
    t.template_name,
    t.query_template,
    t.indexes,
    (SELECT jsonb_agg(jsonb_build_array(c.column_name, c.data_type) ORDER BY c.place) FROM _wh.columns_in(t.column_definitions) AS c),
    coalesce(v.views, '[]'),
    coalesce(p.years, '[]'),
    p.days,
    p.rows,
    (SELECT coalesce(jsonb_agg(k), '[]') FROM _wh.key_columns(t.indexes) AS k),
    (SELECT c.column_name FROM _wh.changes AS c WHERE c.template_name = t.template_name)
FROM _wh.mv_templates AS t
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_array(s.name, a.types, x.columns) ORDER BY s.name) AS views
    FROM _wh.schemas_of(t.template_name) AS s (name)
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod)) AS types
        FROM pg_attribute AS a
        WHERE a.attrelid = to_regclass(format('%%I.%%I', s.name, t.template_name)) AND a.attnum > 0
    ) AS a
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_agg(x.column_name), '[]') AS columns
        FROM _wh.adapted AS x
        WHERE x.template_name = t.template_name AND s.name = x.schema_name
    ) AS x
) AS v
CROSS JOIN LATERAL (
    SELECT
        jsonb_agg(jsonb_build_array(p.schema_name, p.part_name) ORDER BY p.schema_name, p.part_name) FILTER (WHERE p.is_table) AS years,
        count(*) FILTER (WHERE NOT p.is_table) AS days,
        coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint AS rows
    FROM _wh.parts_of(t.template_name) AS p
    INNER JOIN pg_class AS c ON p.part_oid = c.oid
) AS p
WHERE t.template_name = ANY(%(names)s);
