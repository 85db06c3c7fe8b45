-- What the toolkit keeps: templates with their versions, how tenants are reached, and its log.

CREATE EXTENSION IF NOT EXISTS dblink WITH SCHEMA public;

CREATE SCHEMA IF NOT EXISTS _wh;

CREATE TABLE IF NOT EXISTS _wh.mv_templates (
    template_name text PRIMARY KEY CHECK (template_name ~ '^[a-z][a-z0-9_]*$'),
    description text,
    query_template text NOT NULL,
    column_definitions text NOT NULL,
    indexes text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Every state a template ever had; the last one is that of mv_templates.
CREATE TABLE IF NOT EXISTS _wh.template_versions (
    template_name text NOT NULL,
    version integer NOT NULL,
    description text,
    query_template text NOT NULL,
    column_definitions text NOT NULL,
    indexes text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    recorded_by text NOT NULL DEFAULT session_user,
    PRIMARY KEY (template_name, version)
);

-- A password given here goes into the user mapping of the tenant's foreign server, and is NULL in the row.
CREATE TABLE IF NOT EXISTS _wh.tenant_connections (
    tenant_name text PRIMARY KEY,
    host text NOT NULL,
    port integer NOT NULL DEFAULT 5432,
    dbname text NOT NULL,
    username text NOT NULL,
    password text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS _wh.log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    level text NOT NULL CHECK (level IN ('debug', 'info', 'error')),
    message text NOT NULL,
    context jsonb NOT NULL DEFAULT '{}',
    actor text NOT NULL DEFAULT session_user
);

CREATE TABLE IF NOT EXISTS _wh.toolkit_version (
    version integer PRIMARY KEY,
    installed_at timestamptz NOT NULL DEFAULT now()
);
