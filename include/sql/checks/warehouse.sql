-- What a change of a template of the warehouse depends on.

-- name: connections
SELECT t.schema_name, _wh.check_connection(t.tenant_name) AS answer
FROM _wh.tenant_schemas AS t
WHERE t.schema_name = ANY(%(schemas)s)
ORDER BY t.schema_name;

-- name: without_tenant
SELECT s.name
FROM unnest(%(schemas)s::text[]) AS s (name)
WHERE s.name NOT IN (SELECT t.schema_name FROM _wh.tenant_schemas AS t)
ORDER BY s.name;

-- name: locks
-- One read of the public view locks every part and each of its indexes, and the views themselves.
SELECT
    count(DISTINCT p.part_oid) + count(i.indexrelid) + (SELECT count(*) FROM _wh.schemas_of(%(template)s)) + 1 AS of_a_read,
    current_setting('max_locks_per_transaction')::integer AS per_transaction,
    current_setting('max_connections')::integer + current_setting('max_prepared_transactions')::integer AS transactions
FROM _wh.parts_of(%(template)s) AS p
LEFT JOIN pg_index AS i ON p.part_oid = i.indrelid;

-- name: not_ours
-- Who owns parts and views of a template, or views that others made on them, and we may not act as; with an example.
SELECT r.rolname::text, r.rolsuper, o.is_upon, count(*), min(format('%%I.%%I', n.nspname, c.relname))
FROM (
    SELECT p.schema_name, p.part_name, false FROM _wh.parts_of(%(template)s) AS p
    UNION ALL
    SELECT v.name, %(template)s, false FROM _wh.schemas_of(%(template)s) AS v (name)
    UNION ALL
    SELECT 'public', %(template)s, false
    UNION ALL
    SELECT u.schema_name, u.view_name, true FROM _wh.views_upon(%(template)s) AS u
) AS o (schema_name, relation_name, is_upon)
INNER JOIN pg_namespace AS n ON o.schema_name = n.nspname
INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND o.relation_name = c.relname
INNER JOIN pg_roles AS r ON c.relowner = r.oid
WHERE NOT pg_has_role(r.oid, 'USAGE')
GROUP BY r.rolname, r.rolsuper, o.is_upon
ORDER BY o.is_upon, r.rolname;

-- name: risks
SELECT
    (SELECT array_agg(c.tenant_name ORDER BY c.tenant_name) FROM _wh.tenant_connections AS c WHERE c.created_at > now() - interval '7 days')
        AS new_tenants,
    (SELECT max(t.installed_at) > now() - interval '7 days' AND count(*) > 1 FROM _wh.toolkit_version AS t) AS new_functions;

-- name: work
-- The days that a change asks the sources for: of daily views, and from a year on of finished years.
SELECT
    count(*) FILTER (WHERE NOT p.is_table)
    + coalesce(sum(p.part_until - p.part_from) FILTER (WHERE p.is_table AND p.part_from >= make_date(%(history_from)s::integer, 1, 1)), 0)
FROM _wh.parts_of(%(template)s) AS p
WHERE p.schema_name = ANY(%(schemas)s);

-- name: seconds_a_day
-- What a day of one tenant took when days were built last, without the rest behind it.
SELECT
    (
        sum(extract(EPOCH FROM s.finished_at - s.started_at)) * max(coalesce((r.options ->> 'shards')::integer, 1))
        / sum(s.rows) - max(o.pause_s)
    )::double precision
FROM schema_change.run AS r
INNER JOIN schema_change.step AS s ON r.run_id = s.run_id
CROSS JOIN LATERAL (
    SELECT coalesce(max((b.body ->> 'source_pause_s')::numeric), 0) AS pause_s
    FROM jsonb_array_elements(r.change -> 'operations') AS i (item)
    CROSS JOIN LATERAL jsonb_each(i.item) AS b (kind, body)
) AS o
WHERE
    s.phase = 'backfill' AND s.rows > 0 AND s.finished_at IS NOT NULL
    AND s.step -> 'backfill' -> 'table' = '{"schema": "_wh", "name": "change_work"}'
GROUP BY r.run_id, r.started_at
ORDER BY r.started_at DESC
LIMIT 1;

-- name: never_landed
SELECT k.kind
FROM unnest(%(kinds)s::text[]) AS k (kind)
WHERE NOT EXISTS (
    SELECT FROM schema_change.run AS r
    CROSS JOIN LATERAL jsonb_array_elements(r.change -> 'operations') AS o (item)
    WHERE r.status = 'applied' AND o.item ? k.kind
)
ORDER BY k.kind;
