-- The runbook's controlled partial reconstruction as a change that can be taken back: readers are without the views from
-- its first step until its last. Views can be made again from their definitions; days are not dropped but put aside, so
-- that no source is asked for them again.

-- Begin, in one transaction: drop the views, change the yearly tables, put the days aside, change the template. kind is add,
-- modify or remove; value is the default, or the expression for the new type. In yearly tables an old column is hidden
-- under another name until the change is finished.
CREATE OR REPLACE FUNCTION _wh.begin_in_place(
    template text, kind text, column_name text, new_type text, value text, hidden_name text, new_query text,
    new_columns text, new_indexes text, create_index boolean, waves jsonb, source_down text DEFAULT 'roll_back',
    skip_at_most integer DEFAULT 0, source_pause_s numeric DEFAULT 0
) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    old _wh.mv_templates := _wh.template_of(template);
    upon text;
    kept jsonb;
    part record;
BEGIN
    PERFORM _wh.refuse_change(template);
    SELECT string_agg(format('%I.%I', u.schema_name, u.view_name), ', '), coalesce(jsonb_agg(to_jsonb(u)), '[]')
    INTO upon, kept
    FROM _wh.views_upon(template) AS u;
    SELECT kept || jsonb_agg(jsonb_build_object(
        'depth', CASE v.name WHEN 'public' THEN 0 ELSE -1 END, 'schema_name', v.name, 'view_name', template,
        'definition', _wh.definition_of(format('%I.%I', v.name, template)::regclass),
        'rights', _wh.rights_of(format('%I.%I', v.name, template)::regclass)
    )) INTO kept
    FROM (SELECT _wh.schemas_of(template) UNION ALL SELECT 'public') AS v (name)
    WHERE to_regclass(format('%I.%I', v.name, template)) IS NOT NULL;
    IF upon IS NOT NULL THEN
        EXECUTE format('DROP VIEW %s', upon);
    END IF;
    PERFORM _wh.drop_public_view_by_template(template);
    PERFORM _wh.drop_all_tenant_union_views_by_template(template);
    FOR part IN SELECT y.* FROM _wh.year_tables(template) AS y LOOP
        PERFORM _wh.change_year(part.schema_name, part.part_name, kind, column_name, new_type, value, hidden_name);
        IF create_index THEN
            EXECUTE format(
                'CREATE INDEX IF NOT EXISTS %I ON %I.%I (%I)',
                _wh.index_name(part.schema_name, part.part_name, column_name), part.schema_name, part.part_name, column_name
            );
        END IF;
    END LOOP;
    DELETE FROM _wh.change_work AS w WHERE w.template_name = template;
    INSERT INTO _wh.change_work (template_name, wave, what, schema_name, day)
    SELECT template, w.wave, 'day', m.schema_name, p.part_day
    FROM jsonb_array_elements(waves) WITH ORDINALITY AS w (schemas, wave)
    CROSS JOIN jsonb_array_elements_text(w.schemas) AS m (schema_name)
    INNER JOIN _wh.parts_of(template) AS p ON m.schema_name = p.schema_name AND NOT p.is_table;
    SELECT string_agg(format('%s is used by %s', p.part_oid::regclass, u.users), '; ') INTO upon
    FROM _wh.parts_of(template) AS p
    CROSS JOIN LATERAL _wh.users_of(p.part_oid) AS u (users)
    WHERE NOT p.is_table AND u.users IS NOT NULL;
    IF upon IS NOT NULL THEN
        RAISE EXCEPTION '%', upon
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'drop those views first, and make them again afterwards';
    END IF;
    FOR part IN SELECT p.schema_name, p.part_name FROM _wh.parts_of(template) AS p WHERE NOT p.is_table LOOP
        PERFORM _wh.put_aside(part.schema_name, part.part_name);
    END LOOP;
    INSERT INTO _wh.changes (
        template_name, column_name, kind, hidden_name, kept_views, source_down, skip_at_most, source_pause_s
    )
    VALUES (template, column_name, kind, hidden_name, kept, source_down, skip_at_most, source_pause_s);
    INSERT INTO _wh.change_definitions (template_name, shape, query_template, column_definitions, indexes)
    VALUES
        (template, 'old', old.query_template, old.column_definitions, old.indexes),
        (template, 'new', new_query, new_columns, new_indexes);
    UPDATE _wh.mv_templates AS t
    SET query_template = new_query, column_definitions = new_columns, indexes = new_indexes
    WHERE t.template_name = template;
    PERFORM _wh.log_info('a template is rebuilt in place', jsonb_build_object('template', template, 'column', column_name));
