-- The current version of each table in the registry.
SELECT DISTINCT ON (v.table_name) v.table_name, v.version
FROM schema_change.schema_registry AS v
ORDER BY v.table_name ASC, v.id DESC;
