-- The parts of a template in a schema: a materialized view for each day, a table for each finished year.

CREATE OR REPLACE FUNCTION _wh.parts_of(template text, in_schema text DEFAULT NULL)
RETURNS TABLE (schema_name name, part_name name, part_oid oid, is_year boolean, part_day date, part_year integer)
LANGUAGE sql STABLE AS $body$
    SELECT n.nspname, c.relname, c.oid, c.relkind <> 'm', d.day, left(s.suffix, 4)::integer
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    CROSS JOIN LATERAL (SELECT substr(c.relname, length(template) + 2) AS suffix) AS s
    CROSS JOIN LATERAL (
        SELECT
            -- The day of a month that has it, whatever somebody called a view.
            CASE WHEN s.suffix ~ '^[12]\d{3}_(0[1-9]|1[0-2])_(0[1-9]|[12]\d|3[01])$' THEN
                make_date(left(s.suffix, 4)::integer, substr(s.suffix, 6, 2)::integer, 1) + right(s.suffix, 2)::integer - 1
            END AS day
    ) AS d
    WHERE
        starts_with(c.relname, template || '_')
        AND (
            (c.relkind = 'm' AND to_char(d.day, 'YYYY_MM_DD') = s.suffix)
            OR (c.relkind IN ('r', 'p') AND s.suffix ~ '^[12]\d{3}$')
        )
        AND n.nspname NOT IN ('public', '_wh') AND n.nspname !~ '^pg_'
        AND (in_schema IS NULL OR n.nspname = in_schema)
$body$;

CREATE OR REPLACE FUNCTION _wh.day_name(template text, day date) RETURNS name
LANGUAGE sql IMMUTABLE AS $body$
    SELECT (template || to_char(day, '_YYYY_MM_DD'))::name
$body$;

-- What is missing or of another type in a relation, against the template; empty when it has all that is wanted.
CREATE OR REPLACE FUNCTION _wh.shape_problems(template text, relation oid) RETURNS text[]
LANGUAGE sql STABLE AS $body$
    SELECT coalesce(array_agg(
        CASE WHEN a.attname IS NULL THEN format('%s is missing', w.column_name)
            ELSE format('%s is %s, not %s', w.column_name, format_type(a.atttypid, a.atttypmod), w.data_type)
        END ORDER BY w.place
    ), '{}')
    FROM _wh.columns_in((_wh.template_of(template)).column_definitions) AS w
    LEFT JOIN pg_attribute AS a ON a.attrelid = relation AND a.attname = w.column_name AND NOT a.attisdropped
    WHERE a.attname IS NULL OR format_type(a.atttypid, a.atttypmod) <> w.data_type
$body$;

-- The template's index statements for one relation. Names that would be cut off end in a hash, so that none are equal.
CREATE OR REPLACE FUNCTION _wh.index_statements(template text, in_schema text, relation text) RETURNS SETOF text
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    statement text;
    wanted text;
    given text;
BEGIN
    FOR statement IN SELECT i FROM _wh.list_items((_wh.template_of(template)).indexes, ';') AS i WHERE i <> '' LOOP
        given := substring(statement FROM '(?i)^CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:IF\s+NOT\s+EXISTS\s+)?(\S+)\s+ON\s');
        IF given IS NULL THEN
            RAISE EXCEPTION 'no index statement of template %: %', template, statement
                USING HINT = 'write: CREATE [UNIQUE] INDEX name_with_{SCHEMA}_and_{VIEW_NAME} ON {SCHEMA}.{VIEW_NAME} (…)';
        END IF;
        wanted := replace(replace(btrim(given, '"'), '{SCHEMA}', in_schema), '{VIEW_NAME}', relation);
        IF octet_length(wanted) > 63 THEN
            wanted := left(wanted, 54) || '_' || left(md5(wanted), 8);
        END IF;
        statement := overlay(statement PLACING quote_ident(wanted) FROM position(given IN statement) FOR length(given));
        RETURN NEXT replace(replace(statement, '{SCHEMA}', quote_ident(in_schema)), '{VIEW_NAME}', quote_ident(relation));
    END LOOP;
END
$body$;

-- The query of one day's materialized view. The tenant's password is behind the server's name, not in here.
CREATE OR REPLACE FUNCTION _wh.day_query(template text, tenant text, day date) RETURNS text
LANGUAGE sql STABLE AS $body$
    SELECT format(
        'SELECT %1$s FROM public.dblink(%2$L, %3$L) AS source (%4$s)',
        string_agg(quote_ident(c.column_name), ', ' ORDER BY c.place),
        _wh.server_of(tenant),
        replace(t.query_template, '{TARGET_DATE}', day::text),
        string_agg(format('%I %s', c.column_name, c.data_type), ', ' ORDER BY c.place)
    )
    FROM _wh.template_of(template) AS t
    CROSS JOIN LATERAL _wh.columns_in(t.column_definitions) AS c
    GROUP BY t.query_template
$body$;

CREATE OR REPLACE FUNCTION _wh.prepare_schema(tenant_schema text) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_namespace AS n WHERE n.nspname = tenant_schema) THEN
        EXECUTE format('CREATE SCHEMA %I', tenant_schema);
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO wh_admin, wh_read, wh_write', tenant_schema);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO wh_read', tenant_schema);
    EXECUTE format(
        'ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO wh_write', tenant_schema
    );
END
$body$;