END
$body$;

-- Change a column of one yearly table so that it can be changed back.
CREATE OR REPLACE FUNCTION _wh.change_year(
    in_schema text, year_table text, kind text, column_name text, new_type text, value text, hidden_name text
) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    IF kind IN ('modify', 'remove') THEN
        EXECUTE format('ALTER TABLE %I.%I RENAME COLUMN %I TO %I', in_schema, year_table, column_name, hidden_name);
    END IF;
    IF kind IN ('add', 'modify') THEN
        EXECUTE format(
            'ALTER TABLE %I.%I ADD COLUMN %I %s%s', in_schema, year_table, column_name, _wh.type_of(new_type),
            CASE WHEN kind = 'add' AND value IS NOT NULL THEN format(' DEFAULT (%s)', value) ELSE '' END
        );
    END IF;
    IF kind = 'add' THEN
        EXECUTE format('ALTER TABLE %I.%I ALTER COLUMN %I DROP DEFAULT', in_schema, year_table, column_name);
    ELSIF kind = 'modify' THEN
        -- The expression names the column, so its row is shown with the old values under that name.
        EXECUTE format(
            'UPDATE %1$I.%2$I AS y SET %3$I = (SELECT (%4$s)::%5$s FROM (SELECT %6$s) AS %2$I)', in_schema, year_table,
            column_name, coalesce(value, quote_ident(column_name)), _wh.type_of(new_type),
            (
                SELECT string_agg(
                    CASE a.attname WHEN hidden_name THEN format('y.%I AS %I', a.attname, column_name)
                        ELSE format('y.%I', a.attname)
                    END, ', '
                )
                FROM pg_attribute AS a
                WHERE
                    a.attrelid = format('%I.%I', in_schema, year_table)::regclass AND a.attnum > 0
                    AND NOT a.attisdropped AND a.attname <> column_name
            )
        );
        PERFORM _wh.carry_to_column(in_schema, year_table, hidden_name, column_name);
    END IF;
END
$body$;

-- Give a column of a yearly table the privileges and the comment of another one, and indexes as that has them, under names
-- of ours until it is dropped.
CREATE OR REPLACE FUNCTION _wh.carry_to_column(in_schema text, year_table text, from_column text, to_column text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    relation regclass := format('%I.%I', in_schema, year_table)::regclass;
    x record;
BEGIN
    PERFORM _wh.give_rights(
        ARRAY(
            SELECT replace(r, quote_ident(from_column), quote_ident(to_column))
            FROM unnest(_wh.rights_of(relation)) AS r
            WHERE position(quote_ident(from_column) IN r) > 0
        ), in_schema, year_table
    );
    FOR x IN SELECT i.name, i.definition FROM _wh.indexes_on(relation, from_column) AS i LOOP
        EXECUTE regexp_replace(
            replace(x.definition, quote_ident(from_column), quote_ident(to_column)),
            '^(CREATE (UNIQUE )?INDEX )("([^"]|"")+"|\S+)', '\1' || quote_ident(_wh.carried_name(x.name))
        );
    END LOOP;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.carried_name(index_name text) RETURNS name
LANGUAGE sql IMMUTABLE AS $body$
    SELECT ('schema_change_new_' || md5(index_name))::name
$body$;

-- The indexes made of a column, but for those that constraints are made of.
CREATE OR REPLACE FUNCTION _wh.indexes_on(relation regclass, column_name text) RETURNS TABLE (name name, definition text)
LANGUAGE sql STABLE AS $body$
    SELECT c.relname, pg_get_indexdef(c.oid)
    FROM pg_attribute AS a
    INNER JOIN pg_depend AS d
        ON
            d.refclassid = 'pg_class'::regclass AND a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
            AND d.classid = 'pg_class'::regclass
    INNER JOIN pg_class AS c ON d.objid = c.oid AND c.relkind = 'i'
    WHERE
        a.attrelid = relation AND a.attname = column_name
        AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))
    GROUP BY c.oid, c.relname
