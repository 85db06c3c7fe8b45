-- A warehouse that has functions of its own in schema _wh instead of the toolkit, and how a change uses them. The bodies of
-- DO statements are composed: their {places} are filled in.

-- name: functions
SELECT p.proname AS name, max(p.pronargs) AS arguments
FROM pg_proc AS p
INNER JOIN pg_namespace AS n ON p.pronamespace = n.oid
WHERE n.nspname = '_wh' AND p.proname = ANY(%(names)s) AND to_regclass('_wh.mv_templates') IS NOT NULL
GROUP BY p.proname;

-- name: templates
WITH parts AS (
    SELECT t.template_name, n.nspname, c.relname, c.oid, c.reltuples, x.day
    FROM _wh.mv_templates AS t
    INNER JOIN pg_class AS c ON starts_with(c.relname, t.template_name || '_')
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    CROSS JOIN LATERAL (SELECT substr(c.relname, length(t.template_name) + 2) AS suffix) AS s
    CROSS JOIN LATERAL (
        SELECT CASE WHEN s.suffix ~ '^[12]\d{3}_(0[1-9]|1[0-2])_(0[1-9]|[12]\d|3[01])$' THEN to_date(s.suffix, 'YYYY_MM_DD') END AS day
    ) AS x
    WHERE
        t.template_name = ANY(%(names)s) AND n.nspname <> 'public' AND n.nspname !~ '^(_wh|pg_)'
        AND CASE c.relkind WHEN 'm' THEN x.day IS NOT NULL ELSE c.relkind IN ('r', 'p') AND s.suffix ~ '^[12]\d{3}$' END
),
views AS (
    SELECT t.template_name, n.nspname, c.oid
    FROM _wh.mv_templates AS t
    INNER JOIN pg_class AS c ON t.template_name = c.relname AND c.relkind = 'v'
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    WHERE n.nspname <> 'public' AND n.nspname !~ '^(_wh|pg_)'
),
months AS (
    SELECT p.template_name, p.nspname, min(p.day) AS first, max(p.day) AS last
    FROM parts AS p
    WHERE p.day IS NOT NULL
    GROUP BY p.template_name, p.nspname, date_trunc('month', p.day)
),
-- A schema's connection has its name, or begins with it. Where several do, the one that its last day asks.
connections AS (
    SELECT
        v.template_name, v.nspname,
        coalesce(
            jsonb_agg(c.tenant_name ORDER BY c.tenant_name) FILTER (WHERE strpos(d.body, c.host) > 0 AND strpos(d.body, c.dbname) > 0),
            jsonb_agg(c.tenant_name ORDER BY c.tenant_name) FILTER (WHERE c.tenant_name IS NOT NULL),
            '[]'
        ) AS names
    FROM views AS v
    LEFT JOIN LATERAL (
        SELECT pg_get_viewdef(p.oid) AS body FROM parts AS p
        WHERE p.template_name = v.template_name AND p.nspname = v.nspname AND p.day IS NOT NULL
        ORDER BY p.day DESC
        LIMIT 1
    ) AS d ON true
    LEFT JOIN _wh.tenant_connections AS c
        ON v.nspname = c.tenant_name OR starts_with(c.tenant_name, v.nspname || '-') OR starts_with(c.tenant_name, v.nspname || '_')
    GROUP BY v.template_name, v.nspname
)
SELECT
    t.template_name,
    t.query_template,
    t.indexes,
    t.column_definitions,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(v.nspname, a.types, '[]'::jsonb) ORDER BY v.nspname), '[]')
        FROM views AS v
        CROSS JOIN LATERAL (
            SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod)) AS types
            FROM pg_attribute AS a
            WHERE a.attrelid = v.oid AND a.attnum > 0
        ) AS a
        WHERE v.template_name = t.template_name
    ) AS tenants,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(p.nspname, p.relname) ORDER BY p.nspname, p.relname), '[]')
        FROM parts AS p
        WHERE p.template_name = t.template_name AND p.day IS NULL
    ) AS years,
    (SELECT count(p.day) FROM parts AS p WHERE p.template_name = t.template_name) AS days,
    (SELECT coalesce(sum(greatest(p.reltuples, 0)), 0)::bigint FROM parts AS p WHERE p.template_name = t.template_name) AS rows,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(m.nspname, m.first, m.last) ORDER BY m.nspname, m.first), '[]')
        FROM months AS m
        WHERE m.template_name = t.template_name
    ) AS months,
    (
        SELECT coalesce(jsonb_object_agg(c.nspname, c.names), '{}')
        FROM connections AS c
        WHERE c.template_name = t.template_name
    ) AS connections,
    EXISTS (
        SELECT FROM parts AS p
        WHERE p.template_name = t.template_name AND p.day IS NOT NULL AND pg_get_viewdef(p.oid) ~* 'password\s*='
    ) AS shows_passwords
FROM _wh.mv_templates AS t
WHERE t.template_name = ANY(%(names)s);

-- name: set_template
UPDATE _wh.mv_templates
SET query_template = {query}, column_definitions = {definitions}, indexes = {indexes}
WHERE template_name = {template};

-- name: call
-- Call functions of the warehouse; they return what went wrong, and drop with CASCADE: raise both.
DECLARE
    called text;
    result jsonb;
    others text[] := ARRAY(
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class AS c
        INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
        WHERE
            c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^(pg_|information_schema$)'
            AND NOT (
                c.relkind = 'm' AND n.nspname = ANY({schemas}::text[]) AND starts_with(c.relname, {template} || '_')
                AND substr(c.relname, length({template}) + 2) ~ '^\d{{4}}_\d\d_\d\d$'
            )
            AND NOT (c.relkind = 'v' AND c.relname = {template} AND n.nspname = ANY({schemas}::text[] || 'public'::text))
    );
    lost text;
