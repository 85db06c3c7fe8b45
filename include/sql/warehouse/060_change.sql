-- A change of a template's columns, built beside what readers see: begin, build (work by work), check, prepare the views,
-- swap; then retire what is old and finish. Until the first part is retired, swap_back and cancel undo it.

-- Begin: note both definitions, and what is to be built for which tenant. waves are arrays of schemas, in the order in
-- which they are built; a tenant in none of them keeps its parts, which its view adapts. history_from is the first year
-- whose yearly table gets the true values of the column from the source, NULL for none.
CREATE OR REPLACE FUNCTION _wh.begin_change(
    template text, column_name text, new_query text, new_columns text, new_indexes text, waves jsonb,
    old_year_columns jsonb DEFAULT '{}', new_year_columns jsonb DEFAULT '{}', fallback text DEFAULT NULL,
    history_from integer DEFAULT NULL, source_down text DEFAULT 'roll_back', skip_at_most integer DEFAULT 0,
    source_pause_s numeric DEFAULT 0
) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    old _wh.mv_templates := _wh.template_of(template);
BEGIN
    PERFORM _wh.refuse_change(template);
    INSERT INTO _wh.changes (template_name, column_name, fallback, source_down, skip_at_most, source_pause_s)
    VALUES (template, column_name, fallback, source_down, skip_at_most, source_pause_s);
    INSERT INTO _wh.change_definitions (template_name, shape, query_template, column_definitions, indexes, year_columns)
    VALUES
        (template, 'old', old.query_template, old.column_definitions, old.indexes, old_year_columns),
        (template, 'new', new_query, new_columns, new_indexes, new_year_columns);
    DELETE FROM _wh.change_work AS w WHERE w.template_name = template;
    WITH members AS (
        SELECT w.wave::integer AS wave, m.schema_name
        FROM jsonb_array_elements(waves) WITH ORDINALITY AS w (schemas, wave)
        CROSS JOIN jsonb_array_elements_text(w.schemas) AS m (schema_name)
    ),
    shaped AS (
        INSERT INTO _wh.shapes (template_name, schema_name, shape, days_schema, view_schema)
        SELECT
            template, v.name, s.shape,
            CASE WHEN s.shape = 'new' AND v.name IN (SELECT m.schema_name FROM members AS m)
                THEN _wh.beside('new', v.name) ELSE v.name
            END,
            CASE s.shape WHEN 'old' THEN v.name ELSE _wh.beside('new', v.name) END
        FROM (SELECT _wh.schemas_of(template) UNION ALL SELECT 'public') AS v (name)
        CROSS JOIN (VALUES ('old'), ('new')) AS s (shape)
    )
    INSERT INTO _wh.change_work (template_name, wave, what, schema_name, day)
    SELECT template, m.wave, 'day', m.schema_name, p.part_day
    FROM members AS m
    INNER JOIN _wh.parts_of(template) AS p ON m.schema_name = p.schema_name AND NOT p.is_table
    UNION ALL
    SELECT template, m.wave, 'history', m.schema_name, d::date
    FROM members AS m
    CROSS JOIN LATERAL _wh.tables_of(template, m.schema_name) AS t
    CROSS JOIN generate_series(t.part_from, t.part_until - 1, interval '1 day') AS d
    WHERE t.part_from >= make_date(history_from, 1, 1);
    PERFORM _wh.prepare_schema(_wh.beside('new', m.schema_name))
    FROM (SELECT DISTINCT s.schema_name FROM _wh.shapes AS s WHERE s.template_name = template) AS m;
    PERFORM _wh.log_info('a change of a template begins', jsonb_build_object('template', template, 'column', column_name));
END
$body$;

-- A day that was born while the template changes is work that is done already.
CREATE OR REPLACE FUNCTION _wh.note_work(template text, in_schema text, day date) RETURNS void
LANGUAGE sql AS $body$
    INSERT INTO _wh.change_work (template_name, wave, what, schema_name, day, done_at)
    SELECT template, 1, 'day', in_schema, day, clock_timestamp()
    WHERE NOT EXISTS (
        SELECT FROM _wh.change_work AS w
        WHERE w.template_name = template AND w.what = 'day' AND w.schema_name = in_schema AND w.day = note_work.day
    )
$body$;

-- Build one piece of work. A source is asked by one session at a time, with a pause behind each day. When it fails, the
-- change's policy decides: the error is raised (roll_back), or recorded for a later try (stop) or for good (skip).
CREATE OR REPLACE FUNCTION _wh.build_work(
    template text, what text, in_schema text, day date, OUT rows bigint, OUT differs text, OUT error text, OUT done_at timestamptz
)
LANGUAGE plpgsql AS $body$
DECLARE
    change _wh.changes;
    s _wh.shape;
    tenant text := (SELECT t.tenant_name FROM _wh.tenant_schemas AS t WHERE t.schema_name = in_schema);
    others integer;
