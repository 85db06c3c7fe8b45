-- name: pin_formats
SELECT set_config(s.name, s.setting, true)
FROM (
    VALUES
    ('search_path', ''),
    ('DateStyle', 'ISO, YMD'),
    ('TimeZone', 'UTC'),
    ('IntervalStyle', 'postgres'),
    ('extra_float_digits', '1'),
    ('bytea_output', 'hex'),
    ('lc_monetary', 'C'),
    ('row_security', 'off')
) AS s (name, setting);

-- name: stored_columns
SELECT
    n.nspname,
    c.relname,
    c.relkind::text,
    coalesce(
        array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attname IS NOT NULL AND a.attgenerated = ''), '{}'
    ),
    coalesce(
        array_agg(a.attname::text ORDER BY a.attnum) FILTER (
            WHERE a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
        ),
        '{}'
    )
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (schema, name)
INNER JOIN pg_namespace AS n ON t.schema = n.nspname
INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND t.name = c.relname
LEFT JOIN pg_attribute AS a ON c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY n.nspname, c.relname, c.relkind;

-- name: checksum
SELECT count(*), coalesce(sum({hash}), 0)::text
FROM {rows};

-- name: scope
-- Foreign-key parents, children of inheritance and partitioning, and what views read, transitively; the tables that
-- store the rows come out. Tables that do not exist yet are left out, and so are those of extensions: their rows
-- belong to the extension.
WITH RECURSIVE wanted (oid) AS (
    SELECT c.oid
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    WHERE
        %(everything)s
        OR (n.nspname, c.relname) IN (
            SELECT t.schema, t.name FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (schema, name)
        )
    UNION
    SELECT next.oid
    FROM wanted AS w
    CROSS JOIN LATERAL (
        SELECT k.confrelid FROM pg_constraint AS k WHERE k.conrelid = w.oid AND k.contype = 'f'
        UNION ALL
        SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = w.oid
        UNION ALL
        SELECT d.refobjid
        FROM pg_class AS v
        INNER JOIN pg_rewrite AS r ON v.oid = r.ev_class
        INNER JOIN pg_depend AS d
            ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
        WHERE v.oid = w.oid AND v.relkind IN ('v', 'm')
    ) AS next (oid)
)
SELECT n.nspname, c.relname
FROM wanted AS w
INNER JOIN pg_class AS c ON w.oid = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
WHERE
    c.relkind = 'r'
    AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_'
    AND n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    )
ORDER BY n.nspname, c.relname;

-- name: without_rows
-- Tables and sequences whose rows and positions are not wanted, by schema; the sequences of a wanted table are.
SELECT n.nspname, array_agg(c.relname::text ORDER BY c.relname)
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN pg_depend AS d
    ON
        c.relkind = 'S' AND c.oid = d.objid AND d.classid = 'pg_class'::regclass
        AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
LEFT JOIN pg_class AS t ON coalesce(d.refobjid, c.oid) = t.oid
LEFT JOIN pg_namespace AS tn ON t.relnamespace = tn.oid
WHERE
    c.relkind IN ('r', 'S')
    AND n.nspname !~ '^pg_'
    AND n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired')
    AND NOT EXISTS (
        SELECT FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w (schema, name)
        WHERE w.schema = tn.nspname AND w.name = t.relname
    )
GROUP BY n.nspname
ORDER BY n.nspname;

-- name: end_earlier_try
-- A worker that was killed leaves its pg_dump at work.
SELECT pg_terminate_backend(a.pid)
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.application_name = %(name)s;

-- name: total_bytes
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (schema, name)
INNER JOIN pg_namespace AS n ON t.schema = n.nspname
INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND t.name = c.relname;

-- name: export_snapshot
SELECT pg_export_snapshot(), clock_timestamp(), pg_current_wal_lsn()::text;

-- name: may_create_restore_point
SELECT
    has_function_privilege('pg_create_restore_point(text)', 'EXECUTE')
    AND current_setting('wal_level') <> 'minimal'
    AND NOT pg_is_in_recovery();

