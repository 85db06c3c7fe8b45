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

-- name: risks
SELECT
    (SELECT array_agg(c.tenant_name ORDER BY c.tenant_name) FROM _wh.tenant_connections AS c WHERE c.created_at > now() - interval '7 days')
        AS new_tenants,
    (SELECT max(t.installed_at) > now() - interval '7 days' AND count(*) > 1 FROM _wh.toolkit_version AS t) AS new_functions;