BEGIN
    SELECT c.* INTO change FROM _wh.changes AS c WHERE c.template_name = template;
    -- Of a rebuild in place there is one shape only.
    SELECT n.* INTO s FROM _wh.shapes_of(template, in_schema) AS n WHERE n.shape IN ('new', 'current');
    done_at := clock_timestamp();
    IF change.source_down = 'skip' THEN
        SELECT w.error INTO error FROM _wh.change_work AS w
        WHERE w.template_name = template AND w.schema_name = in_schema AND w.error IS NOT NULL LIMIT 1;
        IF error IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    PERFORM _wh.lock_template(template, true);
    PERFORM _wh.lock_source(tenant);
    BEGIN
        IF what = 'day' THEN
            SELECT b.rows, b.differs INTO rows, differs FROM _wh.build_day(s, change.column_name, tenant, day) AS b;
        ELSE
            rows := _wh.build_history(s, change.column_name, tenant, day);
        END IF;
        PERFORM pg_sleep(change.source_pause_s);
    EXCEPTION WHEN lock_not_available OR query_canceled OR deadlock_detected OR serialization_failure THEN
        RAISE;
    WHEN OTHERS THEN
        error := format('%s: %s', in_schema, sqlerrm);
        IF change.source_down = 'roll_back' OR (change.source_down = 'stop' AND sqlstate !~ '^08') THEN
            RAISE EXCEPTION '%', error USING HINT = 'see whether the tenant''s source answers, and has what the template asks for';
        ELSIF change.source_down = 'stop' THEN
            done_at := NULL;
            -- Long enough for the run to see it, and to wait, before it tries again.
            PERFORM pg_sleep(1.5);
            RETURN;
        END IF;
        SELECT count(DISTINCT w.schema_name) INTO others FROM _wh.change_work AS w
        WHERE w.template_name = template AND w.schema_name <> in_schema AND w.error IS NOT NULL;
        IF others + 1 > change.skip_at_most THEN
            RAISE EXCEPTION '%; % tenants would be left out, of at most %', error, others + 1, change.skip_at_most;
        END IF;
        PERFORM _wh.log_error('a tenant is left out of a change', jsonb_build_object(
            'template', template, 'schema', in_schema, 'date', day, 'error', sqlerrm
        ));
    END;
END
$body$;

-- Whether this is a copy made for a rehearsal, from which no source can be asked.
CREATE OR REPLACE FUNCTION _wh.is_rehearsal() RETURNS boolean
LANGUAGE sql STABLE AS $body$
    SELECT starts_with(current_database(), 'schema_change_scratch_')
$body$;

-- Build a day beside the old one and compare: rows, and the sums of numeric columns that both have. Today and yesterday
-- are not compared, their sources go on.
CREATE OR REPLACE FUNCTION _wh.build_day(
    s _wh.shape, changed_column text, tenant text, day date, OUT rows bigint, OUT differs text
)
LANGUAGE plpgsql AS $body$
DECLARE
    view_name name := _wh.day_name(s.template_name, day);
    sums text;
    before jsonb;
    after jsonb;
BEGIN
    PERFORM _wh.create_day(s, tenant, day, NOT _wh.is_rehearsal());
    IF s.days_schema <> s.schema_name THEN
        -- Whoever was granted the old day may read the new one; its owner and its comment are the old one's too.
        PERFORM _wh.give_rights(
            _wh.rights_of(to_regclass(format('%I.%I', s.schema_name, view_name))), s.days_schema, view_name
        );
    END IF;
    IF _wh.is_rehearsal() THEN
        RETURN;
    END IF;
    SELECT coalesce(string_agg(format(', %L, sum(%I)', a.attname, a.attname), '' ORDER BY a.attnum), '') INTO sums
    FROM pg_attribute AS a
    INNER JOIN pg_attribute AS b
        ON a.attname = b.attname AND b.attrelid = to_regclass(format('%I.%I', s.schema_name, view_name)) AND NOT b.attisdropped
    WHERE
        a.attrelid = to_regclass(format('%I.%I', s.days_schema, view_name)) AND a.attnum > 0
        AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
        AND a.atttypid = b.atttypid AND a.attname <> changed_column;
    EXECUTE format('SELECT jsonb_build_object(''rows'', count(*)%s) FROM %I.%I', sums, s.days_schema, view_name) INTO after;
    rows := (after ->> 'rows')::bigint;
    IF s.shape = 'new' AND day < _wh.current_date_utc() - 1 AND to_regclass(format('%I.%I', s.schema_name, view_name)) IS NOT NULL THEN
        EXECUTE format('SELECT jsonb_build_object(''rows'', count(*)%s) FROM %I.%I', sums, s.schema_name, view_name) INTO before;
        IF before <> after THEN
            SELECT string_agg(format('%s was %s, is %s', b.key, b.value, a.value), ', ') INTO differs
            FROM jsonb_each(before) AS b
            INNER JOIN jsonb_each(after) AS a ON b.key = a.key AND b.value <> a.value;
        END IF;
    END IF;
