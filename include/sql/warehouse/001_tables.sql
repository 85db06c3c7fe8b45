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

-- Which tenant's source the parts in a schema come from; recorded with the first day that is made there.
CREATE TABLE IF NOT EXISTS _wh.tenant_schemas (
    schema_name text PRIMARY KEY,
    tenant_name text NOT NULL REFERENCES _wh.tenant_connections ON UPDATE CASCADE ON DELETE CASCADE
);

-- A change of a template's columns, from its begin until it is finished or cancelled. source_down says what becomes of
-- a tenant whose source fails: stop (wait for it), skip (leave the tenant out, of at most skip_at_most) or roll_back.
CREATE TABLE IF NOT EXISTS _wh.changes (
    template_name text PRIMARY KEY REFERENCES _wh.mv_templates,
    column_name text NOT NULL,
    fallback text,
    source_down text NOT NULL CHECK (source_down IN ('stop', 'skip', 'roll_back')),
    skip_at_most integer NOT NULL,
    source_pause_s numeric NOT NULL,
    is_swapped boolean NOT NULL DEFAULT false,
    public_query text,
    -- Of a rebuild in place: what is done to the column, its old name in yearly tables, the views that were dropped.
    kind text CHECK (kind IN ('add', 'modify', 'remove')),
    hidden_name text,
    kept_views jsonb,
    begun_at timestamptz NOT NULL DEFAULT now()
);

-- A template before and after its change. year_columns maps a column to what it is called in yearly tables meanwhile.
CREATE TABLE IF NOT EXISTS _wh.change_definitions (
    template_name text NOT NULL REFERENCES _wh.changes ON DELETE CASCADE,
    shape text NOT NULL CHECK (shape IN ('old', 'new')),
    query_template text NOT NULL,
    column_definitions text NOT NULL,
    indexes text,
    year_columns jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (template_name, shape)
);

-- Where a schema's daily views and its union view are, in both shapes, while a change is under way. The public view has
-- a row for schema public.
CREATE TABLE IF NOT EXISTS _wh.shapes (
    template_name text NOT NULL REFERENCES _wh.changes ON DELETE CASCADE,
    schema_name text NOT NULL,
    shape text NOT NULL,
    days_schema text NOT NULL,
    view_schema text NOT NULL,
    PRIMARY KEY (template_name, schema_name, shape)
);

-- What a change has to build: a day's view, or the true values of one day of a yearly table (history).
CREATE TABLE IF NOT EXISTS _wh.change_work (
    template_name text NOT NULL,
    wave integer NOT NULL,
    what text NOT NULL CHECK (what IN ('day', 'history')),
    schema_name text NOT NULL,
    day date NOT NULL,
    rows bigint,
    differs text,
    error text,
    done_at timestamptz,
    retired_at timestamptz,
    dropped_at timestamptz,
    PRIMARY KEY (template_name, wave, what, schema_name, day)
);

-- Tenants whose new days the public view reads already, while it has its old shape.
CREATE TABLE IF NOT EXISTS _wh.early_readers (
    template_name text NOT NULL REFERENCES _wh.changes ON DELETE CASCADE,
    schema_name text NOT NULL,
    PRIMARY KEY (template_name, schema_name)
);

-- Tenants whose parts were left out of a change of a column: their view adapts what is there, by a cast, or by a fallback
-- where there is nothing. Their days go on being made as that version of the template says.
CREATE TABLE IF NOT EXISTS _wh.adapted (
    template_name text NOT NULL REFERENCES _wh.mv_templates ON DELETE CASCADE,
    schema_name text NOT NULL,
    column_name text NOT NULL,
    fallback text,
    version integer NOT NULL,
    PRIMARY KEY (template_name, schema_name, column_name)
);
