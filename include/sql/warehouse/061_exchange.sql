-- The views of the new shape: made beside, exchanged with those that are read, and back.

-- Make the views of the new shape beside those that are read. A tenant that was skipped keeps its parts, which its view
-- adapts.
CREATE OR REPLACE FUNCTION _wh.prepare_views(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    s _wh.shape;
    columns text;
BEGIN
    PERFORM _wh.lock_template(template);
    UPDATE _wh.shapes AS x
    SET days_schema = x.schema_name
    WHERE
        x.template_name = template AND x.shape = 'new'
        AND EXISTS (
            SELECT FROM _wh.change_work AS w
            WHERE w.template_name = template AND x.schema_name = w.schema_name AND w.error IS NOT NULL
        );
    FOR s IN
        SELECT o.*
        FROM _wh.shapes AS x
        CROSS JOIN LATERAL _wh.shapes_of(template, x.schema_name) AS o
        WHERE x.template_name = template AND x.shape = 'new' AND o.shape = 'new' AND x.schema_name <> 'public'
    LOOP
        PERFORM _wh.put_view(s.view_schema, template, _wh.tenant_query(s));
        PERFORM _wh.give_rights(
            _wh.rights_of(to_regclass(format('%I.%I', s.schema_name, template))), s.view_schema, template
        );
        columns := s.column_definitions;
    END LOOP;
    SELECT d.column_definitions INTO columns
    FROM _wh.change_definitions AS d WHERE d.template_name = template AND d.shape = 'new';
    PERFORM _wh.put_view(_wh.beside('new', 'public'), template, _wh.public_query(template, columns, 'new'));
    PERFORM _wh.give_rights(
        _wh.rights_of(to_regclass(format('public.%I', template))), _wh.beside('new', 'public'), template
    );
END
$body$;

-- Let the public view, in its old shape still, read a tenant's new days. What a session reads for the first time has to be
-- loaded, which takes longer than the read: with the exchange of the views every session would load the days of every
-- tenant at once. Days without a column of the old shape are asked for no row, which loads them just as well.
CREATE OR REPLACE FUNCTION _wh.read_new_days(template text, of_schema text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    definitions text := (_wh.template_of(template)).column_definitions;
    no_row text;
BEGIN
    PERFORM _wh.lock_template(template);
    IF to_regclass(format('public.%I', template)) IS NULL THEN
        RETURN;
    END IF;
    UPDATE _wh.changes AS c
    SET public_query = coalesce(c.public_query, _wh.definition_of(to_regclass(format('public.%I', template))))
    WHERE c.template_name = template;
    SELECT
        format(
            E'\nUNION ALL\nSELECT %s, NULL::text FROM %I.%I WHERE false',
            string_agg('NULL::' || o.data_type, ', ' ORDER BY o.place), _wh.beside('new', of_schema), template
        )
    INTO no_row
    FROM _wh.columns_in(definitions) AS o
    LEFT JOIN (
        SELECT n.column_name, n.data_type
        FROM _wh.change_definitions AS d
        CROSS JOIN LATERAL _wh.columns_in(d.column_definitions) AS n
        WHERE d.template_name = template AND d.shape = 'new'
    ) AS n USING (column_name, data_type)
    HAVING count(*) > count(n.column_name);
    IF no_row IS NULL THEN
        INSERT INTO _wh.early_readers (template_name, schema_name) VALUES (template, of_schema) ON CONFLICT DO NOTHING;
    END IF;
    PERFORM _wh.put_view('public', template, _wh.public_query(template, definitions, 'early') || coalesce(no_row, ''));
END
$body$;

CREATE OR REPLACE FUNCTION _wh.read_old_days(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    before text := (SELECT c.public_query FROM _wh.changes AS c WHERE c.template_name = template);
BEGIN
    PERFORM _wh.lock_template(template);
    IF before IS NOT NULL THEN
        EXECUTE format('CREATE OR REPLACE VIEW public.%I AS %s', template, before);
        UPDATE _wh.changes AS c SET public_query = NULL WHERE c.template_name = template;
        DELETE FROM _wh.early_readers AS e WHERE e.template_name = template;
    END IF;
END
$body$;

-- The views that others made on a template's views, with what is needed to make them anew, the lowest first.
CREATE OR REPLACE FUNCTION _wh.views_upon(template text)
RETURNS TABLE (depth integer, schema_name name, view_name name, kind text, definition text, rights text[])
LANGUAGE sql STABLE SET search_path = pg_catalog AS $body$
    WITH RECURSIVE ours AS (
        SELECT to_regclass(format('%I.%I', s, template)) AS oid
        FROM (SELECT _wh.schemas_of(template) UNION ALL SELECT 'public') AS v (s)
    ),
    upon AS (
        SELECT 1 AS depth, r.ev_class AS oid
        FROM ours AS o
        INNER JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND o.oid = d.refobjid AND d.classid = 'pg_rewrite'::regclass
        INNER JOIN pg_rewrite AS r ON d.objid = r.oid
        WHERE r.ev_class NOT IN (SELECT x.oid FROM ours AS x WHERE x.oid IS NOT NULL)
        UNION
        SELECT u.depth + 1, r.ev_class
        FROM upon AS u
        INNER JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND u.oid = d.refobjid AND d.classid = 'pg_rewrite'::regclass
        INNER JOIN pg_rewrite AS r ON d.objid = r.oid
        WHERE r.ev_class <> u.oid
    )
    SELECT max(u.depth), n.nspname, c.relname, c.relkind::text, rtrim(pg_get_viewdef(c.oid), ';'), _wh.rights_of(c.oid)
    FROM upon AS u
    INNER JOIN pg_class AS c ON u.oid = c.oid
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    WHERE n.nspname !~ '^_wh'
    GROUP BY n.nspname, c.relname, c.relkind, c.oid
    ORDER BY 1, 2, 3
$body$;

-- Let readers see the new shape: the views are exchanged, the public one first, because readers come in by it. Views that
-- others made on them are made anew; the old ones are kept with what they read.
CREATE OR REPLACE FUNCTION _wh.swap(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    x record;
    upon record;
    others jsonb := (SELECT jsonb_agg(to_jsonb(u)) FROM _wh.views_upon(template) AS u);
BEGIN
    PERFORM _wh.lock_template(template);
    -- To load what a view over hundreds of days is takes longer than to move it: before anybody has to wait for us.
    PERFORM pg_relation_is_updatable(to_regclass(format('%I.%I', v.name, template)), false)
    FROM _wh.shapes AS s
    CROSS JOIN LATERAL unnest(ARRAY[s.schema_name, s.view_schema]) AS v (name)
    WHERE s.template_name = template AND s.shape = 'new';
    FOR x IN
        SELECT s.schema_name FROM _wh.shapes AS s
        WHERE s.template_name = template AND s.shape = 'new'
        ORDER BY s.schema_name <> 'public', s.schema_name
    LOOP
        PERFORM _wh.move_view(template, x.schema_name, x.schema_name, _wh.beside('old', x.schema_name));
        PERFORM _wh.move_view(template, x.schema_name, _wh.beside('new', x.schema_name), x.schema_name);
    END LOOP;
    FOR upon IN SELECT u.* FROM jsonb_to_recordset(others) AS u (depth integer, schema_name name, view_name name) LOOP
        PERFORM _wh.move_view(upon.view_name, upon.schema_name, upon.schema_name, _wh.beside('old', upon.schema_name));
    END LOOP;
    FOR upon IN
        SELECT u.*
        FROM jsonb_to_recordset(others) AS u (depth integer, schema_name name, view_name name, definition text, rights text[])
        ORDER BY u.depth
    LOOP
        EXECUTE format('CREATE VIEW %I.%I AS %s', upon.schema_name, upon.view_name, upon.definition);
        PERFORM _wh.give_rights(upon.rights, upon.schema_name, upon.view_name);
    END LOOP;
    UPDATE _wh.changes AS c SET kept_views = coalesce(others, '[]') WHERE c.template_name = template;
    PERFORM _wh.use_shape(template, 'new');
END
$body$;

-- Raise unless every view can be read, and the warehouse's log has no error since the change began; tenants that the
-- change itself has left out are none.
CREATE OR REPLACE FUNCTION _wh.check_views(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    x record;
    wrong text;
BEGIN
    IF _wh.is_rehearsal() THEN
        RETURN;
    END IF;
    FOR x IN SELECT _wh.schemas_of(template) AS schema_name UNION ALL SELECT 'public' LOOP
        EXECUTE format('SELECT FROM %I.%I LIMIT 1', x.schema_name, template);
    END LOOP;
    SELECT string_agg(DISTINCT concat_ws(': ', l.message, l.context ->> 'schema', l.context ->> 'error'), '; ') INTO wrong
    FROM _wh.log AS l
    INNER JOIN _wh.changes AS c ON c.template_name = template AND l.at >= c.begun_at
    WHERE l.level = 'error' AND l.context ->> 'template' = template AND l.message <> 'a tenant is left out of a change';
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'errors in the warehouse''s log since the change began: %', left(wrong, 1000)
            USING HINT = 'see _wh.log';
    END IF;
END
$body$;

-- Take a swap back: the old views return to their places, and with them those that others made on them. Views that were
-- made since are made anew too; one that needs the new shape is dropped, and its definition is in the log.
CREATE OR REPLACE FUNCTION _wh.swap_back(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    x record;
    later jsonb;
BEGIN
    PERFORM _wh.lock_template(template);
    IF NOT (SELECT c.is_swapped FROM _wh.changes AS c WHERE c.template_name = template) THEN
        RETURN;
    END IF;
    SELECT jsonb_agg(to_jsonb(u)) INTO later
    FROM _wh.views_upon(template) AS u
    WHERE (u.schema_name, u.view_name) NOT IN (SELECT o.home, o.view_name FROM _wh.old_views(template) AS o);
    FOR x IN SELECT u.* FROM _wh.views_upon(template) AS u ORDER BY u.depth DESC LOOP
        EXECUTE format(
            'DROP %s %I.%I', CASE x.kind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END, x.schema_name, x.view_name
        );
    END LOOP;
    FOR x IN
        SELECT s.schema_name FROM _wh.shapes AS s
        WHERE s.template_name = template AND s.shape = 'new'
        ORDER BY s.schema_name <> 'public', s.schema_name
    LOOP
        PERFORM _wh.move_view(template, x.schema_name, x.schema_name, _wh.beside('new', x.schema_name));
        PERFORM _wh.move_view(template, x.schema_name, _wh.beside('old', x.schema_name), x.schema_name);
    END LOOP;
    FOR x IN SELECT * FROM _wh.old_views(template) LOOP
        PERFORM _wh.move_view(x.view_name, x.home, _wh.beside('old', x.home), x.home);
    END LOOP;
    PERFORM _wh.make_again(later);
    PERFORM _wh.use_shape(template, 'old');
    PERFORM _wh.drop_beside_schemas('old');
END
$body$;

-- The views that others made, which a swap has put aside; home is the schema that they come from.
CREATE OR REPLACE FUNCTION _wh.old_views(template text) RETURNS TABLE (home name, view_name name)
LANGUAGE sql STABLE AS $body$
    SELECT v.schema_name, v.view_name
    FROM _wh.changes AS c
    CROSS JOIN LATERAL jsonb_to_recordset(c.kept_views) AS v (schema_name name, view_name name)
    WHERE
        c.template_name = template
        AND to_regclass(format('%I.%I', _wh.beside('old', v.schema_name), v.view_name)) IS NOT NULL
$body$;

-- Make views of others again that were there a moment ago; one that cannot be made is in the log, with its definition.
CREATE OR REPLACE FUNCTION _wh.make_again(views jsonb) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    x record;
BEGIN
    FOR x IN
        SELECT v.*
        FROM jsonb_to_recordset(views)
            AS v (depth integer, schema_name text, view_name text, kind text, definition text, rights text[])
        ORDER BY v.depth
    LOOP
        BEGIN
            EXECUTE format(
                'CREATE %s %I.%I AS %s', CASE x.kind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END,
                x.schema_name, x.view_name, x.definition
            );
            PERFORM _wh.give_rights(x.rights, x.schema_name, x.view_name);
        EXCEPTION WHEN undefined_column OR undefined_table OR undefined_function OR datatype_mismatch THEN
            PERFORM _wh.log_error('a view was dropped that needs the new shape', jsonb_build_object(
                'schema', x.schema_name, 'view', x.view_name, 'definition', x.definition, 'error', sqlerrm
            ));
        END;
    END LOOP;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.move_view(view_name text, home text, from_schema text, to_schema text) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    IF to_regclass(format('%I.%I', from_schema, view_name)) IS NOT NULL THEN
        -- Home may be anybody's, and has all that the view needs.
        IF to_schema <> home THEN
            PERFORM _wh.prepare_schema(to_schema);
        END IF;
        EXECUTE format('ALTER VIEW %I.%I SET SCHEMA %I', from_schema, view_name, to_schema);
    END IF;
END
$body$;

-- Record which shape readers see; the template's row says the same.
CREATE OR REPLACE FUNCTION _wh.use_shape(template text, seen text) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    UPDATE _wh.shapes AS s
    SET view_schema = CASE WHEN s.shape = seen THEN s.schema_name ELSE _wh.beside(s.shape, s.schema_name) END
    WHERE s.template_name = template;
    UPDATE _wh.mv_templates AS t
    SET query_template = d.query_template, column_definitions = d.column_definitions, indexes = d.indexes
    FROM _wh.change_definitions AS d
    WHERE t.template_name = template AND d.template_name = template AND d.shape = seen;
    UPDATE _wh.changes AS c SET is_swapped = (seen = 'new') WHERE c.template_name = template;
END
$body$;