END
$body$;

-- Give the rows of one day of a yearly table the column's true values, by the key of the template's unique index; return
-- how many the source still has.
CREATE OR REPLACE FUNCTION _wh.build_history(s _wh.shape, changed_column text, tenant text, day date) RETURNS bigint
LANGUAGE plpgsql AS $body$
DECLARE
    found bigint;
    same text := (
        SELECT string_agg(format('y.%I = source.%1$I', k.name), ' AND ')
        FROM _wh.key_columns(s.indexes) AS k (name)
    );
BEGIN
    IF _wh.is_rehearsal() THEN
        RETURN 0;
    END IF;
    EXECUTE format(
        'WITH source AS MATERIALIZED (SELECT * FROM %s),
        given AS (
            UPDATE %I.%I AS y SET %I = source.%I FROM source WHERE %s AND y.%4$I IS DISTINCT FROM source.%5$I
        )
        SELECT count(*) FROM source INNER JOIN %2$I.%3$I AS y ON %6$s',
        _wh.source_query(s, tenant, day), s.schema_name,
        (
            SELECT t.part_name FROM _wh.tables_of(s.template_name, s.schema_name) AS t
            WHERE t.part_from <= day AND day < t.part_until
        ),
        coalesce(s.year_columns ->> changed_column, changed_column), changed_column, same
    ) INTO found;
    RETURN found;
END
$body$;

-- The columns of the first unique index of a template that is made of plain columns.
CREATE OR REPLACE FUNCTION _wh.key_columns(indexes text) RETURNS SETOF name
LANGUAGE sql IMMUTABLE AS $body$
    SELECT (parse_ident(c))[1]::name
    FROM (
        SELECT substring(i FROM '\(([^()]*)\)\s*$') AS list
        FROM _wh.list_items(indexes, ';') WITH ORDINALITY AS l (i, place)
        WHERE i ~* '^CREATE\s+UNIQUE\s' AND i ~ '\([^()]*\)\s*$'
        ORDER BY l.place
        LIMIT 1
    ) AS u
    CROSS JOIN _wh.list_items(u.list) AS c
$body$;

-- A reason to wait, while the source of a tenant is away that the change waits for; NULL when there is none.
CREATE OR REPLACE FUNCTION _wh.source_to_wait_for(template text) RETURNS text
LANGUAGE sql AS $body$
    SELECT string_agg(format('the source of %s does not answer: %s', t.schema_name, c.answer ->> 'error'), '; ')
    FROM (
        SELECT DISTINCT w.schema_name FROM _wh.change_work AS w
        WHERE w.template_name = template AND w.error IS NOT NULL AND w.done_at IS NULL
    ) AS f
    INNER JOIN _wh.tenant_schemas AS t ON f.schema_name = t.schema_name
    CROSS JOIN LATERAL (SELECT _wh.check_connection(t.tenant_name) AS answer) AS c
    WHERE NOT (c.answer ->> 'success')::boolean
$body$;

-- Raise unless a wave is built, and holds what the old days hold.
CREATE OR REPLACE FUNCTION _wh.check_wave(template text, of_wave integer) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    missing bigint;
    wrong text;
BEGIN
    SELECT
        count(*) FILTER (WHERE w.done_at IS NULL),
        left(string_agg(format('%s %s: %s', w.schema_name, w.day, w.differs), '; ' ORDER BY w.schema_name, w.day)
            FILTER (WHERE w.differs IS NOT NULL AND w.error IS NULL), 1000)
    INTO missing, wrong
    FROM _wh.change_work AS w
    WHERE w.template_name = template AND w.wave = of_wave;
    IF missing > 0 THEN
        RAISE EXCEPTION 'wave % of template % has % days that are not built', of_wave, template, missing;
    ELSIF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'wave % of template % does not have what was there: %', of_wave, template, wrong
            USING HINT = 'the source has changed since these days were made: refresh them first, or look at the template''s query';
    END IF;
