-- What is left of a year or a month once it has its table.

-- Drop the parts that a folded period has taken in, at most so many at once, because each takes several locks; return how
-- many. Refused while the period has no table, or the table lacks rows of such a part: they would be lost.
CREATE OR REPLACE FUNCTION _wh.drop_folded(template text, schema_name text, period text, at_most integer) RETURNS integer
LANGUAGE plpgsql AS $body$
DECLARE
    parts name[];
    part name;
    lacking text;
BEGIN
    PERFORM _wh.refuse_change(template);
    IF to_regclass(format('%I.%I', schema_name, template || '_' || (_wh.period(period)).suffix)) IS NULL THEN
        RAISE EXCEPTION '% of template % has no table in schema %', period, template, schema_name
            USING HINT = 'fold it first: _wh.fold';
    END IF;
    parts := ARRAY(
        SELECT p.part_name
        FROM _wh.parts_of(template, schema_name) AS p
        CROSS JOIN _wh.period(period) AS w
        WHERE w.first <= p.part_from AND p.part_until <= w.until AND p.part_until - p.part_from < w.until - w.first
        ORDER BY p.part_name
        LIMIT least(at_most, 50)
    );
    lacking := _wh.not_folded(template, schema_name, period, parts);
    IF lacking IS NOT NULL THEN
        RAISE EXCEPTION 'the table of % lacks rows of %', period, lacking
            USING HINT = 'nothing was dropped; see where the table comes from, and fold anew without it';
    END IF;
    FOREACH part IN ARRAY parts LOOP
        PERFORM _wh.drop_part(schema_name, part);
    END LOOP;
    RETURN cardinality(parts);
END
$body$;

-- The parts, as a list, that have rows which their period's table has not, by the template's key or else by all its
-- columns; NULL when there is none.
CREATE OR REPLACE FUNCTION _wh.not_folded(template text, schema_name text, period text, taken_in name[]) RETURNS text
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
    FROM unnest(taken_in) AS d;
    IF parts IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format(
        'SELECT string_agg(DISTINCT d.part, '', '') FROM (%s) AS d WHERE NOT EXISTS (SELECT FROM %I.%I AS y WHERE %s)',
        parts, schema_name, template || '_' || (_wh.period(period)).suffix, same
    ) INTO lacking;
    RETURN lacking;
END
$body$;
