-- The views over the parts: of a tenant, and the public one over all tenants. Columns are named, in the template's order.

-- Make or replace a view. Columns that come, go or change need the view to be dropped, which nobody may depend on then;
-- its owner, grants and comment are carried over.
CREATE OR REPLACE FUNCTION _wh.put_view(in_schema text, view_name text, query text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    old regclass := to_regclass(format('%I.%I', in_schema, view_name));
    users text := _wh.users_of(old);
    carried text[];
    statement text;
BEGIN
    IF old IS NOT NULL AND (SELECT c.relkind FROM pg_class AS c WHERE c.oid = old) <> 'v' THEN
        RAISE EXCEPTION '% is no view', old USING HINT = 'something else has the name that the template''s view needs';
    END IF;
    BEGIN
        EXECUTE format('CREATE OR REPLACE VIEW %I.%I AS %s', in_schema, view_name, query);
        RETURN;
    EXCEPTION WHEN invalid_table_definition THEN
        IF users IS NOT NULL THEN
            RAISE EXCEPTION '% gets other columns, and is used by %', old, users
                USING ERRCODE = 'dependent_objects_still_exist', HINT = 'drop those views first, and make them again afterwards';
        END IF;
    END;
    carried := _wh.rights_of(old);
    EXECUTE format('DROP VIEW %s', old);
    EXECUTE format('CREATE VIEW %I.%I AS %s', in_schema, view_name, query);
    FOREACH statement IN ARRAY carried LOOP
        EXECUTE statement;
    END LOOP;
END
$body$;

-- The statements that give a relation's owner, grants and comment to one that is made anew under its name.
CREATE OR REPLACE FUNCTION _wh.rights_of(relation regclass) RETURNS text[]
LANGUAGE sql STABLE AS $body$
    SELECT
        ARRAY[format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, pg_get_userbyid(c.relowner))]
        || coalesce((
            SELECT array_agg(format(
                'GRANT %s ON %I.%I TO %s%s', a.privilege_type, n.nspname, c.relname,
                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            ))
            FROM aclexplode(c.relacl) AS a
            WHERE a.grantee <> c.relowner
        ), '{}')
        || coalesce((
            SELECT array_agg(format('COMMENT ON VIEW %I.%I IS %L', n.nspname, c.relname, d.description))
            FROM pg_description AS d
            WHERE d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
        ), '{}')
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    WHERE c.oid = relation
$body$;

-- The query over all parts of a tenant. A year that has its table is read from that, and not from what is left of its
-- days; a part that has not the template's columns is named.
CREATE OR REPLACE FUNCTION _wh.tenant_query(template text, in_schema text, exclude_pattern text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    columns text;
    bad text;
    query text;
BEGIN
    SELECT string_agg(quote_ident(c.column_name), ', ' ORDER BY c.place) INTO columns
    FROM _wh.columns_in((_wh.template_of(template)).column_definitions) AS c;
    WITH parts AS (
        SELECT p.part_name, p.part_oid
        FROM _wh.parts_of(template, in_schema) AS p
        WHERE
            (exclude_pattern IS NULL OR p.part_name !~ exclude_pattern)
            AND (p.is_year OR NOT EXISTS (
                SELECT FROM _wh.parts_of(template, in_schema) AS y WHERE y.is_year AND y.part_year = p.part_year
            ))
    )
    SELECT
        string_agg(format('SELECT %s FROM %I.%I', columns, in_schema, p.part_name), E'\nUNION ALL\n' ORDER BY p.part_name),
        string_agg(format('%I.%I: %s', in_schema, p.part_name, array_to_string(s.problems, ', ')), '; ' ORDER BY p.part_name)
            FILTER (WHERE s.problems <> '{}')
    INTO query, bad
    FROM parts AS p
    CROSS JOIN LATERAL (SELECT _wh.shape_problems(template, p.part_oid) AS problems) AS s;
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'not all parts have the columns of template %: %', template, left(bad, 1000)
            USING HINT = 'add the column to the yearly tables, and make the days anew';
    END IF;
    RETURN query;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.update_tenant_union_view_by_template(
    template text, schema_name text, exclude_pattern text DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql AS $body$
DECLARE
    query text := _wh.tenant_query(template, schema_name, exclude_pattern);
BEGIN
    IF query IS NULL THEN
        RAISE EXCEPTION 'schema % has no part of template %', schema_name, template
            USING HINT = 'make its days first: update_mv_window_by_template';
    END IF;
    PERFORM _wh.put_view(schema_name, template, query);
    RETURN true;
END
$body$;

-- The schemas that have the tenant's view of a template.
CREATE OR REPLACE FUNCTION _wh.schemas_of(template text) RETURNS SETOF name
LANGUAGE sql STABLE AS $body$
    SELECT n.nspname
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    WHERE c.relkind = 'v' AND c.relname = template AND n.nspname NOT IN ('public', '_wh') AND n.nspname !~ '^pg_'
    ORDER BY n.nspname
$body$;

CREATE OR REPLACE FUNCTION _wh.update_public_view_by_template(template text) RETURNS boolean
LANGUAGE plpgsql AS $body$
DECLARE
    columns text;
    query text;
BEGIN
    SELECT string_agg(quote_ident(c.column_name), ', ' ORDER BY c.place) INTO columns
    FROM _wh.columns_in((_wh.template_of(template)).column_definitions) AS c;
    SELECT string_agg(format('SELECT %s, %L::text AS schema_name FROM %I.%I', columns, s, s, template), E'\nUNION ALL\n' ORDER BY s)
    INTO query
    FROM _wh.schemas_of(template) AS s;
    IF query IS NULL THEN
        RAISE EXCEPTION 'no tenant has a view of template %', template
            USING HINT = 'make them first: update_tenant_union_view_by_template';
    END IF;
    PERFORM _wh.put_view('public', template, query);
    EXECUTE format('GRANT SELECT ON public.%I TO wh_read, wh_write', template);
    RETURN true;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.drop_public_view_by_template(template text) RETURNS jsonb
LANGUAGE plpgsql AS $body$
BEGIN
    IF to_regclass(format('public.%I', template)) IS NOT NULL THEN
        PERFORM _wh.drop_part('public', template);
    END IF;
    RETURN jsonb_build_object('success', true);
END
$body$;

CREATE OR REPLACE FUNCTION _wh.drop_all_tenant_union_views_by_template(template text) RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    tenant_schema name;
    dropped integer := 0;
BEGIN
    FOR tenant_schema IN SELECT s FROM _wh.schemas_of(template) AS s LOOP
        PERFORM _wh.drop_part(tenant_schema, template);
        dropped := dropped + 1;
    END LOOP;
    RETURN jsonb_build_object('success_count', dropped, 'error_count', 0);
END
$body$;