-- Create one day's materialized view, filled, with its indexes; false when it is there already.
CREATE OR REPLACE FUNCTION _wh.create_mv_from_template(template text, tenant_connection text, schema_name text, day date)
RETURNS boolean
LANGUAGE plpgsql AS $body$
DECLARE
    view_name name := _wh.day_name(template, day);
    statement text;
BEGIN
    PERFORM _wh.template_of(template);
    IF NOT EXISTS (SELECT FROM _wh.tenant_connections AS c WHERE c.tenant_name = tenant_connection) THEN
        RAISE EXCEPTION 'there is no tenant connection %', quote_nullable(tenant_connection)
            USING HINT = 'see _wh.tenant_connections';
    END IF;
    IF to_regclass(format('%I.%I', schema_name, view_name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM _wh.prepare_schema(schema_name);
    EXECUTE format(
        'CREATE MATERIALIZED VIEW %I.%I AS %s', schema_name, view_name, _wh.day_query(template, tenant_connection, day)
    );
    FOR statement IN SELECT s FROM _wh.index_statements(template, schema_name, view_name) AS s LOOP
        EXECUTE statement;
    END LOOP;
    RETURN true;
END
$body$;

-- Bring one day up to date: create it, refresh it or, when it has another shape than the template, make it anew.
-- Days that are over change no more: only today and, if wanted, yesterday are refreshed.
CREATE OR REPLACE FUNCTION _wh.update_mv_by_template(
    template text, tenant_connection text, schema_name text, day date DEFAULT NULL,
    allow_refresh_yesterday boolean DEFAULT true, update_union_view boolean DEFAULT true
) RETURNS boolean
LANGUAGE plpgsql AS $body$
DECLARE
    wanted date := coalesce(day, _wh.current_date_utc());
    view_name name := _wh.day_name(template, wanted);
    old regclass := to_regclass(format('%I.%I', schema_name, view_name));
    is_new boolean := old IS NULL;
BEGIN
    IF old IS NOT NULL AND _wh.shape_problems(template, old) <> '{}' THEN
        PERFORM _wh.drop_part(schema_name, view_name);
        is_new := true;
    END IF;
    IF is_new THEN
        PERFORM _wh.create_mv_from_template(template, tenant_connection, schema_name, wanted);
    ELSIF wanted >= _wh.current_date_utc() - allow_refresh_yesterday::integer THEN
        EXECUTE format('REFRESH MATERIALIZED VIEW %I.%I', schema_name, view_name);
    END IF;
    IF update_union_view AND is_new THEN
        PERFORM _wh.update_tenant_union_view_by_template(template, schema_name);
    END IF;
    RETURN true;
END
$body$;

-- Drop a part; who depends on it is named, and stays.
CREATE OR REPLACE FUNCTION _wh.drop_part(schema_name text, part_name text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    part regclass := to_regclass(format('%I.%I', schema_name, part_name));
    users text := _wh.users_of(part);
BEGIN
    IF users IS NOT NULL THEN
        RAISE EXCEPTION '% is used by %', part, users
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'drop the union views of its template first';
    END IF;
    EXECUTE format(
        'DROP %s %s',
        CASE (SELECT c.relkind FROM pg_class AS c WHERE c.oid = part)
            WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'v' THEN 'VIEW' ELSE 'TABLE'
        END, part
    );
END
$body$;

-- The views that read a relation, as a list; NULL when there is none.
CREATE OR REPLACE FUNCTION _wh.users_of(relation oid) RETURNS text
LANGUAGE sql STABLE AS $body$
    SELECT string_agg(DISTINCT r.ev_class::regclass::text, ', ')
    FROM pg_depend AS d
    INNER JOIN pg_rewrite AS r ON d.objid = r.oid
    WHERE
        d.refclassid = 'pg_class'::regclass AND d.refobjid = relation AND d.classid = 'pg_rewrite'::regclass
        AND r.ev_class <> relation
$body$;

-- Bring every day of a window up to date. Each is tried by itself: one that fails is in the result and loses no other.
-- The bounds are timestamps because a date minus an interval is one.
CREATE OR REPLACE FUNCTION _wh.update_mv_window_by_template(
    template text, tenant_connection text, schema_name text, start_date timestamp, end_date timestamp,
    update_union_view boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    wanted date;
    results jsonb := '[]';
    good integer := 0;
    bad integer := 0;
BEGIN
    PERFORM _wh.template_of(template);
    FOR wanted IN SELECT d::date FROM generate_series(start_date::date, end_date::date, interval '1 day') AS d LOOP
        BEGIN
            PERFORM _wh.update_mv_by_template(template, tenant_connection, schema_name, wanted, true, false);
            good := good + 1;
            results := results || jsonb_build_object('date', wanted, 'success', true);
        EXCEPTION WHEN OTHERS THEN
            bad := bad + 1;
            results := results || jsonb_build_object('date', wanted, 'success', false, 'error', sqlerrm);
            PERFORM _wh.log_error('a day could not be brought up to date', jsonb_build_object(
                'template', template, 'schema', schema_name, 'date', wanted, 'error', sqlerrm
            ));
        END;
    END LOOP;
    IF bad > 0 THEN
        RAISE WARNING '% of % days of %.% could not be brought up to date', bad, good + bad, schema_name, template
            USING HINT = 'see error in the results';
    END IF;
    IF update_union_view THEN
        PERFORM _wh.update_tenant_union_view_by_template(template, schema_name);
    END IF;
    RETURN jsonb_build_object('success_count', good, 'error_count', bad, 'results', results);
END
$body$;
