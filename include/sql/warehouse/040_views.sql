-- The views over the parts: of a tenant, and the public one over all tenants. Columns are named, in the template's order.

-- Make or replace a view. Columns that come, go or change need the view to be dropped, which nobody may depend on then;
-- its owner, grants, options and comments are carried over.
CREATE OR REPLACE FUNCTION _wh.put_view(in_schema text, view_name text, query text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    old regclass := to_regclass(format('%I.%I', in_schema, view_name));
    users text := _wh.users_of(old);
    rights text[];
    before text := _wh.be_admin();
BEGIN
    IF old IS NOT NULL AND (SELECT c.relkind FROM pg_class AS c WHERE c.oid = old) <> 'v' THEN
        RAISE EXCEPTION '% is no view', old USING HINT = 'something else has the name that the template''s view needs';
    END IF;
    BEGIN
        EXECUTE format('CREATE OR REPLACE VIEW %I.%I AS %s', in_schema, view_name, query);
        PERFORM _wh.be_again(before);
        RETURN;
    EXCEPTION WHEN invalid_table_definition THEN
        IF users IS NOT NULL THEN
            RAISE EXCEPTION '% gets other columns, and is used by %', old, users
                USING ERRCODE = 'dependent_objects_still_exist', HINT = 'drop those views first, and make them again afterwards';
        END IF;
    END;
    rights := _wh.rights_of(old);
    EXECUTE format('DROP VIEW %s', old);
    EXECUTE format('CREATE VIEW %I.%I AS %s', in_schema, view_name, query);
    PERFORM _wh.give_rights(rights, in_schema, view_name);
    PERFORM _wh.be_again(before);
END
$body$;

-- What a view, materialized view or table is besides its query and columns, as statements with {RELATION} in them: owner,
-- grants, options and comments, also of columns; column by column, so that those which are gone can be left out.
CREATE OR REPLACE FUNCTION _wh.rights_of(relation regclass) RETURNS text[]
LANGUAGE sql STABLE AS $body$
    SELECT array_agg(r.statement ORDER BY r.place)
    FROM pg_class AS c
    CROSS JOIN LATERAL (
        SELECT 1 AS place, format('ALTER TABLE {RELATION} OWNER TO %I', pg_get_userbyid(c.relowner)) AS statement
        UNION ALL
        SELECT 2, format('ALTER VIEW {RELATION} SET (%s)', array_to_string(c.reloptions, ', '))
        WHERE c.relkind = 'v' AND c.reloptions IS NOT NULL
        UNION ALL
        SELECT 3, format('GRANT %s ON {RELATION} TO %s%s', a.privilege_type, g.name, g.onward)
        FROM aclexplode(c.relacl) AS a
        CROSS JOIN LATERAL _wh.grantee(a.grantee, a.is_grantable) AS g
        WHERE a.grantee <> c.relowner
        UNION ALL
        SELECT 4, format('COMMENT ON %s {RELATION} IS %L', k.name, d.description)
        FROM pg_description AS d
        CROSS JOIN LATERAL (
            SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END AS name
        ) AS k
        WHERE d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
        UNION ALL
        SELECT 5, format('GRANT %s (%I) ON {RELATION} TO %s%s', a.privilege_type, t.attname, g.name, g.onward)
        FROM pg_attribute AS t
        CROSS JOIN LATERAL aclexplode(t.attacl) AS a
        CROSS JOIN LATERAL _wh.grantee(a.grantee, a.is_grantable) AS g
        WHERE t.attrelid = c.oid AND NOT t.attisdropped
        UNION ALL
        SELECT 6, format('COMMENT ON COLUMN {RELATION}.%I IS %L', t.attname, d.description)
        FROM pg_description AS d
        INNER JOIN pg_attribute AS t ON d.objoid = t.attrelid AND d.objsubid = t.attnum
        WHERE d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND NOT t.attisdropped
    ) AS r
    WHERE c.oid = relation
$body$;

-- A view's query as it is made again, whoever asks.
CREATE OR REPLACE FUNCTION _wh.definition_of(view regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog AS $body$
    SELECT rtrim(pg_get_viewdef(view), ';')
$body$;

-- Carry out what rights_of has said, for another relation; a column that is not there any more is left out.
CREATE OR REPLACE FUNCTION _wh.give_rights(rights text[], in_schema text, relation text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    statement text;
BEGIN
    FOREACH statement IN ARRAY coalesce(rights, '{}') LOOP
        BEGIN
            EXECUTE replace(statement, '{RELATION}', format('%I.%I', in_schema, relation));
        EXCEPTION WHEN undefined_column THEN
            CONTINUE;
        END;
    END LOOP;
END
$body$;

-- The query over all parts of a tenant. A year or month that has its table is read from that, and not from what is left of
-- its days; a part that has not the columns of the shape is named.
CREATE OR REPLACE FUNCTION _wh.tenant_query(s _wh.shape, exclude_pattern text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    bad text;
    body text;
BEGIN
    WITH
    -- Hundreds of days are alike: what has the same columns is looked at once.
    alike AS (
        SELECT p.schema_name, p.part_name, p.part_oid, a.columns
        FROM _wh.read_parts_of(s) AS p
        CROSS JOIN LATERAL (
            SELECT string_agg(format('%s %s %s', a.attname, a.atttypid, a.atttypmod), ',' ORDER BY a.attname) AS columns
            FROM pg_attribute AS a
            WHERE a.attrelid = p.part_oid AND a.attnum > 0 AND NOT a.attisdropped
        ) AS a
        WHERE exclude_pattern IS NULL OR p.part_name !~ exclude_pattern
    ),
    kinds AS (
        SELECT
            k.columns,
            string_agg(
                CASE
                    WHEN c.present = c.data_type THEN format('%I AS %I', c.physical_name, c.column_name)
                    WHEN c.present IS NOT NULL THEN format('%I::%s AS %I', c.physical_name, c.data_type, c.column_name)
                    ELSE format('(%s)::%s AS %I', coalesce(c.fallback, 'NULL'), c.data_type, c.column_name)
                END, ', ' ORDER BY c.place
            ) AS selected,
            string_agg(
                format(
                    '%s is %s', c.physical_name,
                    CASE WHEN c.present IS NULL THEN 'missing' ELSE format('%s, not %s', c.present, c.data_type) END
                ), ', '
            ) FILTER (WHERE c.present IS DISTINCT FROM c.data_type AND NOT c.may_differ) AS problems
        FROM (SELECT DISTINCT ON (p.columns) p.columns, p.part_oid FROM alike AS p) AS k
        CROSS JOIN LATERAL (
            SELECT
                o.*, format_type(a.atttypid, a.atttypmod) AS present, x.fallback, x.column_name IS NOT NULL AS may_differ
            FROM _wh.columns_of(s, k.part_oid) AS o
            LEFT JOIN pg_attribute AS a ON a.attrelid = k.part_oid AND o.physical_name = a.attname AND NOT a.attisdropped
            LEFT JOIN _wh.adapted_in(s) AS x ON o.column_name = x.column_name
        ) AS c
        GROUP BY k.columns
    )
    SELECT
        string_agg(format('SELECT %s FROM %I.%I', k.selected, p.schema_name, p.part_name), E'\nUNION ALL\n' ORDER BY p.part_name),
        string_agg(format('%I.%I: %s', p.schema_name, p.part_name, k.problems), '; ' ORDER BY p.part_name)
            FILTER (WHERE k.problems IS NOT NULL)
    INTO body, bad
    FROM alike AS p
    INNER JOIN kinds AS k ON p.columns = k.columns;
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'not all parts have the columns of template %: %', s.template_name, left(bad, 1000)
            USING HINT = 'add the column to the yearly tables, and make the days anew';
    END IF;
    RETURN body;
END
$body$;

-- Let wh_admin own the parts that its view is to read, such as a table that one of its members has made by hand.
CREATE OR REPLACE FUNCTION _wh.take_over(s _wh.shape) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    part record;
BEGIN
    IF _wh.works_for_itself() THEN
        RETURN;
    END IF;
    FOR part IN
        SELECT format('%I.%I', p.schema_name, p.part_name) AS name, c.relowner AS owner
        FROM _wh.read_parts_of(s) AS p
        INNER JOIN pg_class AS c ON p.part_oid = c.oid
        WHERE c.relowner <> 'wh_admin'::regrole
    LOOP
        IF NOT pg_has_role(part.owner, 'USAGE') THEN
            RAISE EXCEPTION '% belongs to %, not to wh_admin', part.name, pg_get_userbyid(part.owner)
                USING ERRCODE = 'insufficient_privilege', HINT = 'as a superuser: SELECT _wh.give_to_admin()';
        END IF;
        EXECUTE format('ALTER TABLE %s OWNER TO wh_admin', part.name);
    END LOOP;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.update_tenant_union_view_by_template(
    template text, schema_name text, exclude_pattern text DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql AS $body$
DECLARE
    s _wh.shape;
    body text;
BEGIN
    PERFORM _wh.lock_template(template);
    FOR s IN SELECT * FROM _wh.shapes_of(template, schema_name) LOOP
        -- A new shape has its view once all that it shall show is built.
        CONTINUE WHEN s.shape = 'new' AND to_regclass(format('%I.%I', s.view_schema, template)) IS NULL;
        PERFORM _wh.take_over(s);
        body := _wh.tenant_query(s, exclude_pattern);
        IF body IS NULL THEN
            RAISE EXCEPTION 'schema % has no part of template %', schema_name, template
                USING HINT = 'make its days first: update_mv_window_by_template';
        END IF;
        PERFORM _wh.put_view(s.view_schema, template, body);
    END LOOP;
    RETURN true;
END
$body$;

-- The schemas that have the tenant's view of a template.
CREATE OR REPLACE FUNCTION _wh.schemas_of(template text) RETURNS SETOF name
LANGUAGE sql STABLE AS $body$
    SELECT n.nspname
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    WHERE c.relkind = 'v' AND c.relname = template AND n.nspname <> 'public' AND n.nspname !~ '^(_wh|pg_)'
    ORDER BY n.nspname
$body$;

-- The query over all tenants' views with the columns of a list of definitions; a view that lacks one of them, or has it in
-- another type, is named. Of a change under way the views beside are read by the new one, and early of some tenants.
CREATE OR REPLACE FUNCTION _wh.public_query(template text, definitions text, which text DEFAULT 'current') RETURNS text
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    bad text;
    body text;
BEGIN
    WITH views AS (
        SELECT v.tenant_schema, coalesce(s.view_schema, v.tenant_schema) AS view_schema
        FROM _wh.schemas_of(template) AS v (tenant_schema)
        LEFT JOIN _wh.shapes AS s
            ON
                s.template_name = template AND s.shape = 'new' AND v.tenant_schema = s.schema_name
                AND (which = 'new' OR (which = 'early' AND s.schema_name IN (
                    SELECT e.schema_name FROM _wh.early_readers AS e WHERE e.template_name = template
                )))
    ),
    selects AS (
        SELECT
            v.tenant_schema,
            format(
                'SELECT %s, %L::text AS schema_name FROM %I.%I',
                string_agg(quote_ident(c.column_name), ', ' ORDER BY c.place), v.tenant_schema, v.view_schema, template
            ) AS body,
            string_agg(
                format(
                    '%I.%I: %s is %s', v.view_schema, template, c.column_name,
                    coalesce(format_type(a.atttypid, a.atttypmod), 'missing')
                ), ', '
            ) FILTER (WHERE format_type(a.atttypid, a.atttypmod) IS DISTINCT FROM c.data_type) AS problem
        FROM views AS v
        CROSS JOIN _wh.columns_in(definitions) AS c
        LEFT JOIN pg_attribute AS a
            ON a.attrelid = to_regclass(format('%I.%I', v.view_schema, template)) AND c.column_name = a.attname
        GROUP BY v.tenant_schema, v.view_schema
    )
    SELECT string_agg(s.body, E'\nUNION ALL\n' ORDER BY s.tenant_schema), string_agg(s.problem, '; ')
    INTO body, bad
    FROM selects AS s;
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'not all tenants'' views have the columns of template %: %', template, left(bad, 1000)
            USING HINT = 'bring them up to date: update_tenant_union_view_by_template';
    ELSIF body IS NULL THEN
        RAISE EXCEPTION 'no tenant has a view of template %', template
            USING HINT = 'make them first: update_tenant_union_view_by_template';
    END IF;
    RETURN body;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.update_public_view_by_template(template text) RETURNS boolean
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM _wh.lock_template(template);
    PERFORM _wh.put_view('public', template, _wh.public_query(template, (_wh.template_of(template)).column_definitions, 'early'));
    EXECUTE format('GRANT SELECT ON public.%I TO wh_read, wh_write', template);
    PERFORM _wh.log_info('the public view shows every tenant', jsonb_build_object('template', template));
    RETURN true;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.drop_public_view_by_template(template text) RETURNS jsonb
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM _wh.refuse_change(template);
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
    PERFORM _wh.refuse_change(template);
    FOR tenant_schema IN SELECT s FROM _wh.schemas_of(template) AS s LOOP
        PERFORM _wh.drop_part(tenant_schema, template);
        dropped := dropped + 1;
    END LOOP;
    RETURN jsonb_build_object('success_count', dropped, 'error_count', 0);
END
$body$;
