-- The end of a change: what is old is retired, or what is new is dropped. What is beside goes in the end.

-- Drop what a change has built beside, at most so many days at once, each of which takes locks; return how many twice:
-- looked at, and dropped.
CREATE OR REPLACE FUNCTION _wh.drop_built(template text, at_most integer, OUT looked_at integer, OUT dropped integer)
LANGUAGE plpgsql AS $body$
DECLARE
    part record;
BEGIN
    looked_at := 0;
    FOR part IN
        SELECT p.schema_name, p.part_name
        FROM _wh.shapes AS s
        CROSS JOIN LATERAL _wh.parts_of(template, _wh.beside('new', s.schema_name)) AS p
        WHERE s.template_name = template AND s.shape = 'new'
        LIMIT least(at_most, 50)
    LOOP
        PERFORM _wh.drop_part(part.schema_name, part.part_name);
        looked_at := looked_at + 1;
    END LOOP;
    dropped := looked_at;
END
$body$;

-- Drop the views that prepare_views has made.
CREATE OR REPLACE FUNCTION _wh.drop_prepared(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    views text := (
        SELECT string_agg(format('%I.%I', s.view_schema, template), ', ')
        FROM _wh.shapes AS s
        WHERE
            s.template_name = template AND s.shape = 'new' AND s.view_schema <> s.schema_name
            AND to_regclass(format('%I.%I', s.view_schema, template)) IS NOT NULL
    );
BEGIN
    PERFORM _wh.lock_template(template);
    IF views IS NOT NULL THEN
        EXECUTE format('DROP VIEW %s', views);
    END IF;
END
$body$;

-- Drop the old views, which nobody reads any more, with those that others had made on them. From here on there is no way
-- back.
CREATE OR REPLACE FUNCTION _wh.drop_old_views(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    views text := (
        SELECT string_agg(format('%I.%I', v.schema_name, v.name), ', ')
        FROM (
            SELECT s.view_schema AS schema_name, template AS name
            FROM _wh.shapes AS s
            WHERE s.template_name = template AND s.shape = 'old' AND s.view_schema <> s.schema_name
            UNION
            SELECT _wh.beside('old', o.home), o.view_name FROM _wh.old_views(template) AS o
        ) AS v
        WHERE to_regclass(format('%I.%I', v.schema_name, v.name)) IS NOT NULL
    );
BEGIN
    PERFORM _wh.lock_template(template);
    IF views IS NOT NULL THEN
        EXECUTE format('DROP VIEW %s', views);
    END IF;
    -- Nothing is made in the old shape any more.
    DELETE FROM _wh.shapes AS s WHERE s.template_name = template AND s.shape = 'old';
END
$body$;

-- Put a day of the new shape in the place of the old one; the views read it wherever it is.
CREATE OR REPLACE FUNCTION _wh.retire_work(template text, in_schema text, day date) RETURNS timestamptz
LANGUAGE plpgsql AS $body$
DECLARE
    s _wh.shape;
    part name := _wh.day_name(template, day);
BEGIN
    PERFORM _wh.lock_template(template, true);
    SELECT o.* INTO s FROM _wh.shapes_of(template, in_schema) AS o WHERE o.shape = 'new';
    -- A tenant that was left out keeps its days.
    IF s.days_schema <> in_schema AND to_regclass(format('%I.%I', s.days_schema, part)) IS NOT NULL THEN
        IF to_regclass(format('%I.%I', in_schema, part)) IS NOT NULL THEN
            PERFORM _wh.put_aside(in_schema, part);
        END IF;
        EXECUTE format('ALTER MATERIALIZED VIEW %I.%I SET SCHEMA %I', s.days_schema, part, in_schema);
    END IF;
    RETURN clock_timestamp();
END
$body$;

-- Drop a day of the old shape, or of the new one when its tenant was skipped: whatever is left beside.
CREATE OR REPLACE FUNCTION _wh.drop_work(template text, in_schema text, day date) RETURNS timestamptz
LANGUAGE plpgsql AS $body$
DECLARE
    part name := _wh.day_name(template, day);
    beside name;
BEGIN
    PERFORM _wh.lock_template(template, true);
    FOREACH beside IN ARRAY ARRAY[_wh.beside('old', in_schema), _wh.beside('new', in_schema)] LOOP
        IF to_regclass(format('%I.%I', beside, part)) IS NOT NULL THEN
            PERFORM _wh.drop_part(beside, part);
        END IF;
    END LOOP;
    RETURN clock_timestamp();
END
$body$;

-- End a change that went through, and remember the tenants whose parts it has left out.
CREATE OR REPLACE FUNCTION _wh.finish_change(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    x record;
BEGIN
    PERFORM _wh.lock_template(template);
    -- Days that were born while the others were put in place.
    FOR x IN
        SELECT s.schema_name, p.part_day
        FROM _wh.shapes AS s
        CROSS JOIN LATERAL _wh.parts_of(template, s.days_schema) AS p
        WHERE s.template_name = template AND s.shape = 'new' AND s.days_schema <> s.schema_name AND NOT p.is_table
    LOOP
        PERFORM _wh.retire_work(template, x.schema_name, x.part_day);
        PERFORM _wh.drop_work(template, x.schema_name, x.part_day);
    END LOOP;
    DELETE FROM _wh.adapted AS a
    USING _wh.shapes AS s
    WHERE
        s.template_name = template AND s.shape = 'new' AND s.days_schema <> s.schema_name
        AND a.template_name = template AND s.schema_name = a.schema_name;
    INSERT INTO _wh.adapted (template_name, schema_name, column_name, fallback, version)
    SELECT
        template, s.schema_name, c.column_name, c.fallback,
        coalesce(
            (SELECT min(a.version) FROM _wh.adapted AS a WHERE a.template_name = template AND s.schema_name = a.schema_name),
            (
                SELECT max(v.version)
                FROM _wh.template_versions AS v
                INNER JOIN _wh.change_definitions AS d ON v.template_name = d.template_name AND d.shape = 'old'
                WHERE v.template_name = template AND v.query_template = d.query_template
                AND v.column_definitions = d.column_definitions
            )
        )
    FROM _wh.shapes AS s
    INNER JOIN _wh.changes AS c ON s.template_name = c.template_name
    WHERE
        s.template_name = template AND s.shape = 'new' AND s.days_schema = s.schema_name
        AND EXISTS (
            SELECT
            FROM _wh.shapes_of(template, s.schema_name) AS o
            CROSS JOIN LATERAL _wh.parts_of(template, s.schema_name) AS p
            LEFT JOIN _wh.columns_in(o.column_definitions) AS w ON c.column_name = w.column_name
            LEFT JOIN pg_attribute AS t
                ON p.part_oid = t.attrelid AND c.column_name = t.attname AND NOT t.attisdropped
            WHERE
                o.shape = 'new'
                AND (_wh.shape_problems(o, p.part_oid) <> '{}' OR (w.column_name IS NULL AND t.attname IS NOT NULL))
        )
    ON CONFLICT ON CONSTRAINT adapted_pkey DO NOTHING;
    PERFORM _wh.log_info('a change of a template is finished', _wh.change_summary(template));
    PERFORM _wh.end_change(template);
END
$body$;

-- Take back begin_change, once nothing is left of what was built.
CREATE OR REPLACE FUNCTION _wh.cancel_change(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    changed text := (SELECT c.column_name FROM _wh.changes AS c WHERE c.template_name = template);
BEGIN
    PERFORM _wh.lock_template(template);
    PERFORM _wh.log_info('a change of a template was taken back', jsonb_build_object('template', template, 'column', changed));
    PERFORM _wh.end_change(template);
END
$body$;

CREATE OR REPLACE FUNCTION _wh.end_change(template text) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    DELETE FROM _wh.change_work AS w WHERE w.template_name = template;
    DELETE FROM _wh.changes AS c WHERE c.template_name = template;
    PERFORM _wh.drop_beside_schemas('new');
    PERFORM _wh.drop_beside_schemas('old');
END
$body$;

-- Drop the schemas beside tenants' schemas that are empty; another template's change may still need its own.
CREATE OR REPLACE FUNCTION _wh.drop_beside_schemas(shape text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    empty name;
BEGIN
    FOR empty IN
        SELECT n.nspname
        FROM pg_namespace AS h
        INNER JOIN pg_namespace AS n ON n.nspname = _wh.beside(shape, h.nspname)
        WHERE
            NOT EXISTS (SELECT FROM pg_class AS c WHERE n.oid = c.relnamespace)
            AND NOT EXISTS (SELECT FROM _wh.shapes AS s WHERE n.nspname IN (s.days_schema, s.view_schema))
    LOOP
        EXECUTE format('DROP SCHEMA %I', empty);
    END LOOP;
END
$body$;

-- What a change did, for its report: days and rows built, rows of yearly tables with the source's value, skipped tenants.
CREATE OR REPLACE FUNCTION _wh.change_summary(template text) RETURNS jsonb
LANGUAGE sql STABLE AS $body$
    SELECT jsonb_build_object(
        'template', template,
        'column', (SELECT c.column_name FROM _wh.changes AS c WHERE c.template_name = template),
        'days', count(*) FILTER (WHERE w.what = 'day' AND w.error IS NULL),
        'rows', coalesce(sum(w.rows) FILTER (WHERE w.what = 'day'), 0),
        'history_rows', coalesce(sum(w.rows) FILTER (WHERE w.what = 'history'), 0),
        'left_out', coalesce(jsonb_agg(DISTINCT w.error) FILTER (WHERE w.error IS NOT NULL), '[]')
    )
    FROM _wh.change_work AS w
    WHERE w.template_name = template
$body$;