-- name: create_restore_point
SELECT pg_create_restore_point(%(name)s);

-- name: inventory
-- What is selected for the schema's dump, and what the manifest says besides. Schemas and extensions are named one by
-- one: that leaves out foreign servers and user mappings with their secrets, and a pattern would match pg_catalog.
SELECT
    (
        SELECT coalesce(array_agg(n.nspname::text ORDER BY n.nspname), '{}')
        FROM pg_namespace AS n
        WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'schema_change', 'schema_change_retired')
    ) AS schemas,
    (
        SELECT coalesce(array_agg(e.extname::text ORDER BY e.extname), '{}') FROM pg_extension AS e WHERE e.oid >= 16384
    ) AS extensions,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_object('name', s.srvname, 'wrapper', w.fdwname) ORDER BY s.srvname), '[]')
        FROM pg_foreign_server AS s
        INNER JOIN pg_foreign_data_wrapper AS w ON s.srvfdw = w.oid
    ) AS foreign_servers,
    (
        SELECT array_agg(DISTINCT r.rolname::text)
        FROM pg_roles AS r
        WHERE
            r.rolname !~ '^pg_'
            AND (
                r.oid = 10
                OR r.oid IN (
                    SELECT d.refobjid
                    FROM pg_shdepend AS d
                    WHERE
                        d.refclassid = 'pg_authid'::regclass
                        AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
                )
            )
    ) AS roles,
    EXISTS (SELECT FROM pg_largeobject_metadata) AS large_objects,
    (
        SELECT coalesce(array_agg(o.title ORDER BY o.title), '{}')
        FROM (
            SELECT 'event trigger ' || quote_ident(t.evtname) FROM pg_event_trigger AS t
            UNION ALL
            SELECT 'publication ' || quote_ident(p.pubname) FROM pg_publication AS p
            UNION ALL
            SELECT 'subscription ' || quote_ident(s.subname)
            FROM pg_subscription AS s
            WHERE s.subdbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
            UNION ALL
            SELECT 'options of foreign server ' || quote_ident(s.srvname) FROM pg_foreign_server AS s
            UNION ALL
            SELECT 'user mapping of ' || quote_ident(m.usename) || ' on ' || quote_ident(m.srvname)
            FROM pg_user_mappings AS m
            UNION ALL
            SELECT 'foreign data wrapper ' || quote_ident(w.fdwname)
            FROM pg_foreign_data_wrapper AS w
            WHERE
                NOT EXISTS (
                    SELECT FROM pg_depend AS d
                    WHERE d.classid = 'pg_foreign_data_wrapper'::regclass AND d.objid = w.oid AND d.deptype = 'e'
                )
            UNION ALL
            SELECT 'cast from ' || format_type(c.castsource, NULL) || ' to ' || format_type(c.casttarget, NULL)
            FROM pg_cast AS c
            WHERE
                c.oid >= 16384
                AND NOT EXISTS (
                    SELECT FROM pg_depend AS d
                    WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                )
            UNION ALL
            SELECT 'default privileges of ' || quote_ident(r.rolname) || ' in all schemas'
            FROM pg_default_acl AS a
            INNER JOIN pg_roles AS r ON a.defaclrole = r.oid
            WHERE a.defaclnamespace = 0
            UNION ALL
            SELECT l.n || ' large objects'
            FROM (SELECT count(*) AS n FROM pg_largeobject_metadata) AS l
            WHERE l.n > 0 AND NOT %(everything)s
        ) AS o (title)
    ) AS left_out;

-- name: matviews
-- In an order in which they can be refreshed.
WITH RECURSIVE uses (oid, used) AS (
    SELECT DISTINCT r.ev_class, d.refobjid
    FROM pg_rewrite AS r
    INNER JOIN pg_class AS v ON r.ev_class = v.oid AND v.relkind IN ('v', 'm')
    INNER JOIN pg_depend AS d
        ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    WHERE d.refobjid <> r.ev_class
),
chain (oid, used, depth) AS (
    SELECT u.oid, u.used, 1 FROM uses AS u
    UNION
    SELECT c.oid, u.used, c.depth + 1
    FROM chain AS c
    INNER JOIN uses AS u ON c.used = u.oid
)
SELECT n.nspname, c.relname, c.relispopulated
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
WHERE
    c.relkind = 'm'
    AND n.nspname NOT IN ('schema_change', 'schema_change_retired')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    )
