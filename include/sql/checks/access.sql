-- What the connecting role may do.

-- name: role
SELECT
    r.rolname::text,
    r.rolsuper,
    r.rolcreatedb OR r.rolsuper AS createdb,
    pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE') AS sees_all,
    has_database_privilege(r.oid, current_database(), 'CREATE') AS may_create
FROM pg_roles AS r
WHERE r.rolname = current_user;

-- name: not_owned
SELECT t.table_schema, t.table_name, r.rolname::text, r.rolsuper
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (table_schema, table_name)
INNER JOIN pg_namespace AS n ON t.table_schema = n.nspname
INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND t.table_name = c.relname
INNER JOIN pg_roles AS r ON c.relowner = r.oid
WHERE NOT pg_has_role(c.relowner, 'USAGE')
ORDER BY t.table_schema, t.table_name;

-- name: extensions
SELECT coalesce(array_agg(e.extname::text), '{}') FROM pg_extension AS e WHERE e.oid >= 16384;

-- name: for_superusers
-- Extensions that nobody but a superuser may install in a database of their own.
SELECT DISTINCT v.name::text
FROM pg_available_extension_versions AS v
WHERE v.name = ANY(%(names)s::text[]) AND v.superuser AND NOT v.trusted
ORDER BY 1;

-- name: schemas_without_create
SELECT n.nspname::text
FROM pg_namespace AS n
WHERE n.nspname = ANY(%(schemas)s::text[]) AND NOT has_schema_privilege(n.oid, 'CREATE')
ORDER BY n.nspname;

-- name: unreadable
-- Tables whose rows we may not read. (A dump locks every table of the database, which needs the same privilege.)
SELECT t.table_schema, t.table_name
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (table_schema, table_name)
INNER JOIN pg_namespace AS n ON t.table_schema = n.nspname
INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND t.table_name = c.relname
WHERE NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
ORDER BY t.table_schema, t.table_name;

-- name: registry_writable
SELECT
    has_schema_privilege(n.oid, 'USAGE')
    AND bool_and(has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE'))
FROM pg_namespace AS n
INNER JOIN pg_class AS c ON n.oid = c.relnamespace
WHERE n.nspname = 'schema_change' AND c.relkind = 'r'
GROUP BY n.oid;

-- name: row_security
-- Tables on which row-level security hides rows from us.
SELECT t.table_schema, t.table_name, c.relforcerowsecurity
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (table_schema, table_name)
INNER JOIN pg_namespace AS n ON t.table_schema = n.nspname
INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND t.table_name = c.relname
WHERE row_security_active(c.oid)
ORDER BY t.table_schema, t.table_name;
