-- The daily upkeep of the template warehouse.

-- name: template_names
SELECT t.template_name FROM _wh.mv_templates AS t ORDER BY t.template_name;

-- name: members
SELECT t.template_name, s.tenant_name, s.schema_name
FROM _wh.tenant_schemas AS s
CROSS JOIN _wh.mv_templates AS t
WHERE
    (%(templates)s::text[] = '{}' OR t.template_name = ANY(%(templates)s::text[]))
    AND EXISTS (SELECT FROM _wh.parts_of(t.template_name, s.schema_name))
ORDER BY t.template_name, s.schema_name;

-- name: lock_timeout
SELECT current_setting('lock_timeout');

-- name: set_lock_timeout
SELECT set_config('lock_timeout', %(timeout)s, true);

-- name: set_statement_timeout
SELECT set_config('statement_timeout', %(timeout)s, true);

-- name: lock_template
SELECT _wh.lock_template(%(template)s, %(shared)s);

-- name: folded
SELECT t.part_from, t.part_until FROM _wh.tables_of(%(template)s, %(schema)s) AS t;

-- name: update_day
SELECT _wh.update_mv_by_template(%(template)s, %(tenant)s, %(schema)s, %(day)s, true, false);

-- name: view_lacks_parts
-- The tenant's view, or while the template changes one of its two, does not read all of its parts.
SELECT EXISTS (
    SELECT FROM _wh.shapes_of(%(template)s, %(schema)s) AS s
    CROSS JOIN LATERAL (SELECT to_regclass(format('%%I.%%I', s.view_schema, s.template_name)) AS oid) AS v
    CROSS JOIN LATERAL _wh.read_parts_of(s) AS p
    WHERE
        -- What is built beside gets its view at the end.
        NOT (s.shape = 'new' AND v.oid IS NULL)
        AND NOT EXISTS (
            SELECT FROM pg_rewrite AS r
            INNER JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
            WHERE r.ev_class = v.oid AND d.refclassid = 'pg_class'::regclass AND p.part_oid = d.refobjid
        )
);

-- name: update_tenant_view
SELECT _wh.update_tenant_union_view_by_template(%(template)s, %(schema)s);

-- name: public_lacks_tenant
-- The public view does not read a tenant's, and not because an emergency left it out.
SELECT
    NOT EXISTS (
        SELECT FROM pg_rewrite AS r
        INNER JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        WHERE
            r.ev_class = to_regclass(format('public.%%I', %(template)s::text)) AND d.refclassid = 'pg_class'::regclass
            AND d.refobjid = to_regclass(format('%%I.%%I', %(schema)s::text, %(template)s::text))
    )
    AND NOT coalesce((
        SELECT l.level = 'error'
        FROM _wh.log AS l
        WHERE
            l.context ->> 'template' = %(template)s
            AND l.message IN ('public access was restored in an emergency', 'the public view shows every tenant')
        ORDER BY l.id DESC
        LIMIT 1
    ), false);

-- name: update_public_view
SELECT _wh.update_public_view_by_template(%(template)s);

-- name: has_parts
SELECT EXISTS (
    SELECT FROM _wh.parts_of(%(template)s, %(schema)s) AS p
    CROSS JOIN _wh.period(%(period)s) AS w
    WHERE w.first <= p.part_from AND p.part_until <= w.until
);

-- name: fold
SELECT _wh.fold(%(template)s, %(schema)s, %(period)s);

-- name: drop_folded
SELECT _wh.drop_folded(%(template)s, %(schema)s, %(period)s, %(at_most)s);

-- name: last_finished_year
SELECT extract(YEAR FROM _wh.current_date_utc())::integer - 1;

-- name: today
SELECT _wh.current_date_utc();

-- name: schemas_with_view
SELECT s.name FROM _wh.schemas_of(%(template)s) AS s (name);

-- name: emergency_public_view
SELECT _wh.emergency_public_view(%(template)s, %(only_years)s, %(schemas)s);

-- name: in_the_way
-- Sessions that use the public view, and those that they wait for, such as the refresh of a day.
WITH users AS (
    SELECT l.pid
    FROM pg_locks AS l
    INNER JOIN pg_database AS b ON l.database = b.oid AND b.datname = current_database()
    WHERE l.relation = to_regclass(format('public.%%I', %(template)s::text)) AND l.granted AND l.pid <> pg_backend_pid()
)
SELECT string_agg(format('%%s (%%s, %%s)', a.pid, a.usename, a.application_name), ', ' ORDER BY a.query_start)
FROM pg_stat_activity AS a
WHERE
    a.pid IN (SELECT u.pid FROM users AS u)
    OR a.pid IN (SELECT unnest(pg_blocking_pids(u.pid)) FROM users AS u);

-- name: tenants
SELECT c.tenant_name, coalesce(array_agg(s.schema_name ORDER BY s.schema_name) FILTER (WHERE s.schema_name IS NOT NULL), '{}')
FROM _wh.tenant_connections AS c
LEFT JOIN _wh.tenant_schemas AS s ON c.tenant_name = s.tenant_name
GROUP BY c.tenant_name
ORDER BY c.tenant_name;

-- name: check_connection
SELECT _wh.check_connection(%(tenant)s);

-- name: errors_since
SELECT l.at, l.message, l.context, l.actor FROM _wh.log AS l WHERE l.level = 'error' AND l.at >= %(at)s ORDER BY l.id;
