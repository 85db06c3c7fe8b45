-- What a change depends on in a warehouse that has functions of its own instead of the toolkit.

-- name: answer
-- Raises what the driver says, which has no password in it.
SELECT d.one
FROM _wh.tenant_connections AS c
CROSS JOIN LATERAL (
    SELECT string_agg(v.name || '=''' || replace(replace(v.value, '\', '\\'), '''', '\''') || '''', ' ') AS text
    FROM (
        VALUES
        ('host', c.host), ('port', c.port::text), ('dbname', c.dbname), ('user', c.username), ('password', c.password),
        ('connect_timeout', '10')
    ) AS v (name, value)
    WHERE v.value IS NOT NULL
) AS s
CROSS JOIN LATERAL public.dblink(s.text, 'SELECT 1') AS d (one integer)
WHERE c.tenant_name = %(tenant)s;

-- name: has_dblink
SELECT to_regprocedure('public.dblink(text, text)') IS NOT NULL AS has_dblink;

-- name: new_tenants
SELECT coalesce(array_agg(c.tenant_name ORDER BY c.tenant_name), '{}')
FROM _wh.tenant_connections AS c
WHERE c.created_at > now() - interval '7 days';

-- name: locks
SELECT
    (
        SELECT count(DISTINCT c.oid) + count(i.indexrelid)
        FROM pg_class AS c
        INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
        LEFT JOIN pg_index AS i ON c.oid = i.indrelid
        WHERE starts_with(c.relname, %(template)s) AND c.relkind IN ('m', 'r', 'p', 'v') AND n.nspname !~ '^(_wh|pg_)'
    ) AS of_a_read,
    current_setting('max_locks_per_transaction')::integer AS per_transaction,
    current_setting('max_connections')::integer + current_setting('max_prepared_transactions')::integer AS transactions;
