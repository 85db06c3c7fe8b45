-- The parts of a template in a schema: a materialized view for each day, a table for each finished year, or for months that
-- were folded before.

-- Without a schema, those of every tenant; what a change keeps beside them is left out. A part has the days from one, up
-- to another that it has not.
CREATE OR REPLACE FUNCTION _wh.parts_of(template text, in_schema text DEFAULT NULL)
RETURNS TABLE (
    schema_name name, part_name name, part_oid oid, is_table boolean, part_day date, part_from date, part_until date
)
LANGUAGE sql STABLE AS $body$
    SELECT n.nspname, c.relname, c.oid, c.relkind <> 'm', d.day, coalesce(d.day, p.first), coalesce(d.day + 1, p.until)
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    CROSS JOIN LATERAL (SELECT substr(c.relname, length(template) + 2) AS suffix) AS s
    CROSS JOIN LATERAL (
        SELECT
            -- The day of a month that has it, whatever somebody called a view.
            CASE WHEN c.relkind = 'm' AND s.suffix ~ '^[12]\d{3}_(0[1-9]|1[0-2])_(0[1-9]|[12]\d|3[01])$' THEN
                make_date(left(s.suffix, 4)::integer, substr(s.suffix, 6, 2)::integer, 1) + right(s.suffix, 2)::integer - 1
            END AS day,
            CASE WHEN c.relkind IN ('r', 'p') AND s.suffix ~ '^[12]\d{3}(_(0[1-9]|1[0-2]))?$' THEN
                replace(s.suffix, '_', '-')
            END AS period
    ) AS d
    LEFT JOIN LATERAL _wh.period(d.period) AS p ON d.period IS NOT NULL
    WHERE
        starts_with(c.relname, template || '_')
        AND (d.period IS NOT NULL OR to_char(d.day, 'YYYY_MM_DD') = s.suffix)
        AND n.nspname <> 'public'
        AND CASE WHEN in_schema IS NULL THEN n.nspname !~ '^(_wh|pg_)' ELSE n.nspname = in_schema END
$body$;

-- The tables of a schema that are read: not a month's whose year has one.
CREATE OR REPLACE FUNCTION _wh.tables_of(template text, in_schema text)
RETURNS TABLE (schema_name name, part_name name, part_oid oid, part_from date, part_until date)
LANGUAGE sql STABLE AS $body$
    SELECT t.schema_name, t.part_name, t.part_oid, t.part_from, t.part_until
    FROM _wh.parts_of(template, in_schema) AS t
    WHERE
        t.is_table
        AND NOT EXISTS (
            SELECT FROM _wh.parts_of(template, in_schema) AS l
            WHERE l.is_table AND l.part_oid <> t.part_oid AND l.part_from <= t.part_from AND t.part_until <= l.part_until
        )
$body$;

-- Where a day of a shape is: at the end of a change the days of the new shape are put in their places one by one.
CREATE OR REPLACE FUNCTION _wh.day_place(s _wh.shape, day date) RETURNS text
LANGUAGE sql STABLE AS $body$
    SELECT
        CASE
            WHEN s.shape = 'new' AND EXISTS (
                SELECT FROM _wh.change_work AS w
                WHERE
                    w.template_name = s.template_name AND w.what = 'day' AND w.schema_name = s.schema_name
                    AND w.day = day_place.day AND w.retired_at IS NOT NULL
            ) THEN s.schema_name
            ELSE s.days_schema
        END
$body$;

-- The daily views of a shape.
CREATE OR REPLACE FUNCTION _wh.days_of(s _wh.shape)
RETURNS TABLE (schema_name name, part_name name, part_oid oid, part_day date)
LANGUAGE sql STABLE AS $body$
    SELECT p.schema_name, p.part_name, p.part_oid, p.part_day FROM _wh.parts_of(s.template_name, s.days_schema) AS p WHERE NOT p.is_table
    UNION ALL
    SELECT p.schema_name, p.part_name, p.part_oid, p.part_day
    FROM _wh.parts_of(s.template_name, s.schema_name) AS p
    INNER JOIN _wh.change_work AS w
        ON
            w.template_name = s.template_name AND w.what = 'day' AND w.schema_name = s.schema_name
            AND p.part_day = w.day AND w.retired_at IS NOT NULL
    WHERE NOT p.is_table AND s.shape = 'new'
