-- Finished years: tables, and their columns. Everything here is done, or nothing: an error ends the statement.

CREATE OR REPLACE FUNCTION _wh.year_tables(template text) RETURNS TABLE (schema_name name, part_name name, part_oid oid)
LANGUAGE sql STABLE AS $body$
    SELECT p.schema_name, p.part_name, p.part_oid
    FROM _wh.parts_of(template) AS p
    WHERE p.is_table
    ORDER BY p.schema_name, p.part_name
$body$;

-- Add a column to each yearly table that has none of that name. The default fills the rows that are there, and is then
-- taken away: rows of days that are folded later bring their own values.
CREATE OR REPLACE FUNCTION _wh.add_column_to_yearly_tables_by_template(
    template text, column_name text, column_type text, default_value text DEFAULT NULL, create_index boolean DEFAULT false
) RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    wanted text := _wh.type_of(column_type);
    part record;
    changed integer := 0;
    present text;
BEGIN
    PERFORM _wh.refuse_change(template);
    FOR part IN SELECT * FROM _wh.year_tables(template) LOOP
        SELECT format_type(a.atttypid, a.atttypmod) INTO present
        FROM pg_attribute AS a
        WHERE a.attrelid = part.part_oid AND a.attname = column_name AND NOT a.attisdropped;
        IF present IS NULL THEN
            EXECUTE format(
                'ALTER TABLE %I.%I ADD COLUMN %I %s DEFAULT %L', part.schema_name, part.part_name, column_name, wanted,
                default_value
            );
            EXECUTE format(
                'ALTER TABLE %I.%I ALTER COLUMN %I DROP DEFAULT', part.schema_name, part.part_name, column_name
            );
        ELSIF present <> wanted THEN
            RAISE EXCEPTION 'column %.%.% is % already, not %', part.schema_name, part.part_name, column_name, present, wanted
                USING ERRCODE = 'duplicate_column';
        END IF;
        IF create_index THEN
            EXECUTE format(
                'CREATE INDEX IF NOT EXISTS %I ON %I.%I (%I)',
                _wh.index_name(part.schema_name, part.part_name, column_name), part.schema_name, part.part_name, column_name
            );
        END IF;
        changed := changed + 1;
    END LOOP;
    RETURN jsonb_build_object('success_count', changed, 'error_count', 0, 'column_name', column_name);
END
$body$;

CREATE OR REPLACE FUNCTION _wh.index_name(in_schema text, relation text, column_name text) RETURNS name
LANGUAGE sql IMMUTABLE AS $body$
    SELECT (CASE WHEN octet_length(n.long) <= 63 THEN n.long ELSE left(n.long, 54) || '_' || left(md5(n.long), 8) END)::name
    FROM (SELECT concat_ws('_', 'idx', in_schema, relation, column_name) AS long) AS n
$body$;

