-- Days that get rows back which were kept of them, without their sources: after a restore, because a dump has no rows of
-- materialized views.

-- Fill days that hold no rows, or are not there, from a table whose first columns, _wh_schema and _wh_day, say which day a
-- row is of; return those that could not be filled. While a day is filled, dblink gives the rows of that table, so the day
-- stays what it is, a query that asks the source. Nobody else sees that: dblink is what it was when the transaction ends.
CREATE OR REPLACE FUNCTION _wh.refill_days(kept regclass, template text, schemas text[], days date[])
RETURNS TABLE (schema_name text, day date, error text)
LANGUAGE plpgsql AS $body$
DECLARE
    true_dblink text := pg_get_functiondef('public.dblink(text, text)'::regprocedure);
    columns text := (
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
        FROM pg_attribute AS a
        WHERE a.attrelid = kept AND a.attnum > 2 AND NOT a.attisdropped
    );
    s _wh.shape;
    part regclass;
BEGIN
    PERFORM _wh.lock_template(template);
    EXECUTE
        'CREATE OR REPLACE FUNCTION public.dblink(text, text) RETURNS SETOF record LANGUAGE plpgsql AS '
        '$$ BEGIN RETURN QUERY EXECUTE current_setting(''_wh.kept_rows''); END $$';
    FOR schema_name, day IN SELECT d.* FROM unnest(schemas, days) AS d LOOP
        BEGIN
            part := to_regclass(format('%I.%I', schema_name, _wh.day_name(template, day)));
            IF part IS NULL THEN
                SELECT o.* INTO s FROM _wh.day_shapes_of(template, schema_name) AS o LIMIT 1;
                PERFORM _wh.create_day(
                    s, (SELECT t.tenant_name FROM _wh.tenant_schemas AS t WHERE t.schema_name = s.schema_name), day, false
                );
                part := format('%I.%I', schema_name, _wh.day_name(template, day))::regclass;
            END IF;
            CONTINUE WHEN (SELECT c.relispopulated FROM pg_class AS c WHERE c.oid = part);
            PERFORM _wh.let_owner_read(kept, part);
            PERFORM set_config('_wh.kept_rows', format(
                'SELECT %s FROM %s WHERE _wh_schema = %L AND _wh_day = %L', columns, kept, schema_name, day
            ), true);
            EXECUTE format('REFRESH MATERIALIZED VIEW %s', part);
        EXCEPTION WHEN OTHERS THEN
            error := sqlerrm;
            RETURN NEXT;
        END;
    END LOOP;
    EXECUTE true_dblink;
END
$body$;

-- A materialized view is filled with the rights of its owner.
CREATE OR REPLACE FUNCTION _wh.let_owner_read(kept regclass, part regclass) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    who text := (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = part);
    home text := (SELECT c.relnamespace::regnamespace::text FROM pg_class AS c WHERE c.oid = kept);
BEGIN
    IF NOT has_table_privilege(who, kept, 'SELECT') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', home, who);
        EXECUTE format('GRANT SELECT ON %s TO %I', kept, who);
    END IF;
END
$body$;