ORDER BY (SELECT max(h.depth) FROM chain AS h WHERE h.oid = c.oid), n.nspname, c.relname;

-- name: database_properties
SELECT to_jsonb(d) || jsonb_build_object(
    'owner', pg_get_userbyid(d.datdba),
    'encoding', pg_encoding_to_char(d.encoding),
    'tablespace', (SELECT s.spcname FROM pg_tablespace AS s WHERE s.oid = d.dattablespace),
    'comment', shobj_description(d.oid, 'pg_database'),
    'grants', (
        SELECT
            jsonb_agg(
                jsonb_build_object(
                    'grantee', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
                    'privilege', a.privilege_type,
                    'grantable', a.is_grantable
                )
            )
        FROM aclexplode(d.datacl) AS a
        WHERE d.datacl IS NOT NULL
    ),
    'settings', (
        SELECT
            coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'role', CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END, 'setting', c.setting
                    )
                ),
                '[]'
            )
        FROM pg_db_role_setting AS s
        CROSS JOIN unnest(s.setconfig) AS c (setting)
        WHERE s.setdatabase = d.oid
    )
)
FROM pg_database AS d
WHERE d.datname = %(name)s;

-- name: may_create_databases
SELECT r.rolcreatedb OR r.rolsuper, r.rolsuper, current_user::text FROM pg_roles AS r WHERE r.rolname = current_user;

-- name: missing_roles
SELECT t.name
FROM unnest(%(names)s::text[]) AS t (name)
WHERE NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = t.name)
ORDER BY t.name;

-- name: missing_wrappers
SELECT DISTINCT t.name
FROM unnest(%(names)s::text[]) AS t (name)
WHERE NOT EXISTS (SELECT FROM pg_foreign_data_wrapper AS w WHERE w.fdwname = t.name)
ORDER BY t.name;

-- name: comment_on_database
SELECT shobj_description(d.oid, 'pg_database') FROM pg_database AS d WHERE d.datname = %(name)s;

-- name: scratch_databases
SELECT d.datname FROM pg_database AS d WHERE starts_with(d.datname, %(prefix)s) ORDER BY d.datname;

-- name: foreign_keys
-- Foreign keys from or to the tables; those of partitions come and go with their parent's.
SELECT
    n.nspname,
    c.relname,
    k.conname,
    pg_get_constraintdef(k.oid),
    obj_description(k.oid, 'pg_constraint'),
    fn.nspname,
    f.relname
FROM pg_constraint AS k
INNER JOIN pg_class AS c ON k.conrelid = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
INNER JOIN pg_class AS f ON k.confrelid = f.oid
INNER JOIN pg_namespace AS fn ON f.relnamespace = fn.oid
WHERE
    k.contype = 'f'
    AND k.conparentid = 0
    AND EXISTS (
        SELECT
        FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (schema, name)
        INNER JOIN pg_namespace AS tn ON t.schema = tn.nspname
        INNER JOIN pg_class AS tc ON tn.oid = tc.relnamespace AND t.name = tc.relname
        WHERE
            tc.oid IN (k.conrelid, k.confrelid)
            OR tc.oid IN (SELECT p.relid FROM pg_partition_tree(k.conrelid) AS p)
            OR tc.oid IN (SELECT p.relid FROM pg_partition_tree(k.confrelid) AS p)
    )
ORDER BY n.nspname, c.relname, k.conname;

-- name: enabled_triggers
SELECT n.nspname, c.relname, t.tgname, t.tgenabled::text
FROM pg_trigger AS t
INNER JOIN pg_class AS c ON t.tgrelid = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
INNER JOIN unnest(%(schemas)s::text[], %(names)s::text[]) AS w (schema, name)
    ON n.nspname = w.schema AND c.relname = w.name
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
ORDER BY n.nspname, c.relname, t.tgname;

