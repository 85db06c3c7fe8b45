-- How the toolkit is looked at and recorded; the numbered files are what it is.

-- name: lock
SELECT pg_advisory_xact_lock(hashtextextended('schema_change.warehouse', 0));

-- name: is_installed
SELECT to_regclass('_wh.toolkit_version');

-- name: version
SELECT coalesce(max(v.version), 0) FROM _wh.toolkit_version AS v;

-- name: record_version
INSERT INTO _wh.toolkit_version (version) VALUES (%(version)s) ON CONFLICT (version) DO UPDATE SET installed_at = now();

-- name: functions
SELECT p.oid::regprocedure::text AS name, md5(pg_get_functiondef(p.oid)) AS definition
FROM pg_proc AS p
INNER JOIN pg_namespace AS n ON p.pronamespace = n.oid
WHERE n.nspname = '_wh' AND p.prokind = 'f';
