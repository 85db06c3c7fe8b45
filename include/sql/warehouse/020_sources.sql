-- Tenants' own databases, each behind a foreign server with a user mapping that has the password.

CREATE OR REPLACE FUNCTION _wh.server_of(tenant text) RETURNS name
LANGUAGE sql IMMUTABLE STRICT AS $body$
    SELECT (CASE WHEN length('wh_' || tenant) <= 63 THEN 'wh_' || tenant ELSE 'wh_' || md5(tenant) END)::name
$body$;

-- Whether this is a copy made for a rehearsal, from which no source can be asked.
CREATE OR REPLACE FUNCTION _wh.is_rehearsal() RETURNS boolean
LANGUAGE sql STABLE AS $body$
    SELECT starts_with(current_database(), 'schema_change_scratch_')
$body$;

-- Whether what we make is to be our own: in a rehearsal, and for a superuser in a warehouse whose connections it has made,
-- because it has user mappings of its own. Any other warehouse is wh_admin's, whoever works on it.
CREATE OR REPLACE FUNCTION _wh.works_for_itself() RETURNS boolean
LANGUAGE sql STABLE AS $body$
    SELECT
        _wh.is_rehearsal() OR r.rolsuper AND (
            NOT EXISTS (SELECT FROM _wh.tenant_connections)
            OR EXISTS (
                SELECT FROM pg_user_mappings AS m
                INNER JOIN _wh.tenant_connections AS c ON m.srvname = _wh.server_of(c.tenant_name)
                WHERE m.usename = r.rolname
            )
        )
    FROM pg_roles AS r
    WHERE r.rolname = current_user
$body$;

-- Go on as wh_admin, who owns then what is made, and by whose user mappings sources are asked: those of its members are
-- nobody's. Returns the role to go back to with be_again; an error goes back by itself.
CREATE OR REPLACE FUNCTION _wh.be_admin() RETURNS text
LANGUAGE plpgsql AS $body$
DECLARE
    before text := current_setting('role');
BEGIN
    IF NOT _wh.works_for_itself() THEN
        PERFORM set_config('role', 'wh_admin', true);
    END IF;
    RETURN before;
END
$body$;

CREATE OR REPLACE FUNCTION _wh.be_again(before text) RETURNS void
LANGUAGE sql AS $body$
    SELECT set_config('role', before, true)
$body$;

-- Keep the foreign server of a tenant, which is wh_admin's, as its row says. The password goes to every mapping, at least
-- that of who runs this; it stays as it is when none is given.
CREATE OR REPLACE FUNCTION _wh.connect_tenant() RETURNS trigger
LANGUAGE plpgsql AS $body$
DECLARE
    server name := _wh.server_of(NEW.tenant_name);
    options text := format(
        'host %L, port %L, dbname %L, connect_timeout %L', NEW.host, NEW.port::text, NEW.dbname, '10'
    );
    who text;
    before text := _wh.be_admin();
BEGIN
    IF EXISTS (SELECT FROM pg_foreign_server AS s WHERE s.srvname = server) THEN
        EXECUTE format(
            'ALTER SERVER %I OPTIONS (SET host %L, SET port %L, SET dbname %L)',
            server, NEW.host, NEW.port::text, NEW.dbname
        );
    ELSE
        EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER dblink_fdw OPTIONS (%s)', server, options);
        EXECUTE format('ALTER SERVER %I OWNER TO wh_admin', server);
    END IF;
    FOR who IN
        SELECT current_user::text
        UNION SELECT 'wh_admin'
        UNION SELECT m.usename FROM pg_user_mappings AS m WHERE m.srvname = server AND m.umuser <> 0
    LOOP
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
    PERFORM _wh.be_again(before);
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
    -- The row is gone, and its server is wh_admin's in any warehouse.
    before text := current_setting('role');
BEGIN
    PERFORM set_config('role', 'wh_admin', true);
    -- Without CASCADE: foreign tables that somebody made on it are not ours to drop.
    FOR who IN SELECT m.usename FROM pg_user_mappings AS m WHERE m.srvname = server LOOP
        EXECUTE format('DROP USER MAPPING FOR %I SERVER %I', who, server);
    END LOOP;
    EXECUTE format('DROP SERVER IF EXISTS %I', server);
    PERFORM _wh.be_again(before);
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
    before text;
BEGIN
    before := _wh.be_admin();
    PERFORM FROM public.dblink(_wh.server_of(tenant), 'SELECT 1') AS t (one integer);
    PERFORM _wh.be_again(before);
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
