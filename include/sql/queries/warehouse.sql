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

-- name: distribution
-- How a column of the public view is distributed in each tenant; its places are filled in. Numbers, times, booleans and
-- enums are shown. Of other values, which may be anybody's name, only the length is, but for one that is known already: the
-- default. Values that are there once are no frequent ones.
WITH kind AS (
    SELECT t.typcategory IN ('N', 'D', 'T', 'B', 'E') AS is_shown
    FROM pg_attribute AS a
    INNER JOIN pg_type AS t ON a.atttypid = t.oid
    WHERE a.attrelid = {view_name}::regclass AND a.attname = {name}
),
counted AS (
    SELECT
        v.schema_name,
        -- Any type has a text, and a hash of it makes a small group.
        hashtextextended(v.{column}::text, 0) AS value,
        count(*) AS amount,
        max(length(v.{column}::text)) AS length,
        max(CASE WHEN (SELECT k.is_shown FROM kind AS k) OR v.{column}::text = {known} THEN left(v.{column}::text, 40) COLLATE "C" END)
            AS shown
    FROM {view} AS v
    GROUP BY 1, 2
),
tenants AS (
    SELECT
        c.schema_name, sum(c.amount)::bigint AS amount,
        coalesce(sum(c.amount) FILTER (WHERE c.value IS NULL), 0)::bigint AS nulls, count(c.value) AS different
    FROM counted AS c
    GROUP BY c.schema_name
),
frequent AS (
    SELECT c.*, row_number() OVER (PARTITION BY c.schema_name ORDER BY c.amount DESC, c.shown ASC, c.value ASC) AS place
    FROM counted AS c
    WHERE c.amount > 1 AND c.value IS NOT NULL
)
SELECT
    t.schema_name AS tenant, t.amount AS rows, t.nulls, t.different AS distinct_values,
    string_agg(
        concat(coalesce(f.shown, f.length || ' characters'), ' (', f.amount, ')'), ', ' ORDER BY f.place
    ) FILTER (WHERE f.place IS NOT NULL) AS most_frequent
FROM tenants AS t
LEFT JOIN frequent AS f ON t.schema_name = f.schema_name AND f.place <= 5
GROUP BY t.schema_name, t.amount, t.nulls, t.different
ORDER BY t.schema_name;

-- name: days_with_rows
-- Daily views that hold rows, those of a template that have the same columns together.
SELECT
    d.template_name,
    d.columns,
    jsonb_agg(jsonb_build_array(d.schema_name, d.part_name, d.part_day) ORDER BY d.schema_name, d.part_day)
FROM (
    SELECT t.template_name, p.schema_name, p.part_name, p.part_day, a.columns
    FROM _wh.mv_templates AS t
    CROSS JOIN LATERAL _wh.parts_of(t.template_name) AS p
    INNER JOIN pg_class AS c ON p.part_oid = c.oid
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_array(x.attname, format_type(x.atttypid, x.atttypmod)) ORDER BY x.attnum) AS columns
        FROM pg_attribute AS x
        WHERE p.part_oid = x.attrelid AND x.attnum > 0 AND NOT x.attisdropped
    ) AS a
    WHERE
        NOT p.is_table AND c.relispopulated
        AND (%(templates)s::text[] IS NULL OR t.template_name = ANY(%(templates)s::text[]))
) AS d
GROUP BY d.template_name, d.columns
ORDER BY d.template_name, d.columns;

-- name: refill_days
SELECT r.schema_name, r.day, r.error
FROM _wh.refill_days(%(kept)s::regclass, %(template)s, %(schemas)s, %(days)s::date[]) AS r;