BEGIN
    FOREACH called IN ARRAY {calls}::text[] LOOP
        EXECUTE 'SELECT to_jsonb(' || called || ')' INTO result;
        IF
            result IS NULL OR result = 'false' OR coalesce(result ->> 'success' = 'false', false)
            OR coalesce((result ->> 'error_count')::integer > 0, false)
        THEN
            RAISE EXCEPTION '% said %', called, left(result::text, 1000) USING HINT = 'see the log of the warehouse';
        END IF;
    END LOOP;
    SELECT string_agg(o.name, ', ') INTO lost FROM unnest(others) AS o (name) WHERE to_regclass(o.name) IS NULL;
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION 'the functions of the warehouse drop more than template % has: %', {template}, lost
            USING HINT = 'nothing was changed; rename it, or drop it first and make it again afterwards';
    END IF;
END

-- name: make_days
-- Make days, in a copy for a rehearsal without rows, because no source can be asked there.
DECLARE
    day date;
BEGIN
    IF NOT starts_with(current_database(), 'schema_change_scratch_') THEN
        {call};
        RETURN;
    END IF;
    FOR day IN SELECT generate_series({first}::date, {last}::date, interval '1 day') LOOP
        EXECUTE format(
            'CREATE MATERIALIZED VIEW IF NOT EXISTS %I.%I AS SELECT %s WITH NO DATA', {schema},
            {template} || to_char(day, '_YYYY_MM_DD'), {nulls}
        );
    END LOOP;
END

-- name: drop_days
-- Drop the days that were made.
DECLARE
    part regclass;
BEGIN
    -- Functions that bring a tenant's view up to date with every day have made it already.
    EXECUTE format('DROP VIEW IF EXISTS %I.%I', {schema}, {template});
    FOR part IN
        SELECT c.oid
        FROM generate_series({first}::date, {last}::date, interval '1 day') AS d (day)
        INNER JOIN pg_class AS c
            ON
                c.oid = to_regclass(format('%I.%I', {schema}, {template} || to_char(d.day, '_YYYY_MM_DD')))
                AND c.relkind = 'm'
    LOOP
        EXECUTE format('DROP MATERIALIZED VIEW %s', part);
    END LOOP;
END

-- name: check_years
-- Check the yearly tables, since types and defaults go through text in such functions.
DECLARE
    part regclass;
    found text[];
    is_wrong boolean;
BEGIN
    FOREACH part IN ARRAY {years}::regclass[] LOOP
        SELECT array_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum) INTO found
        FROM pg_attribute AS a
        WHERE a.attrelid = part AND a.attnum > 0 AND NOT a.attisdropped;
        IF found <> {columns}::text[] THEN
            RAISE EXCEPTION '% has the columns %, and the template %', part, found, {columns}::text[];
        END IF;
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I::text IS DISTINCT FROM (%s)::text)', part, {column}, {value})
        INTO is_wrong;
        IF is_wrong THEN
            RAISE EXCEPTION 'not every row of % has the default in %', part, {column};
        END IF;
    END LOOP;
END

-- name: count_days
-- Note what every day has.
DECLARE
    part record;
BEGIN
    CREATE TABLE {counts} (schema_name text, part_name text, day date, found jsonb NOT NULL, PRIMARY KEY (schema_name, part_name));
    FOR part IN
        SELECT n.nspname, c.relname
        FROM pg_class AS c
        INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
        WHERE
            c.relkind = 'm' AND c.relispopulated AND n.nspname = ANY({schemas}::text[])
            AND starts_with(c.relname, {template} || '_')
            AND substr(c.relname, length({template}) + 2) ~ '^\d{{4}}_\d\d_\d\d$'
    LOOP
        EXECUTE format(
            'INSERT INTO %s SELECT %L, %L, %L, jsonb_build_object(''rows'', count(*)%s) FROM %I.%I', {counts_name},
            part.nspname, part.relname, to_date(right(part.relname, 10), 'YYYY_MM_DD'), {sums}, part.nspname, part.relname
        );
    END LOOP;
END

-- name: compare_days
-- Compare every day with what it had; today and yesterday have to be there, but their sources go on.
DECLARE
    part record;
    found jsonb;
    wrong text[] := '{{}}';
BEGIN
    FOR part IN SELECT * FROM {counts} AS c ORDER BY c.schema_name, c.part_name LOOP
        EXECUTE format(
            'SELECT jsonb_build_object(''rows'', count(*)%s) FROM %I.%I', {sums}, part.schema_name, part.part_name
        ) INTO found;
        IF found <> part.found AND part.day < (now() AT TIME ZONE 'UTC')::date - 1 THEN
            wrong := wrong || format('%I.%I was %s, is %s', part.schema_name, part.part_name, part.found, found);
        END IF;
    END LOOP;
    IF wrong <> '{{}}' THEN
        RAISE EXCEPTION 'not every day has what it had: %', left(array_to_string(wrong, '; '), 1000)
            USING HINT = 'the source has changed since these days were made, or the template''s query is wrong';
    END IF;
END

-- name: read_views
-- Read every view.
DECLARE
    view text;
BEGIN
    IF NOT starts_with(current_database(), 'schema_change_scratch_') THEN
        FOREACH view IN ARRAY {views}::text[] LOOP
            EXECUTE format('SELECT count(%I) FROM (SELECT * FROM %s LIMIT 1) AS row', {column}, view);
        END LOOP;
    END IF;
END
