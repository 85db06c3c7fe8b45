-- What constraint recipes ask of the catalog. Filled in by schema_change.core.recipes.

-- name: views_on_constraint
-- A view that selects more columns than those of its GROUP BY depends on the primary key they are.
SELECT DISTINCT r.ev_class::regclass::text AS name
FROM pg_catalog.pg_depend AS d
INNER JOIN pg_catalog.pg_constraint AS c ON d.refobjid = c.oid AND d.refclassid = 'pg_catalog.pg_constraint'::regclass
INNER JOIN pg_catalog.pg_rewrite AS r ON d.objid = r.oid AND d.classid = 'pg_catalog.pg_rewrite'::regclass
WHERE c.conrelid = to_regclass({table}) AND c.conname = {constraint}