$body$;

-- The parts of a shape that its view reads: tables, and the days that are in none of them.
CREATE OR REPLACE FUNCTION _wh.read_parts_of(s _wh.shape) RETURNS TABLE (schema_name name, part_name name, part_oid oid)
LANGUAGE sql STABLE AS $body$
    WITH tables AS (
        SELECT t.* FROM _wh.tables_of(s.template_name, s.schema_name) AS t
    )
    SELECT t.schema_name, t.part_name, t.part_oid FROM tables AS t
    UNION ALL
    SELECT d.schema_name, d.part_name, d.part_oid
    FROM _wh.days_of(s) AS d
    WHERE NOT EXISTS (SELECT FROM tables AS t WHERE t.part_from <= d.part_day AND d.part_day < t.part_until)
$body$;

CREATE OR REPLACE FUNCTION _wh.day_name(template text, day date) RETURNS name
LANGUAGE sql IMMUTABLE AS $body$
    SELECT (template || to_char(day, '_YYYY_MM_DD'))::name
$body$;

-- The columns of a shape, and what they are called in one of its parts: a yearly table may have another name for one while
-- the template changes.
CREATE OR REPLACE FUNCTION _wh.columns_of(s _wh.shape, part oid)
RETURNS TABLE (place integer, column_name name, data_type text, physical_name name)
LANGUAGE sql STABLE AS $body$
    SELECT c.place, c.column_name, c.data_type, coalesce(a.attname, c.column_name)
    FROM _wh.columns_in(s.column_definitions) AS c
    LEFT JOIN pg_attribute AS a
        ON a.attrelid = part AND a.attname = s.year_columns ->> c.column_name AND NOT a.attisdropped
$body$;

-- What is missing or of another type in a part, against its shape; empty when it has all that is wanted.
CREATE OR REPLACE FUNCTION _wh.shape_problems(s _wh.shape, part oid) RETURNS text[]
LANGUAGE sql STABLE AS $body$
    SELECT coalesce(array_agg(
        CASE WHEN a.attname IS NULL THEN format('%s is missing', w.physical_name)
            ELSE format('%s is %s, not %s', w.physical_name, format_type(a.atttypid, a.atttypmod), w.data_type)
        END ORDER BY w.place
    ), '{}')
    FROM _wh.columns_of(s, part) AS w
    LEFT JOIN pg_attribute AS a ON a.attrelid = part AND w.physical_name = a.attname AND NOT a.attisdropped
    WHERE a.attname IS NULL OR format_type(a.atttypid, a.atttypmod) <> w.data_type
$body$;

-- The template's index statements for one part. Their names are the same wherever the part is kept meanwhile; one that
-- would be cut off ends in a hash, so that none are equal.
CREATE OR REPLACE FUNCTION _wh.index_statements(s _wh.shape, part text) RETURNS SETOF text
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    statement text;
    wanted text;
    given text;
BEGIN
    FOR statement IN SELECT i FROM _wh.list_items(s.indexes, ';') AS i WHERE i <> '' LOOP
        given := substring(statement FROM '(?i)^CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:IF\s+NOT\s+EXISTS\s+)?(\S+)\s+ON\s');
        IF given IS NULL THEN
            RAISE EXCEPTION 'no index statement of template %: %', s.template_name, statement
                USING HINT = 'write: CREATE [UNIQUE] INDEX name_with_{SCHEMA}_and_{VIEW_NAME} ON {SCHEMA}.{VIEW_NAME} (…)';
        END IF;
        wanted := replace(replace(btrim(given, '"'), '{SCHEMA}', s.schema_name), '{VIEW_NAME}', part);
        IF octet_length(wanted) > 63 THEN
            wanted := left(wanted, 54) || '_' || left(md5(wanted), 8);
        END IF;
        statement := overlay(statement PLACING quote_ident(wanted) FROM position(given IN statement) FOR length(given));
        RETURN NEXT replace(replace(statement, '{SCHEMA}', quote_ident(s.days_schema)), '{VIEW_NAME}', quote_ident(part));
    END LOOP;
END
$body$;