-- Change a column's type in each yearly table. A value that does not fit is named by PostgreSQL and nothing is changed.
CREATE OR REPLACE FUNCTION _wh.modify_column_in_yearly_tables_by_template(
    template text, column_name text, column_type text, using_expression text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    wanted text := _wh.type_of(column_type);
    part record;
    changed integer := 0;
BEGIN
    PERFORM _wh.refuse_change(template);
    FOR part IN SELECT * FROM _wh.year_tables(template) LOOP
        EXECUTE format(
            'ALTER TABLE %I.%I ALTER COLUMN %I TYPE %s USING %s', part.schema_name, part.part_name, column_name, wanted,
            coalesce(using_expression, format('%I::%s', column_name, wanted))
        );
        changed := changed + 1;
    END LOOP;
    RETURN jsonb_build_object('success_count', changed, 'error_count', 0, 'column_name', column_name);
END
$body$;

-- Remove a column from each yearly table that has it, with the indexes on it alone. Whoever depends on it is named, and
-- nothing is removed.
CREATE OR REPLACE FUNCTION _wh.remove_column_from_yearly_tables_by_template(template text, column_name text) RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    part record;
    users text := _wh.column_users(template, column_name);
    changed integer := 0;
BEGIN
    PERFORM _wh.refuse_change(template);
    IF users IS NOT NULL THEN
        RAISE EXCEPTION 'column % of template % is used by %', column_name, template, users
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'drop the views of the template first, and change the others';
    END IF;
    FOR part IN
        SELECT y.*
        FROM _wh.year_tables(template) AS y
        INNER JOIN pg_attribute AS a ON y.part_oid = a.attrelid AND a.attname = column_name AND NOT a.attisdropped
    LOOP
        EXECUTE format('ALTER TABLE %I.%I DROP COLUMN %I', part.schema_name, part.part_name, column_name);
        changed := changed + 1;
    END LOOP;
    RETURN jsonb_build_object('success_count', changed, 'error_count', 0, 'column_name', column_name);
END
$body$;

-- The views that read a column of a yearly table, or of the template's views, as a list; NULL when there is none.
CREATE OR REPLACE FUNCTION _wh.column_users(template text, column_name text) RETURNS text
LANGUAGE sql STABLE AS $body$
    SELECT string_agg(DISTINCT r.ev_class::regclass::text, ', ')
    FROM pg_attribute AS a
    INNER JOIN pg_depend AS d
        ON d.refclassid = 'pg_class'::regclass AND a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        AND d.classid = 'pg_rewrite'::regclass
    INNER JOIN pg_rewrite AS r ON d.objid = r.oid
    WHERE
        a.attname = column_name AND r.ev_class <> a.attrelid
        AND (
            a.attrelid IN (SELECT y.part_oid FROM _wh.year_tables(template) AS y)
            OR a.attrelid = to_regclass(format('public.%I', template))
            OR a.attrelid IN (SELECT to_regclass(format('%I.%I', s, template)) FROM _wh.schemas_of(template) AS s)
        )
$body$;

-- Drop the daily views of one year, by default the current one, in every schema.
CREATE OR REPLACE FUNCTION _wh.drop_current_year_mvs_by_template(template text, year integer DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    target integer := coalesce(year, extract(YEAR FROM _wh.current_date_utc())::integer);
    part record;
    dropped integer := 0;
BEGIN
    PERFORM _wh.refuse_change(template);
    FOR part IN
        SELECT p.schema_name, p.part_name
        FROM _wh.parts_of(template) AS p
        WHERE NOT p.is_table AND extract(YEAR FROM p.part_day) = target
    LOOP
        PERFORM _wh.drop_part(part.schema_name, part.part_name);
        dropped := dropped + 1;
    END LOOP;
    RETURN jsonb_build_object('success_count', dropped, 'error_count', 0, 'target_year', target);
END
$body$;

-- The days of a period (a year or a month) that a schema has, lacks, or has in another shape than the template. Before the
-- tenant's first day none is missing; that day is then in begins.
CREATE OR REPLACE FUNCTION _wh.check_period(template text, schema_name text, period text) RETURNS jsonb
LANGUAGE sql STABLE AS $body$
    WITH bounds AS (
        SELECT w.first, w.until, CASE WHEN min(p.part_from) > w.first AND min(p.part_from) < w.until THEN min(p.part_from) END AS begins
        FROM _wh.period(period) AS w
        LEFT JOIN _wh.parts_of(template, schema_name) AS p ON true
        GROUP BY w.first, w.until
    )
    SELECT jsonb_build_object(
        'views', count(p.part_oid),
        'missing_dates', coalesce(jsonb_agg(d.day ORDER BY d.day) FILTER (WHERE p.part_oid IS NULL), '[]'),
        'other_shape', coalesce(jsonb_agg(d.day ORDER BY d.day) FILTER (WHERE s.problems <> '{}'), '[]')
    ) || jsonb_strip_nulls(jsonb_build_object('begins', min(d.begins)))
    FROM (
        SELECT g::date AS day, b.begins
        FROM bounds AS b
        CROSS JOIN generate_series(
            coalesce(b.begins, b.first), least(b.until, _wh.current_date_utc()) - 1, interval '1 day'
        ) AS g
    ) AS d
    LEFT JOIN LATERAL (
        SELECT p.part_oid
        FROM _wh.parts_of(template, schema_name) AS p
        CROSS JOIN _wh.period(period) AS w
        WHERE p.part_from <= d.day AND d.day < p.part_until AND p.part_until - p.part_from < w.until - w.first
        ORDER BY p.is_table DESC
        LIMIT 1
    ) AS p ON true
    LEFT JOIN LATERAL (
        SELECT _wh.shape_problems(o, p.part_oid) AS problems
        FROM _wh.day_shapes_of(template, schema_name) AS o
        WHERE p.part_oid IS NOT NULL AND o.shape <> 'new'
    ) AS s ON true
$body$;

CREATE OR REPLACE FUNCTION _wh.check_year_views(template text, schema_name text, year integer) RETURNS jsonb
LANGUAGE sql STABLE AS $body$
    SELECT jsonb_build_object('year', year) || _wh.check_period(template, schema_name, year::text)
$body$;

-- Fold the days of a period that is over into one table, with the columns and indexes that they have; they stay until they
-- are dropped. Refused while days are missing or of another shape.
CREATE OR REPLACE FUNCTION _wh.fold(template text, schema_name text, period text) RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    w record := _wh.period(period);
    table_name name := (template || '_' || w.suffix)::name;
    checked jsonb := _wh.check_period(template, schema_name, period);
    definitions text;
    columns text;
    body text;
    statement text;
    folded bigint;
    s _wh.shape;
    before text;
BEGIN
    PERFORM _wh.refuse_change(template);
    IF w.until > _wh.current_date_utc() THEN
        RAISE EXCEPTION '% is not over in UTC', period;
    END IF;
    IF to_regclass(format('%I.%I', schema_name, table_name)) IS NOT NULL THEN
        RETURN checked || jsonb_build_object('success', true, 'created', false);
    END IF;
    IF checked -> 'missing_dates' <> '[]' OR checked -> 'other_shape' <> '[]' THEN
        RAISE EXCEPTION 'days of % are missing or have another shape: %', period, left(checked::text, 500)
            USING HINT = 'bring them up to date: update_mv_window_by_template';
    END IF;
    SELECT * INTO s FROM _wh.day_shapes_of(template, schema_name);
    SELECT
        string_agg(format('%I %s', c.column_name, c.data_type), ', ' ORDER BY c.place),
        string_agg(quote_ident(c.column_name), ', ' ORDER BY c.place)
    INTO definitions, columns
    FROM _wh.columns_in(s.column_definitions) AS c;
    SELECT string_agg(format('SELECT %s FROM %I.%I', columns, p.schema_name, p.part_name), ' UNION ALL ' ORDER BY p.part_name)
    INTO body
    FROM _wh.folded_by(template, schema_name, period) AS p;
    before := _wh.be_admin();
    EXECUTE format('CREATE TABLE %I.%I (%s)', schema_name, table_name, definitions);
    EXECUTE format('INSERT INTO %I.%I (%s) %s', schema_name, table_name, columns, body);
    GET DIAGNOSTICS folded = ROW_COUNT;
    FOR statement IN SELECT i FROM _wh.index_statements(s, table_name) AS i LOOP
        EXECUTE statement;
    END LOOP;
    PERFORM _wh.be_again(before);
    RETURN checked || jsonb_build_object('success', true, 'created', true, 'rows', folded);
END
$body$;

-- The parts whose rows a period's table has: months that were folded before, and the days in none of them.
CREATE OR REPLACE FUNCTION _wh.folded_by(template text, in_schema text, period text)
RETURNS TABLE (schema_name name, part_name name)
LANGUAGE sql STABLE AS $body$
    WITH inside AS (
        SELECT p.*
        FROM _wh.parts_of(template, in_schema) AS p
        CROSS JOIN _wh.period(period) AS w
        WHERE w.first <= p.part_from AND p.part_until <= w.until AND p.part_until - p.part_from < w.until - w.first
    )
    SELECT i.schema_name, i.part_name
    FROM inside AS i
    WHERE NOT EXISTS (
        SELECT FROM inside AS t WHERE t.is_table AND NOT i.is_table AND t.part_from <= i.part_day AND i.part_day < t.part_until
    )
$body$;

CREATE OR REPLACE FUNCTION _wh.create_combined_table_from_template_by_year(template text, schema_name text, year integer)
RETURNS jsonb
LANGUAGE sql AS $body$
    SELECT jsonb_build_object('year', year) || _wh.fold(template, schema_name, year::text)
$body$;
