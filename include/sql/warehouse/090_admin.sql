-- From a warehouse that a superuser has made by itself to one that members of wh_admin work on.

-- Give wh_admin what a superuser has made for tenants and templates: the right to make more in their schemas, parts, views
-- and foreign servers. The superuser's user mappings go: from then on sources are asked by wh_admin's, which needs the
-- password. Returns how many of each. Needs a superuser; can be repeated.
CREATE OR REPLACE FUNCTION _wh.give_to_admin() RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    x record;
    given jsonb := '{"schemas": 0, "relations": 0, "servers": 0, "user_mappings": 0}';
BEGIN
    IF EXISTS (SELECT FROM _wh.changes) THEN
        RAISE EXCEPTION 'a template is being changed' USING HINT = 'wait until that run has ended: schema-change status';
    END IF;
    FOR x IN
        WITH relations AS (
            SELECT t.template_name, p.schema_name, p.part_name AS name
            FROM _wh.mv_templates AS t
            CROSS JOIN LATERAL _wh.parts_of(t.template_name) AS p
            UNION
            SELECT t.template_name, v.schema_name, t.template_name
            FROM _wh.mv_templates AS t
            CROSS JOIN LATERAL (SELECT _wh.schemas_of(t.template_name) UNION SELECT 'public') AS v (schema_name)
        ),
        schemas AS (
            SELECT r.schema_name AS name FROM relations AS r WHERE r.schema_name <> 'public'
            UNION
            SELECT s.schema_name FROM _wh.tenant_schemas AS s
        ),
        servers AS (
            SELECT s.oid, s.srvname, s.srvowner
            FROM _wh.tenant_connections AS c
            INNER JOIN pg_foreign_server AS s ON s.srvname = _wh.server_of(c.tenant_name)
        )
        SELECT
            'schemas' AS what,
            format(
                'GRANT USAGE, CREATE ON SCHEMA %1$I TO wh_admin; GRANT USAGE ON SCHEMA %1$I TO wh_read, wh_write;'
                ' ALTER DEFAULT PRIVILEGES FOR ROLE wh_admin IN SCHEMA %1$I GRANT SELECT ON TABLES TO wh_read;'
                ' ALTER DEFAULT PRIVILEGES FOR ROLE wh_admin IN SCHEMA %1$I'
                ' GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO wh_write', s.name
            ) AS statements
        FROM schemas AS s
        INNER JOIN pg_namespace AS n ON s.name = n.nspname
        UNION ALL
        SELECT 'relations', format('ALTER TABLE %I.%I OWNER TO wh_admin', n.nspname, c.relname)
        FROM relations AS r
        INNER JOIN pg_namespace AS n ON r.schema_name = n.nspname
        INNER JOIN pg_class AS c ON n.oid = c.relnamespace AND r.name = c.relname
        WHERE c.relowner <> 'wh_admin'::regrole
        UNION ALL
        SELECT 'servers', format('ALTER SERVER %I OWNER TO wh_admin', s.srvname)
        FROM servers AS s
        WHERE s.srvowner <> 'wh_admin'::regrole
        UNION ALL
        SELECT 'user_mappings', format('DROP USER MAPPING FOR %I SERVER %I', r.rolname, s.srvname)
        FROM servers AS s
        INNER JOIN pg_user_mappings AS m ON s.oid = m.srvid
        INNER JOIN pg_roles AS r ON m.umuser = r.oid AND r.rolsuper
    LOOP
        EXECUTE x.statements;
        given := jsonb_set(given, ARRAY[x.what], to_jsonb((given ->> x.what)::integer + 1));
    END LOOP;
    RETURN given;
END
$body$;
