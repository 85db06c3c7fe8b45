-- Public access in an emergency.

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