$body$;

-- Make the views anew: of every tenant, the public one, and those that others had made on them.
CREATE OR REPLACE FUNCTION _wh.views_in_place(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    x record;
BEGIN
    FOR x IN
        SELECT v.*
        FROM _wh.changes AS c
        CROSS JOIN LATERAL jsonb_to_recordset(c.kept_views)
            AS v (depth integer, schema_name text, view_name text, definition text, rights text[])
        WHERE c.template_name = template
        ORDER BY v.depth, v.schema_name, v.view_name
    LOOP
        IF x.depth < 0 THEN
            PERFORM _wh.update_tenant_union_view_by_template(template, x.schema_name);
        ELSIF x.depth = 0 THEN
            PERFORM _wh.update_public_view_by_template(template);
        ELSE
            EXECUTE format('CREATE VIEW %I.%I AS %s', x.schema_name, x.view_name, x.definition);
        END IF;
        PERFORM _wh.give_rights(x.rights, x.schema_name, x.view_name);
    END LOOP;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.drop_views_in_place(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    views text := (
        SELECT string_agg(format('%I.%I', v.schema_name, v.view_name), ', ')
        FROM _wh.changes AS c
        CROSS JOIN LATERAL jsonb_to_recordset(c.kept_views) AS v (schema_name text, view_name text)
        WHERE
            c.template_name = template AND to_regclass(format('%I.%I', v.schema_name, v.view_name)) IS NOT NULL
    );
BEGIN
    PERFORM _wh.lock_template(template);
    IF views IS NOT NULL THEN
        EXECUTE format('DROP VIEW %s', views);
    END IF;
END
$body$;

-- The days that a rebuild in place has put aside; home is the schema that they come from.
CREATE OR REPLACE FUNCTION _wh.days_aside(template text) RETURNS TABLE (home name, aside name, part_name name)
LANGUAGE sql STABLE AS $body$
    SELECT h.nspname, o.nspname, p.part_name
    FROM pg_namespace AS h
    INNER JOIN pg_namespace AS o ON o.nspname = _wh.beside('old', h.nspname)
    CROSS JOIN LATERAL _wh.parts_of(template, o.nspname) AS p
    WHERE NOT p.is_table
$body$;

-- While a template is rebuilt in place, days are made and refreshed in their old shape too: a rollback gives them back.
CREATE OR REPLACE FUNCTION _wh.update_aside(template text, tenant text, in_schema text, day date, is_over boolean) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    s _wh.shape;
    part regclass;
BEGIN
    SELECT
        d.template_name, in_schema, d.shape, _wh.beside('old', in_schema), in_schema, d.query_template,
        d.column_definitions, d.indexes, d.year_columns
    INTO s
    FROM _wh.changes AS c
    INNER JOIN _wh.change_definitions AS d ON c.template_name = d.template_name AND d.shape = 'old'
    WHERE c.template_name = template AND c.kind IS NOT NULL;
    IF s.template_name IS NULL OR _wh.create_day(s, tenant, day) OR is_over THEN
        RETURN;
    END IF;
    part := format('%I.%I', s.days_schema, _wh.day_name(template, day))::regclass;
    EXECUTE format('REFRESH MATERIALIZED VIEW %s %s', _wh.concurrently(part), part);
END
$body$;

-- Drop days that were built anew and whose old ones are put aside, at most so many at once, each of which takes locks;
-- return how many twice: looked at, and dropped.
CREATE OR REPLACE FUNCTION _wh.drop_rebuilt(template text, at_most integer, OUT looked_at integer, OUT dropped integer)
LANGUAGE plpgsql AS $body$
DECLARE
    part record;
BEGIN
    looked_at := 0;
    FOR part IN
        SELECT o.home, o.part_name
        FROM _wh.days_aside(template) AS o
        INNER JOIN pg_namespace AS n ON o.home = n.nspname
        INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND o.part_name = c.relname
        LIMIT least(at_most, 50)
    LOOP
        PERFORM _wh.drop_part(part.home, part.part_name);
        looked_at := looked_at + 1;
    END LOOP;
    dropped := looked_at;
END
$body$;

-- Take back begin_in_place, once the days that were built anew are dropped.
CREATE OR REPLACE FUNCTION _wh.undo_in_place(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    change _wh.changes;
    x record;
BEGIN
    PERFORM _wh.lock_template(template);
    SELECT c.* INTO change FROM _wh.changes AS c WHERE c.template_name = template;
    FOR x IN SELECT y.* FROM _wh.year_tables(template) AS y LOOP
        IF change.kind IN ('add', 'modify') THEN
            EXECUTE format('ALTER TABLE %I.%I DROP COLUMN %I', x.schema_name, x.part_name, change.column_name);
        END IF;
        IF change.kind IN ('modify', 'remove') THEN
            EXECUTE format(
                'ALTER TABLE %I.%I RENAME COLUMN %I TO %I', x.schema_name, x.part_name, change.hidden_name, change.column_name
            );
        END IF;
    END LOOP;
    UPDATE _wh.mv_templates AS t
    SET query_template = d.query_template, column_definitions = d.column_definitions, indexes = d.indexes
    FROM _wh.change_definitions AS d
    WHERE t.template_name = template AND d.template_name = template AND d.shape = 'old';
    FOR x IN SELECT o.* FROM _wh.days_aside(template) AS o LOOP
        -- A refresh may have made it just now.
        IF to_regclass(format('%I.%I', x.home, x.part_name)) IS NOT NULL THEN
            PERFORM _wh.drop_part(x.home, x.part_name);
        END IF;
        EXECUTE format('ALTER MATERIALIZED VIEW %I.%I SET SCHEMA %I', x.aside, x.part_name, x.home);
    END LOOP;
    FOR x IN
        SELECT v.*
        FROM jsonb_to_recordset(change.kept_views)
            AS v (depth integer, schema_name text, view_name text, definition text, rights text[])
        ORDER BY v.depth, v.schema_name, v.view_name
    LOOP
        EXECUTE format('CREATE VIEW %I.%I AS %s', x.schema_name, x.view_name, x.definition);
        PERFORM _wh.give_rights(x.rights, x.schema_name, x.view_name);
    END LOOP;
    PERFORM _wh.cancel_change(template);
END
$body$;

CREATE OR REPLACE FUNCTION _wh.finish_in_place(template text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    change _wh.changes;
    x record;
    indexes name[];
    carried name;
BEGIN
    PERFORM _wh.lock_template(template);
    SELECT c.* INTO change FROM _wh.changes AS c WHERE c.template_name = template;
    IF change.kind IN ('modify', 'remove') THEN
        FOR x IN SELECT y.* FROM _wh.year_tables(template) AS y LOOP
            indexes := ARRAY(SELECT i.name FROM _wh.indexes_on(x.part_oid, change.hidden_name) AS i);
            EXECUTE format('ALTER TABLE %I.%I DROP COLUMN IF EXISTS %I', x.schema_name, x.part_name, change.hidden_name);
            FOREACH carried IN ARRAY indexes LOOP
                EXECUTE format('ALTER INDEX IF EXISTS %I.%I RENAME TO %I', x.schema_name, _wh.carried_name(carried), carried);
            END LOOP;
        END LOOP;
    END IF;
    -- Days that were born meanwhile, in both shapes.
    FOR x IN SELECT o.* FROM _wh.days_aside(template) AS o LOOP
        PERFORM _wh.drop_part(x.aside, x.part_name);
    END LOOP;
    PERFORM _wh.log_info('a change of a template is finished', _wh.change_summary(template));
    PERFORM _wh.end_change(template);
END
$body$;