-- The call that asks a tenant's source for one day, and the names and types of what it gives. The tenant's password is
-- behind the server's name, not in here.
CREATE OR REPLACE FUNCTION _wh.source_query(s _wh.shape, tenant text, day date) RETURNS text
LANGUAGE sql STABLE AS $body$
    SELECT format(
        'public.dblink(%L, %L) AS source (%s)',
        _wh.server_of(tenant),
        replace(s.query_template, '{TARGET_DATE}', day::text),
        string_agg(format('%I %s', c.column_name, c.data_type), ', ' ORDER BY c.place)
    )
    FROM _wh.columns_in(s.column_definitions) AS c
$body$;

CREATE OR REPLACE FUNCTION _wh.prepare_schema(tenant_schema text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    before text;
BEGIN
    -- One that somebody has made before is granted by whom it belongs to.
    IF
        EXISTS (SELECT FROM pg_namespace AS n WHERE n.nspname = tenant_schema)
        AND NOT (
            has_schema_privilege('wh_read', tenant_schema, 'USAGE') AND has_schema_privilege('wh_admin', tenant_schema, 'CREATE')
        )
    THEN
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO wh_admin', tenant_schema);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO wh_read, wh_write', tenant_schema);
    END IF;
    before := _wh.be_admin();
    IF NOT EXISTS (SELECT FROM pg_namespace AS n WHERE n.nspname = tenant_schema) THEN
        EXECUTE format('CREATE SCHEMA %I', tenant_schema);
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO wh_admin', tenant_schema);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO wh_read, wh_write', tenant_schema);
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_default_acl AS d
        WHERE d.defaclrole = current_user::regrole AND d.defaclnamespace = quote_ident(tenant_schema)::regnamespace
    ) THEN
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO wh_read', tenant_schema);
        EXECUTE format(
            'ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO wh_write', tenant_schema
        );
    END IF;
    PERFORM _wh.be_again(before);
END
$body$;

-- Create one day's materialized view of a shape, with its indexes; false when it is there already.
CREATE OR REPLACE FUNCTION _wh.create_day(s _wh.shape, tenant text, day date, with_data boolean DEFAULT true) RETURNS boolean
LANGUAGE plpgsql AS $body$
DECLARE
    view_name name := _wh.day_name(s.template_name, day);
    statement text;
    before text;
