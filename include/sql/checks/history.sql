-- What earlier runs left behind in this database.

-- name: fingerprints
SELECT
    r.run_id,
    r.change_version || '_' || r.change_name AS change,
    coalesce(r.plan -> 'scope', '[]') AS scope,
    r.fingerprint_after
FROM schema_change.run AS r
WHERE r.status = 'applied' AND r.fingerprint_after IS NOT NULL
ORDER BY r.finished_at DESC;

-- name: scopes
SELECT DISTINCT
    t.item ->> 'schema',
    t.item ->> 'name'
FROM schema_change.run AS r
CROSS JOIN LATERAL jsonb_array_elements(r.plan -> 'scope') AS t (item)
WHERE r.status = 'applied' AND r.fingerprint_after IS NOT NULL;

-- name: catalog_after
SELECT r.catalog_after FROM schema_change.run AS r WHERE r.run_id = %(run_id)s;
