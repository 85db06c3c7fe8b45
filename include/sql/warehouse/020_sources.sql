-- Tenants' own databases, each behind a foreign server with a user mapping that has the password.

CREATE OR REPLACE FUNCTION _wh.server_of(tenant text) RETURNS name
LANGUAGE sql IMMUTABLE STRICT AS $body$
    SELECT (CASE WHEN length('wh_' || tenant) <= 63 THEN 'wh_' || tenant ELSE 'wh_' || md5(tenant) END)::name
$body$;

-- Keep the foreign server of a tenant as its row says. The password goes to the mapping of who runs this, and of
-- wh_admin; it stays as it is when none is given.
CREATE OR REPLACE FUNCTION _wh.connect_tenant() RETURNS trigger
LANGUAGE plpgsql AS $body$
DECLARE
    server name := _wh.server_of(NEW.tenant_name);
    options text := format(
        'host %L, port %L, dbname %L, connect_timeout %L', NEW.host, NEW.port::text, NEW.dbname, '10'
    );
    who text;
BEGIN
    IF EXISTS (SELECT FROM pg_foreign_server AS s WHERE s.srvname = server) THEN
        EXECUTE format(
            'ALTER SERVER %I OPTIONS (SET host %L, SET port %L, SET dbname %L)',
            server, NEW.host, NEW.port::text, NEW.dbname
        );
    ELSE
        EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER dblink_fdw OPTIONS (%s)', server, options);
        EXECUTE format('GRANT USAGE ON FOREIGN SERVER %I TO wh_admin', server);
    END IF;
    FOREACH who IN ARRAY ARRAY[current_user::text, 'wh_admin'] LOOP
        IF NOT EXISTS (
            SELECT FROM pg_user_mappings AS m WHERE m.srvname = server AND m.usename = who
        ) THEN
            EXECUTE format('CREATE USER MAPPING FOR %I SERVER %I OPTIONS (user %L)', who, server, NEW.username);
        ELSE
            EXECUTE format('ALTER USER MAPPING FOR %I SERVER %I OPTIONS (SET user %L)', who, server, NEW.username);
        END IF;
        IF NEW.password IS NOT NULL THEN
            BEGIN
                EXECUTE format('ALTER USER MAPPING FOR %I SERVER %I OPTIONS (ADD password %L)', who, server, NEW.password);
            EXCEPTION WHEN duplicate_object THEN
                EXECUTE format('ALTER USER MAPPING FOR %I SERVER %I OPTIONS (SET password %L)', who, server, NEW.password);
            END;
        END IF;
    END LOOP;
    NEW.password := NULL;
    NEW.updated_at := now();
    RETURN NEW;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.disconnect_tenant() RETURNS trigger
LANGUAGE plpgsql AS $body$
DECLARE
    server name := _wh.server_of(OLD.tenant_name);
    who text;
BEGIN
    -- Without CASCADE: foreign tables that somebody made on it are not ours to drop.
    FOR who IN SELECT m.usename FROM pg_user_mappings AS m WHERE m.srvname = server LOOP
        EXECUTE format('DROP USER MAPPING FOR %I SERVER %I', who, server);
    END LOOP;
    EXECUTE format('DROP SERVER IF EXISTS %I', server);
    RETURN OLD;
END
$body$;

CREATE OR REPLACE TRIGGER connect_tenant BEFORE INSERT OR UPDATE ON _wh.tenant_connections
FOR EACH ROW EXECUTE FUNCTION _wh.connect_tenant();
CREATE OR REPLACE TRIGGER disconnect_tenant AFTER DELETE ON _wh.tenant_connections
FOR EACH ROW EXECUTE FUNCTION _wh.disconnect_tenant();

-- A source is asked by one session at a time: whoever does holds this lock until the end of the transaction.
CREATE OR REPLACE FUNCTION _wh.lock_source(tenant text) RETURNS void
LANGUAGE sql AS $body$
    SELECT pg_advisory_xact_lock(hashtextextended('_wh.source ' || tenant, 0))
$body$;

-- Whether a tenant answers, and what went wrong; the message of a driver has no password in it.
CREATE OR REPLACE FUNCTION _wh.check_connection(tenant text) RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    started timestamptz := clock_timestamp();
BEGIN
    PERFORM FROM public.dblink(_wh.server_of(tenant), 'SELECT 1') AS t (one integer);
    RETURN jsonb_build_object(
        'success', true, 'tenant', tenant, 'ms', round(extract(EPOCH FROM clock_timestamp() - started) * 1000)
    );
EXCEPTION WHEN OTHERS THEN
    RETURN jsonb_build_object('success', false, 'tenant', tenant, 'error', sqlerrm);
END
$body$;

-- Every state of a template is kept, so that it can be taken back.
CREATE OR REPLACE FUNCTION _wh.keep_template_version() RETURNS trigger
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM FROM _wh.columns_in(NEW.column_definitions);
    NEW.updated_at := now();
    INSERT INTO _wh.template_versions (
        template_name, version, description, query_template, column_definitions, indexes
    )
    SELECT
        NEW.template_name, coalesce(max(v.version), 0) + 1,
        NEW.description, NEW.query_template, NEW.column_definitions, NEW.indexes
    FROM _wh.template_versions AS v
    WHERE v.template_name = NEW.template_name;
    RETURN NEW;
END
$body$;

CREATE OR REPLACE TRIGGER keep_template_version BEFORE INSERT OR UPDATE ON _wh.mv_templates
FOR EACH ROW EXECUTE FUNCTION _wh.keep_template_version();

CREATE OR REPLACE FUNCTION _wh.rollback_template(template text, to_version integer DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql AS $body$
DECLARE
    target integer := coalesce(to_version, (
        SELECT max(v.version) - 1 FROM _wh.template_versions AS v WHERE v.template_name = template
    ));
BEGIN
    UPDATE _wh.mv_templates AS t
    SET
        description = v.description, query_template = v.query_template,
        column_definitions = v.column_definitions, indexes = v.indexes
    FROM _wh.template_versions AS v
    WHERE t.template_name = template AND v.template_name = template AND v.version = target;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'template % has no version %', template, target USING HINT = 'see _wh.template_versions';
    END IF;
    RETURN (SELECT max(v.version) FROM _wh.template_versions AS v WHERE v.template_name = template);
END
$body$;