BEGIN
    IF to_regclass(format('%I.%I', s.days_schema, view_name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM _wh.prepare_schema(s.days_schema);
    before := _wh.be_admin();
    EXECUTE format(
        'CREATE MATERIALIZED VIEW %I.%I AS SELECT %s FROM %s WITH %s DATA', s.days_schema, view_name,
        (SELECT string_agg(quote_ident(c.column_name), ', ' ORDER BY c.place) FROM _wh.columns_in(s.column_definitions) AS c),
        _wh.source_query(s, tenant, day), CASE WHEN with_data THEN '' ELSE 'NO' END
    );
    FOR statement IN SELECT i FROM _wh.index_statements(s, view_name) AS i LOOP
        EXECUTE statement;
    END LOOP;
    PERFORM _wh.be_again(before);
    RETURN true;
END
$body$;

-- Remember which tenant a schema's parts come from; another one is refused.
CREATE OR REPLACE FUNCTION _wh.note_tenant(tenant text, in_schema text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    known text := (SELECT t.tenant_name FROM _wh.tenant_schemas AS t WHERE t.schema_name = in_schema);
BEGIN
    IF known = tenant THEN
        RETURN;
    END IF;
    IF known IS NOT NULL THEN
        RAISE EXCEPTION 'schema % has the data of tenant connection %, not of %', in_schema, known, quote_nullable(tenant)
            USING HINT = 'see _wh.tenant_schemas';
    END IF;
    IF NOT EXISTS (SELECT FROM _wh.tenant_connections AS c WHERE c.tenant_name = tenant) THEN
        RAISE EXCEPTION 'there is no tenant connection %', quote_nullable(tenant) USING HINT = 'see _wh.tenant_connections';
    END IF;
    INSERT INTO _wh.tenant_schemas (schema_name, tenant_name) VALUES (in_schema, tenant);
END
$body$;

-- Create one day's materialized view, filled, with its indexes; false when it is there already. While the template
-- changes, the day is made in both shapes.
CREATE OR REPLACE FUNCTION _wh.create_mv_from_template(template text, tenant_connection text, schema_name text, day date)
RETURNS boolean
LANGUAGE plpgsql AS $body$
DECLARE
    s _wh.shape;
    created boolean := false;
BEGIN
    PERFORM _wh.lock_template(template, true);
    PERFORM _wh.lock_source(tenant_connection);
    PERFORM _wh.note_tenant(tenant_connection, schema_name);
    FOR s IN SELECT * FROM _wh.day_shapes_of(template, schema_name) LOOP
        s.days_schema := _wh.day_place(s, day);
        created := _wh.create_day(s, tenant_connection, day) OR created;
        IF s.shape = 'new' THEN
            PERFORM _wh.note_work(template, schema_name, day);
        END IF;
    END LOOP;
    RETURN created;
END
$body$;

-- CONCURRENTLY, so that readers need not wait while the source is asked, where a view has rows and a unique index.
CREATE OR REPLACE FUNCTION _wh.concurrently(part regclass) RETURNS text
LANGUAGE sql STABLE AS $body$
    SELECT
        CASE
            WHEN c.relispopulated AND EXISTS (
                SELECT FROM pg_index AS i
                WHERE
                    i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
            ) THEN 'CONCURRENTLY'
            ELSE ''
        END
    FROM pg_class AS c
    WHERE c.oid = part
$body$;

-- Bring one day up to date: create it, refresh it or, when it has another shape than the template, make it anew.
-- Days that are over change no more: only today and, if wanted, yesterday are refreshed. While the template changes,
-- both shapes are kept up to date.
CREATE OR REPLACE FUNCTION _wh.update_mv_by_template(
    template text, tenant_connection text, schema_name text, day date DEFAULT NULL,
    allow_refresh_yesterday boolean DEFAULT true, update_union_view boolean DEFAULT true
) RETURNS boolean
LANGUAGE plpgsql AS $body$
DECLARE
    wanted date := coalesce(day, _wh.current_date_utc());
    view_name name := _wh.day_name(template, wanted);
    s _wh.shape;
    part regclass;
    beside name;
    is_new boolean := false;
    stale name[] := '{}';
BEGIN
    -- Tenants are brought up to date side by side, but for their views.
    PERFORM _wh.lock_template(template, NOT update_union_view);
    PERFORM _wh.lock_source(tenant_connection);
    FOR s IN SELECT * FROM _wh.day_shapes_of(template, schema_name) LOOP
        s.days_schema := _wh.day_place(s, wanted);
        part := to_regclass(format('%I.%I', s.days_schema, view_name));
        IF part IS NOT NULL AND _wh.shape_problems(s, part) <> '{}' THEN
            -- The view reads it until it is made anew.
            PERFORM _wh.put_aside(s.days_schema, view_name);
            stale := stale || _wh.beside('old', s.days_schema);
        ELSIF part IS NOT NULL AND wanted >= _wh.current_date_utc() - allow_refresh_yesterday::integer THEN
            EXECUTE format('REFRESH MATERIALIZED VIEW %s %s', _wh.concurrently(part), part);
        END IF;
    END LOOP;
    is_new := _wh.create_mv_from_template(template, tenant_connection, schema_name, wanted);
    PERFORM _wh.update_aside(
        template, tenant_connection, schema_name, wanted,
        wanted < _wh.current_date_utc() - allow_refresh_yesterday::integer
    );
    IF is_new AND (update_union_view OR (stale <> '{}' AND to_regclass(format('%I.%I', schema_name, template)) IS NOT NULL)) THEN
        PERFORM _wh.update_tenant_union_view_by_template(template, schema_name);
    END IF;
    FOREACH beside IN ARRAY stale LOOP
        PERFORM _wh.drop_part(beside, view_name);
        PERFORM _wh.drop_beside_schemas('old');
    END LOOP;
    RETURN true;
END
$body$;

-- Move a day to where old ones are, beside its schema; views read it wherever it is.
CREATE OR REPLACE FUNCTION _wh.put_aside(in_schema text, part_name text) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM _wh.prepare_schema(_wh.beside('old', in_schema));
    EXECUTE format('ALTER MATERIALIZED VIEW %I.%I SET SCHEMA %I', in_schema, part_name, _wh.beside('old', in_schema));
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
    IF update_union_view AND good > 0 THEN
        PERFORM _wh.update_tenant_union_view_by_template(template, schema_name);
    END IF;
    RETURN jsonb_build_object('success_count', good, 'error_count', bad, 'results', results);
END
$body$;
