-- A shape is a template as one schema has it: where its parts are, and what columns they have. While a template changes
-- there are two, old and new; otherwise one, current.

DO $body$
BEGIN
    IF to_regtype('_wh.shape') IS NULL THEN
        CREATE TYPE _wh.shape AS (
            template_name text, schema_name text, shape text, days_schema text, view_schema text,
            query_template text, column_definitions text, indexes text, year_columns jsonb
        );
    END IF;
END
$body$;

-- The shapes of a template in a schema; the first is the one that readers see by default.
CREATE OR REPLACE FUNCTION _wh.shapes_of(template text, in_schema text) RETURNS SETOF _wh.shape
LANGUAGE sql STABLE AS $body$
    SELECT
        s.template_name, s.schema_name, s.shape, s.days_schema, s.view_schema,
        d.query_template, d.column_definitions, d.indexes, d.year_columns
    FROM _wh.shapes AS s
    INNER JOIN _wh.change_definitions AS d ON s.template_name = d.template_name AND s.shape = d.shape
    WHERE s.template_name = template AND s.schema_name = in_schema
    UNION ALL
    SELECT
        t.template_name, in_schema, 'current', in_schema, in_schema, t.query_template, t.column_definitions, t.indexes, '{}'
    FROM _wh.template_of(template) AS t
    WHERE NOT EXISTS (SELECT FROM _wh.shapes AS s WHERE s.template_name = template AND s.schema_name = in_schema)
    ORDER BY 3 DESC
$body$;

-- The columns that a shape may adapt in its parts, with their fallbacks: of a tenant that was left out of a change, also of
-- the one under way.
CREATE OR REPLACE FUNCTION _wh.adapted_in(s _wh.shape) RETURNS TABLE (column_name text, fallback text)
LANGUAGE sql STABLE AS $body$
    SELECT a.column_name, a.fallback
    FROM _wh.adapted AS a
    WHERE a.template_name = s.template_name AND a.schema_name = s.schema_name
    UNION
    SELECT c.column_name, c.fallback
    FROM _wh.changes AS c
    WHERE c.template_name = s.template_name AND s.shape = 'new' AND s.days_schema = s.schema_name
$body$;

-- The shape in which days are made: for a tenant that was left out of a change, that before it.
CREATE OR REPLACE FUNCTION _wh.for_days(s _wh.shape) RETURNS _wh.shape
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    older _wh.template_versions;
BEGIN
    SELECT v.* INTO older
    FROM _wh.adapted AS a
    INNER JOIN _wh.template_versions AS v ON a.template_name = v.template_name AND a.version = v.version
    WHERE a.template_name = s.template_name AND a.schema_name = s.schema_name AND s.days_schema = s.schema_name
    ORDER BY a.version
    LIMIT 1;
    IF older.template_name IS NOT NULL THEN
        s.query_template := older.query_template;
        s.column_definitions := older.column_definitions;
        s.indexes := older.indexes;
    END IF;
    RETURN s;
END
$body$;

-- The shapes in which a schema has days of its own: a tenant that is left out of a change has one for both.
CREATE OR REPLACE FUNCTION _wh.day_shapes_of(template text, in_schema text) RETURNS SETOF _wh.shape
LANGUAGE sql STABLE AS $body$
    SELECT d.*
    FROM _wh.shapes_of(template, in_schema) AS s
    CROSS JOIN LATERAL _wh.for_days(s) AS d
    WHERE s.shape <> 'new' OR s.days_schema <> s.schema_name
    ORDER BY s.shape DESC
$body$;

-- The schema beside another one that has what is new, or old, while a template changes.
CREATE OR REPLACE FUNCTION _wh.beside(shape text, in_schema text) RETURNS name
LANGUAGE sql IMMUTABLE AS $body$
    SELECT (CASE WHEN octet_length(n.long) <= 63 THEN n.long ELSE left(n.long, 30) || '_' || md5(n.long) END)::name
    FROM (SELECT concat_ws('_', '_wh', shape, in_schema) AS long) AS n
$body$;

-- Whoever changes a template, or brings its days up to date, holds this lock until the end of the transaction; those who
-- build different days for a change share it.
CREATE OR REPLACE FUNCTION _wh.lock_template(template text, shared boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    IF shared THEN
        PERFORM pg_advisory_xact_lock_shared(hashtextextended('_wh.template ' || template, 0));
    ELSE
        PERFORM pg_advisory_xact_lock(hashtextextended('_wh.template ' || template, 0));
    END IF;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.refuse_change(template text) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM _wh.template_of(template);
    PERFORM _wh.lock_template(template);
    IF EXISTS (SELECT FROM _wh.changes AS c WHERE c.template_name = template) THEN
        RAISE EXCEPTION 'template % is being changed', template
            USING HINT = 'wait until that run has ended: schema-change status';
    END IF;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.grantee(role oid, is_grantable boolean, OUT name text, OUT onward text)
LANGUAGE sql STABLE AS $body$
    SELECT
        CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
$body$;
