-- A change of a template's columns, built beside what readers see: it begins, work by work is built, and checked.
-- 061_exchange has the views, 062_end what becomes of the old shape, or of the new one when the change is taken back.

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

-- Build a day while the old one is kept beside it, or put aside by a rebuild in place, and compare: rows, and the sums of
-- numeric columns that both have. Today and yesterday are not compared, their sources go on.
CREATE OR REPLACE FUNCTION _wh.build_day(
    s _wh.shape, changed_column text, tenant text, day date, OUT rows bigint, OUT differs text
)
LANGUAGE plpgsql AS $body$
DECLARE
    view_name name := _wh.day_name(s.template_name, day);
    old_schema name := CASE s.shape WHEN 'new' THEN s.schema_name ELSE _wh.beside('old', s.schema_name) END;
    old regclass := to_regclass(format('%I.%I', old_schema, view_name));
    sums text;
    before jsonb;
    after jsonb;
BEGIN
    PERFORM _wh.create_day(s, tenant, day, NOT _wh.is_rehearsal());
    IF old IS NOT NULL THEN
        -- Whoever was granted the old day may read the new one; its owner and its comment are the old one's too.
        PERFORM _wh.give_rights(_wh.rights_of(old), s.days_schema, view_name);
        PERFORM _wh.copy_indexes(old_schema, s.days_schema, view_name);
    END IF;
    IF _wh.is_rehearsal() THEN
        RETURN;
    END IF;
    -- The day that is read has been analyzed long ago: readers are to get the same plans as soon as the views are exchanged.
    EXECUTE format('ANALYZE %I.%I', s.days_schema, view_name);
    SELECT coalesce(string_agg(format(', %L, sum(%I)', a.attname, a.attname), '' ORDER BY a.attnum), '') INTO sums
    FROM pg_attribute AS a
    INNER JOIN pg_attribute AS b ON a.attname = b.attname AND b.attrelid = old AND NOT b.attisdropped
    WHERE
        a.attrelid = to_regclass(format('%I.%I', s.days_schema, view_name)) AND a.attnum > 0
        AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
        AND a.atttypid = b.atttypid AND a.attname <> changed_column;
    EXECUTE format('SELECT jsonb_build_object(''rows'', count(*)%s) FROM %I.%I', sums, s.days_schema, view_name) INTO after;
    rows := (after ->> 'rows')::bigint;
    IF day < _wh.current_date_utc() - 1 AND old IS NOT NULL THEN
        EXECUTE format('SELECT jsonb_build_object(''rows'', count(*)%s) FROM %s', sums, old) INTO before;
        IF before <> after THEN
            SELECT string_agg(format('%s was %s, is %s', b.key, b.value, a.value), ', ') INTO differs
            FROM jsonb_each(before) AS b
            INNER JOIN jsonb_each(after) AS a ON b.key = a.key AND b.value <> a.value;
        END IF;
    END IF;
END
$body$;

-- Make the indexes that a day has, besides the template's, on the one beside it too: somebody has made them by hand. One
-- whose column is gone, or cannot be indexed so any more, is in the log.
CREATE OR REPLACE FUNCTION _wh.copy_indexes(from_schema text, to_schema text, view_name text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    x record;
BEGIN
    FOR x IN
        SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition
        FROM pg_index AS i
        INNER JOIN pg_class AS c ON i.indexrelid = c.oid
        WHERE
            i.indrelid = to_regclass(format('%I.%I', from_schema, view_name)) AND i.indisvalid
            AND to_regclass(format('%I.%I', to_schema, c.relname)) IS NULL
    LOOP
        BEGIN
            EXECUTE replace(
                x.definition, format(' ON %I.%I USING ', from_schema, view_name), format(' ON %I.%I USING ', to_schema, view_name)
            );
        EXCEPTION WHEN undefined_column OR undefined_function OR undefined_object OR datatype_mismatch THEN
            PERFORM _wh.log_info('an index of a day does not fit its new shape', jsonb_build_object(
                'schema', from_schema, 'view', view_name, 'index', x.name, 'definition', x.definition, 'error', sqlerrm
            ));
        END;
    END LOOP;
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
    before text;
BEGIN
    IF _wh.is_rehearsal() THEN
        RETURN 0;
    END IF;
    before := _wh.be_admin();
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
    PERFORM _wh.be_again(before);
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
