-- What the report of a change counts while the change is under way.

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
