-- A warehouse as installations have it that made their functions themselves, by the runbook's names and with its flaws: they
-- return errors, drop with CASCADE, unite by place, take _ for a wildcard, and write passwords into definitions.
CREATE EXTENSION IF NOT EXISTS dblink WITH SCHEMA public;
CREATE SCHEMA _wh;
CREATE TABLE _wh.mv_templates (
    template_name text PRIMARY KEY, description text, query_template text NOT NULL, column_definitions text NOT NULL,
    indexes text, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now()
);
CREATE TABLE _wh.tenant_connections (
    tenant_name text PRIMARY KEY, host text, port integer DEFAULT 5432, dbname text, username text, password text,
    created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now()
);

CREATE FUNCTION _wh.create_mv_from_template(p_template text, p_tenant text, p_schema text, p_date date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    t _wh.mv_templates;
    c _wh.tenant_connections;
    v text := p_template || to_char(p_date, '_YYYY_MM_DD');
BEGIN
    SELECT * INTO t FROM _wh.mv_templates WHERE template_name = p_template;
    SELECT * INTO c FROM _wh.tenant_connections WHERE tenant_name = p_tenant;
    IF to_regclass(p_schema || '.' || v) IS NOT NULL THEN
        EXECUTE 'REFRESH MATERIALIZED VIEW ' || p_schema || '.' || v;
        RETURN true;
    END IF;
    EXECUTE 'CREATE MATERIALIZED VIEW ' || p_schema || '.' || v || ' AS SELECT * FROM public.dblink(''host=' || c.host
        || ' port=' || c.port || ' dbname=' || c.dbname || ' user=' || c.username || ' password=' || c.password || ''', '
        || quote_literal(replace(t.query_template, '{TARGET_DATE}', p_date::text)) || ') AS t (' || t.column_definitions || ')';
    EXECUTE replace(replace(t.indexes, '{SCHEMA}', p_schema), '{VIEW_NAME}', v);
    RETURN true;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END $$;

CREATE FUNCTION _wh.update_tenant_union_view_by_template(p_template text, p_schema text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'DROP VIEW IF EXISTS ' || p_schema || '.' || p_template || ' CASCADE';
    EXECUTE 'CREATE VIEW ' || p_schema || '.' || p_template || ' AS ' || (
        SELECT string_agg('SELECT * FROM ' || n.nspname || '.' || c.relname, ' UNION ALL ' ORDER BY c.relname)
        FROM pg_class AS c INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
        WHERE n.nspname = p_schema AND c.relkind IN ('m', 'r') AND c.relname ~ ('^' || p_template || '_\d{4}(_\d\d_\d\d)?$')
    );
    RETURN true;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END $$;

CREATE FUNCTION _wh.update_mv_window_by_template(
    p_template text, p_tenant text, p_schema text, p_start date, p_end date, p_view boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    d date;
    good integer := 0;
    bad integer := 0;
BEGIN
    FOR d IN SELECT generate_series(p_start, p_end, interval '1 day') LOOP
        IF _wh.create_mv_from_template(p_template, p_tenant, p_schema, d) THEN
            good := good + 1;
        ELSE
            bad := bad + 1;
        END IF;
    END LOOP;
    IF p_view THEN
        PERFORM _wh.update_tenant_union_view_by_template(p_template, p_schema);
    END IF;
    RETURN jsonb_build_object('success_count', good, 'error_count', bad);
END $$;

CREATE FUNCTION _wh.update_public_view_by_template(p_template text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'DROP VIEW IF EXISTS public.' || p_template || ' CASCADE';
    EXECUTE 'CREATE VIEW public.' || p_template || ' AS ' || (
        SELECT string_agg('SELECT *, ''' || schemaname || '''::text AS schema_name FROM ' || schemaname || '.' || viewname, ' UNION ALL ' ORDER BY schemaname)
        FROM pg_views WHERE viewname = p_template AND schemaname <> 'public'
    );
    RETURN true;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END $$;

CREATE FUNCTION _wh.drop_public_view_by_template(p_template text) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'DROP VIEW IF EXISTS public.' || p_template || ' CASCADE';
    RETURN '{"success": true}';
END $$;

CREATE FUNCTION _wh.drop_all_tenant_union_views_by_template(p_template text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v record;
    good integer := 0;
BEGIN
    FOR v IN SELECT * FROM pg_views WHERE viewname = p_template AND schemaname NOT IN ('public', '_wh') LOOP
        EXECUTE 'DROP VIEW ' || v.schemaname || '.' || v.viewname || ' CASCADE';
        good := good + 1;
    END LOOP;
    RETURN jsonb_build_object('success_count', good, 'error_count', 0);
END $$;

CREATE FUNCTION _wh.add_column_to_yearly_tables_by_template(
    p_template text, p_column text, p_type text, p_default text DEFAULT NULL, p_index boolean DEFAULT false
) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    t record;
    good integer := 0;
    bad integer := 0;
BEGIN
    FOR t IN SELECT * FROM pg_tables WHERE tablename ~ ('^' || p_template || '_\d{4}$') LOOP
        BEGIN
            EXECUTE 'ALTER TABLE ' || t.schemaname || '.' || t.tablename || ' ADD COLUMN IF NOT EXISTS ' || p_column || ' '
                || p_type || coalesce(' DEFAULT ' || quote_literal(p_default), '');
            IF p_index THEN
                EXECUTE 'CREATE INDEX IF NOT EXISTS idx_' || t.schemaname || '_' || t.tablename || '_' || p_column || ' ON '
                    || t.schemaname || '.' || t.tablename || ' (' || p_column || ')';
            END IF;
            good := good + 1;
        EXCEPTION WHEN OTHERS THEN
            bad := bad + 1;
        END;
    END LOOP;
    RETURN jsonb_build_object('success_count', good, 'error_count', bad, 'column_name', p_column);
END $$;

CREATE FUNCTION _wh.drop_current_year_mvs_by_template(p_template text, p_year integer) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    m record;
    good integer := 0;
BEGIN
    FOR m IN SELECT * FROM pg_matviews WHERE matviewname LIKE p_template || '_' || p_year || '_%' LOOP
        EXECUTE 'DROP MATERIALIZED VIEW ' || m.schemaname || '.' || m.matviewname || ' CASCADE';
        good := good + 1;
    END LOOP;
    RETURN jsonb_build_object('success_count', good, 'error_count', 0, 'target_year', p_year);
END $$;
