-- One of everything that a snapshot shows. Run as a superuser in an empty database; the role is made by the test.
CREATE EXTENSION pg_trgm SCHEMA public;
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO catalog_reader;
COMMENT ON SCHEMA app IS 'the application';
CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN app.positive AS integer DEFAULT 1 NOT NULL CONSTRAINT above_zero CHECK (value > 0);
CREATE TYPE app.pair AS (a integer, b text);
CREATE TYPE app.span AS RANGE (subtype = float8);
CREATE SEQUENCE app.ticket START 5 INCREMENT 2 CACHE 3;
CREATE TABLE app.customer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    doomed text,
    email text NOT NULL,
    mood app.mood DEFAULT 'ok',
    state varchar(10) DEFAULT 'new' CHECK (state IN ('new', 'old', 'it''s')),
    score app.positive,
    price numeric(10, 2) DEFAULT 0,
    full_price numeric GENERATED ALWAYS AS (price * 1.2) STORED,
    name text COLLATE "C",
    created_at timestamptz DEFAULT now(),
    CONSTRAINT customer_email_key UNIQUE (email)
) WITH (fillfactor = 80);
ALTER TABLE app.customer DROP COLUMN doomed;
ALTER TABLE app.customer ALTER COLUMN name SET STORAGE external;
ALTER TABLE app.customer ALTER COLUMN name SET STATISTICS 500;
COMMENT ON TABLE app.customer IS 'people who buy';
COMMENT ON COLUMN app.customer.email IS 'where to write';
COMMENT ON CONSTRAINT customer_email_key ON app.customer IS 'one each';
GRANT SELECT ON app.customer TO catalog_reader;
GRANT UPDATE (name) ON app.customer TO catalog_reader;
CREATE INDEX customer_name ON app.customer USING gin (name public.gin_trgm_ops);
CREATE INDEX customer_new ON app.customer (created_at DESC) INCLUDE (email) WHERE state IN ('new', 'old');
COMMENT ON INDEX app.customer_new IS 'recent ones';
CREATE STATISTICS app.customer_stats ON mood, state FROM app.customer;
CREATE TABLE app.purchase (
    id serial PRIMARY KEY,
    customer_id bigint REFERENCES app.customer ON DELETE CASCADE,
    amount numeric
);
ALTER TABLE app.purchase ADD CONSTRAINT amount_sane CHECK (amount < 1e6) NOT VALID;
CREATE TABLE app.event (at timestamptz NOT NULL, customer_id bigint, kind text) PARTITION BY RANGE (at);
CREATE TABLE app.event_2024 PARTITION OF app.event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE app.event_rest PARTITION OF app.event DEFAULT;
CREATE INDEX event_customer ON app.event (customer_id);
CREATE TABLE app.animal (name text);
CREATE TABLE app.dog (breed text) INHERITS (app.animal);
CREATE UNLOGGED TABLE app.cache (k text PRIMARY KEY, v text);
CREATE VIEW app.customers AS SELECT c.id, c.email, c.state FROM app.customer AS c WHERE c.state IN ('new', 'old');
CREATE MATERIALIZED VIEW app.totals AS
SELECT p.customer_id, sum(p.amount) AS total FROM app.purchase AS p GROUP BY p.customer_id;
CREATE UNIQUE INDEX totals_key ON app.totals (customer_id);
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.created_at := now(); RETURN NEW; END$$;
CREATE TRIGGER touch BEFORE UPDATE ON app.customer FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE FUNCTION app.purchases(bigint) RETURNS bigint LANGUAGE sql
BEGIN ATOMIC SELECT count(*) FROM app.purchase WHERE customer_id = $1; END;
CREATE PROCEDURE app.nothing() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE app.total(numeric) (SFUNC = numeric_add, STYPE = numeric, INITCOND = '0');
ALTER TABLE app.purchase ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON app.purchase FOR SELECT TO catalog_reader USING (customer_id = 1);
CREATE RULE no_delete AS ON DELETE TO app.cache DO INSTEAD NOTHING;
CREATE PUBLICATION everyone FOR TABLE app.customer;
ALTER TABLE app.event REPLICA IDENTITY FULL;
INSERT INTO app.customer (email) SELECT 'a' || g FROM generate_series(1, 10) AS g;
