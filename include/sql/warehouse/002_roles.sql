-- Who may do what: wh_admin runs the toolkit, wh_read and wh_write are for reports.

DO $body$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['wh_admin', 'wh_read', 'wh_write'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END
$body$;

REVOKE ALL ON SCHEMA _wh FROM public;
-- The functions stay those of who installs them: a superuser may call them, so nobody else may change them.
GRANT USAGE ON SCHEMA _wh TO wh_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA _wh TO wh_admin;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA _wh TO wh_admin;
GRANT USAGE ON FOREIGN DATA WRAPPER dblink_fdw TO wh_admin;
-- It makes the public views, and schemas: of tenants, and beside theirs.
GRANT USAGE, CREATE ON SCHEMA public TO wh_admin;

DO $body$
BEGIN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO wh_admin', current_database());
END
$body$;