END
$body$;

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
-- tenant at once.
CREATE OR REPLACE FUNCTION _wh.read_new_days(template text, of_schema text) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM _wh.lock_template(template);
    IF to_regclass(format('public.%I', template)) IS NULL THEN
        RETURN;
    END IF;
    UPDATE _wh.changes AS c
    SET public_query = coalesce(c.public_query, _wh.definition_of(to_regclass(format('public.%I', template))))
    WHERE c.template_name = template;
    INSERT INTO _wh.early_readers (template_name, schema_name) VALUES (template, of_schema) ON CONFLICT DO NOTHING;
    PERFORM _wh.put_view('public', template, _wh.public_query(template, (_wh.template_of(template)).column_definitions, 'early'));
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

-- Take a swap back: the old views return to their places, and with them those that others made on them.
CREATE OR REPLACE FUNCTION _wh.swap_back(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    x record;
    copies text;
BEGIN
    PERFORM _wh.lock_template(template);
    IF NOT (SELECT c.is_swapped FROM _wh.changes AS c WHERE c.template_name = template) THEN
        RETURN;
    END IF;
    SELECT string_agg(format('%I.%I', u.schema_name, u.view_name), ', ') INTO copies FROM _wh.views_upon(template) AS u;
    IF copies IS NOT NULL THEN
        EXECUTE format('DROP VIEW %s', copies);
    END IF;
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
    PERFORM _wh.use_shape(template, 'old');
    PERFORM _wh.drop_beside_schemas('old');
END
$body$;

-- The views that others made, which a swap has put aside; home is the schema that they come from.
CREATE OR REPLACE FUNCTION _wh.old_views(template text) RETURNS TABLE (home name, view_name name)
LANGUAGE sql STABLE AS $body$
    SELECT h.nspname, c.relname
    FROM pg_namespace AS h
    INNER JOIN pg_namespace AS n ON n.nspname = _wh.beside('old', h.nspname)
    INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND c.relkind = 'v' AND c.relname <> template
$body$;

CREATE OR REPLACE FUNCTION _wh.move_view(view_name text, home text, from_schema text, to_schema text) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    IF to_regclass(format('%I.%I', from_schema, view_name)) IS NOT NULL THEN
        PERFORM _wh.prepare_schema(to_schema);
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
            PERFORM _wh.prepare_schema(_wh.beside('old', in_schema));
            EXECUTE format('ALTER MATERIALIZED VIEW %I.%I SET SCHEMA %I', in_schema, part, _wh.beside('old', in_schema));
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

-- Restore public access at once, whatever else is broken: a view of yearly tables only, or of the tenants given. What is
-- not the template's column is shown as NULL. update_public_view_by_template brings the whole view back.
CREATE OR REPLACE FUNCTION _wh.emergency_public_view(template text, only_years boolean DEFAULT false, schemas text[] DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    definitions text := (_wh.template_of(template)).column_definitions;
    query text;
BEGIN
    WITH sources AS (
        SELECT p.schema_name, p.part_oid AS oid FROM _wh.parts_of(template) AS p WHERE p.is_table AND only_years
        UNION ALL
        SELECT v.name, to_regclass(format('%I.%I', v.name, template))
        FROM _wh.schemas_of(template) AS v (name)
        WHERE NOT only_years
    )
    SELECT string_agg(
        (
            SELECT format('SELECT %s, %L::text AS schema_name FROM %s', string_agg(
                CASE WHEN a.attname IS NULL THEN format('NULL::%s AS %I', c.data_type, c.column_name)
                    ELSE format('%I::%s AS %1$I', c.column_name, c.data_type)
                END, ', ' ORDER BY c.place
            ), s.schema_name, format('%I.%I', n.nspname, r.relname))
            FROM _wh.columns_in(definitions) AS c
            LEFT JOIN pg_attribute AS a ON s.oid = a.attrelid AND c.column_name = a.attname AND NOT a.attisdropped
        ), E'\nUNION ALL\n' ORDER BY s.schema_name, s.oid
    )
    INTO query
    FROM sources AS s
    INNER JOIN pg_class AS r ON s.oid = r.oid
    INNER JOIN pg_namespace AS n ON r.relnamespace = n.oid
    WHERE schemas IS NULL OR s.schema_name = ANY(schemas);
    IF query IS NULL THEN
        RAISE EXCEPTION 'template % has nothing left that could be read', template;
    END IF;
    PERFORM _wh.put_view('public', template, query);
    EXECUTE format('GRANT SELECT ON public.%I TO wh_read, wh_write', template);
    PERFORM _wh.log_error('public access was restored in an emergency', jsonb_build_object(
        'template', template, 'only_years', only_years, 'schemas', schemas
    ));
    RETURN jsonb_build_object('success', true);
END
$body$;
