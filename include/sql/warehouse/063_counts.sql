-- What the report of a change counts; also to be asked by hand.

-- How a column of the public view is distributed in each tenant. Numbers, times, booleans and enums are shown; of other
-- values, which may be anybody's name, only the length, but for one that is known already, such as the default (an
-- expression, as in a change). Values that are there once are no frequent ones.
CREATE OR REPLACE FUNCTION _wh.column_distribution(template text, of_column text, known_value text DEFAULT NULL)
RETURNS TABLE (tenant text, rows bigint, nulls bigint, distinct_values bigint, most_frequent text)
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    data_type text;
    is_shown boolean;
BEGIN
    SELECT format_type(a.atttypid, a.atttypmod), t.typcategory IN ('N', 'D', 'T', 'B', 'E') INTO data_type, is_shown
    FROM pg_attribute AS a
    INNER JOIN pg_type AS t ON a.atttypid = t.oid
    WHERE a.attrelid = to_regclass(format('public.%I', template)) AND a.attname = of_column AND NOT a.attisdropped;
    IF data_type IS NULL THEN
        RAISE EXCEPTION 'public.% has no column %', template, of_column;
    END IF;
    RETURN QUERY EXECUTE format(
        $query$
        -- What is not shown is told apart by a hash of its text: a group is small then, and any type has one.
        WITH counted AS (
            SELECT
                v.schema_name, %1$s AS value, count(*) AS amount, max(length(%2$s)) AS length,
                bool_or(%2$s = (%3$s)::%4$s::text) AS is_known
            FROM public.%5$I AS v
            GROUP BY 1, 2
        ),
        tenants AS (
            SELECT
                c.schema_name, sum(c.amount)::bigint AS amount,
                coalesce(sum(c.amount) FILTER (WHERE c.value IS NULL), 0)::bigint AS nulls, count(c.value) AS different
            FROM counted AS c
            GROUP BY c.schema_name
        ),
        frequent AS (
            SELECT c.*, row_number() OVER (PARTITION BY c.schema_name ORDER BY c.amount DESC, c.value) AS place
            FROM counted AS c
            WHERE c.amount > 1 AND c.value IS NOT NULL
        )
        SELECT t.schema_name, t.amount, t.nulls, t.different, string_agg(
            format('%%s (%%s)', CASE
                WHEN f.is_known THEN left((%3$s)::%4$s::text, 40)
                WHEN %6$L THEN left(f.value::text, 40)
                ELSE f.length || ' characters'
            END, f.amount), ', ' ORDER BY f.place
        ) FILTER (WHERE f.place IS NOT NULL)
        FROM tenants AS t
        LEFT JOIN frequent AS f ON t.schema_name = f.schema_name AND f.place <= 5
        GROUP BY t.schema_name, t.amount, t.nulls, t.different
        ORDER BY t.schema_name
        $query$,
        format(CASE WHEN is_shown THEN 'v.%I' ELSE 'hashtextextended(v.%I::text, 0)' END, of_column),
        CASE WHEN is_shown THEN 'NULL::text' ELSE format('v.%I::text', of_column) END,
        coalesce(known_value, 'NULL'), data_type, template, is_shown
    );
END
$body$;

-- How many rows of each yearly table have the value that their source gave during the change under way, and how many the
-- default. A tenant that is left out shows the default; one that another run has changed is left out here.
CREATE OR REPLACE FUNCTION _wh.history_of_change(template text)
RETURNS TABLE (tenant text, year_table text, rows bigint, from_source bigint, with_default bigint)
LANGUAGE plpgsql STABLE AS $body$
DECLARE
    counts text := (
        SELECT string_agg(
            format(
                'SELECT %L AS tenant, %L AS year_table, %s::bigint AS from_source, count(*) AS amount FROM %I.%I',
                t.schema_name, t.part_name, g.given, t.schema_name, t.part_name
            ), ' UNION ALL '
        )
        FROM _wh.changes AS c
        CROSS JOIN _wh.schemas_of(template) AS v (name)
        CROSS JOIN LATERAL _wh.tables_of(template, v.name) AS t
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(w.rows), 0) AS given
            FROM _wh.change_work AS w
            WHERE
                w.template_name = template AND w.what = 'history' AND v.name = w.schema_name
                AND w.day >= t.part_from AND w.day < t.part_until
        ) AS g
        WHERE
            c.template_name = template
            AND NOT (
                EXISTS (
                    SELECT FROM _wh.shapes AS s
                    WHERE
                        s.template_name = template AND s.shape = 'new' AND v.name = s.schema_name
                        AND s.days_schema = s.schema_name
                )
                AND NOT EXISTS (
                    SELECT FROM _wh.change_work AS w WHERE w.template_name = template AND v.name = w.schema_name
                )
                AND EXISTS (
                    SELECT FROM pg_attribute AS a
                    WHERE t.part_oid = a.attrelid AND c.column_name = a.attname AND NOT a.attisdropped
                )
            )
    );
BEGIN
    IF counts IS NOT NULL THEN
        RETURN QUERY EXECUTE format(
            'SELECT c.tenant, c.year_table, c.amount, c.from_source, c.amount - c.from_source FROM (%s) AS c ORDER BY 1, 2',
            counts
        );
    END IF;
END
$body$;
