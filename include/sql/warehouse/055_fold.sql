-- What is left of a year once it has its table.

-- Drop daily views of a folded year in one schema, at most so many at once, because each takes several locks; return how
-- many. Refused while the year has no table, or the table lacks rows of such a day: they would be lost.
CREATE OR REPLACE FUNCTION _wh.drop_folded_days(template text, schema_name text, year integer, at_most integer) RETURNS integer
LANGUAGE plpgsql AS $body$
DECLARE
    days name[];
    day name;
    lacking text;
BEGIN
    PERFORM _wh.refuse_change(template);
    IF NOT EXISTS (
        SELECT FROM _wh.parts_of(template, schema_name) AS p WHERE p.is_year AND p.part_year = drop_folded_days.year
    ) THEN
        RAISE EXCEPTION 'year % of template % has no table in schema %', year, template, schema_name
            USING HINT = 'fold it first: create_combined_table_from_template_by_year';
    END IF;
    days := ARRAY(
        SELECT p.part_name
        FROM _wh.parts_of(template, schema_name) AS p
        WHERE NOT p.is_year AND p.part_year = drop_folded_days.year
        ORDER BY p.part_name
        LIMIT least(at_most, 50)
    );
    lacking := _wh.not_folded(template, schema_name, year, days);
    IF lacking IS NOT NULL THEN
        RAISE EXCEPTION 'the table of year % lacks rows of %', year, lacking
            USING HINT = 'nothing was dropped; see where the table comes from, and fold the year anew without it';
    END IF;
    FOREACH day IN ARRAY days LOOP
        PERFORM _wh.drop_part(schema_name, day);
    END LOOP;
    RETURN cardinality(days);
END
$body$;

-- The daily views, as a list, that have rows which their year's table has not, by the template's key or else by all its
-- columns; NULL when there is none.
CREATE OR REPLACE FUNCTION _wh.not_folded(template text, schema_name text, year integer, days name[]) RETURNS text
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    wanted _wh.mv_templates := _wh.template_of(template);
    columns text;
    same text;
    parts text;
    lacking text;
BEGIN
    SELECT
        string_agg(quote_ident(c.column_name), ', ' ORDER BY c.place),
        format(
            'ROW(%s)::text = ROW(%s)::text',
            string_agg(format('y.%I', c.column_name), ', ' ORDER BY c.place),
            string_agg(format('d.%I', c.column_name), ', ' ORDER BY c.place)
        )
    INTO columns, same
    FROM _wh.columns_in(wanted.column_definitions) AS c;
    same := coalesce((
        SELECT string_agg(format('y.%I = d.%1$I', k.name), ' AND ') FROM _wh.key_columns(wanted.indexes) AS k (name)
    ), same);
    SELECT string_agg(format('SELECT %L AS part, %s FROM %I.%I', d, columns, schema_name, d), ' UNION ALL ')
    INTO parts
    FROM unnest(days) AS d;
    IF parts IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format(
        'SELECT string_agg(DISTINCT d.part, '', '') FROM (%s) AS d WHERE NOT EXISTS (SELECT FROM %I.%I AS y WHERE %s)',
        parts, schema_name, template || '_' || year, same
    ) INTO lacking;
    RETURN lacking;
END
$body$;