-- name: new_partitions
-- Partitions attached since the backup beside the ones in it.
SELECT DISTINCT n.nspname, c.relname
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (schema, name)
INNER JOIN pg_namespace AS tn ON t.schema = tn.nspname
INNER JOIN pg_class AS tc ON tn.oid = tc.relnamespace AND t.name = tc.relname AND tc.relispartition
CROSS JOIN LATERAL pg_partition_tree(pg_partition_root(tc.oid)) AS p
INNER JOIN pg_class AS c ON p.relid = c.oid AND p.isleaf
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
WHERE
    (n.nspname, c.relname) NOT IN (
        SELECT k.schema, k.name FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS k (schema, name)
    )
ORDER BY n.nspname, c.relname;

-- name: other_sessions
SELECT a.pid, a.usename::text, a.application_name
FROM pg_stat_activity AS a
WHERE a.datname = %(name)s AND a.pid <> ALL (%(spared)s) AND a.backend_type = 'client backend'
ORDER BY a.backend_start;

-- name: terminate_sessions
SELECT pg_terminate_backend(a.pid, 5000)
FROM pg_stat_activity AS a
WHERE a.datname = %(name)s AND a.pid <> ALL (%(spared)s);

-- name: foreign_access
-- Servers and user mappings with their options, read from the live database and sent to the restored one only.
SELECT jsonb_build_object(
    'name', s.srvname,
    'version', s.srvversion,
    'owner', pg_get_userbyid(s.srvowner),
    'options', (
        SELECT coalesce(jsonb_object_agg(o.option_name, o.option_value), '{}')
        FROM pg_options_to_table(s.srvoptions) AS o
    ),
    'mappings', (
        SELECT
            coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'user', CASE WHEN m.umuser <> 0 THEN m.usename END,
                        'options', (
                            SELECT coalesce(jsonb_object_agg(o.option_name, o.option_value), '{}')
                            FROM pg_options_to_table(m.umoptions) AS o
                        )
                    )
                ),
                '[]'
            )
        FROM pg_user_mappings AS m
        WHERE m.srvid = s.oid
    ),
    'grants', (
        SELECT
            coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'grantee', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
                        'grantable', a.is_grantable
                    )
                ),
                '[]'
            )
        FROM aclexplode(s.srvacl) AS a
        WHERE a.grantee <> s.srvowner
    )
)
FROM pg_foreign_server AS s
ORDER BY s.srvname;

-- name: is_locked
SELECT EXISTS (
    SELECT
    FROM pg_locks AS l
    INNER JOIN pg_database AS d ON l.objid = d.oid
    WHERE
        d.datname = %(name)s
        AND l.locktype = 'object'
        AND l.classid = 'pg_database'::regclass
        AND l.mode = 'AccessExclusiveLock'
        AND l.granted
);

-- name: our_tables
SELECT n.nspname, c.relname
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
WHERE n.nspname IN ('schema_change', 'schema_change_retired') AND c.relkind = 'r'
ORDER BY n.nspname, c.relname;

-- name: leaves
SELECT DISTINCT n.nspname, c.relname
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (schema, name)
INNER JOIN pg_namespace AS tn ON t.schema = tn.nspname
INNER JOIN pg_class AS tc ON tn.oid = tc.relnamespace AND t.name = tc.relname
INNER JOIN pg_class AS c
    ON c.relkind = 'r' AND (tc.oid = c.oid OR c.oid IN (SELECT p.relid FROM pg_partition_tree(tc.oid) AS p))
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
ORDER BY n.nspname, c.relname;

-- name: pin_input
SELECT
    set_config('client_encoding', 'UTF8', true),
    set_config('xmloption', 'content', true),
    set_config('lc_monetary', (SELECT s.reset_val FROM pg_settings AS s WHERE s.name = 'lc_monetary'), true);
