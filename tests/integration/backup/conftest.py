"""A database with one of everything that is awkward to back up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from psycopg import sql
from upath import UPath

from schema_change.core.backup.dump import take_backup
from schema_change.core.backup.manifest import Manifest
from schema_change.core.backup.scope import backup_scope
from schema_change.core.backup.scratch import scratch_name
from schema_change.core.database import Connection, Target
from schema_change.core.names import Table

AWKWARD = """
CREATE EXTENSION hstore; COMMENT ON EXTENSION hstore IS 'pairs';
CREATE EXTENSION postgres_fdw;
CREATE SCHEMA schema_change;
CREATE TABLE schema_change.event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message text);
INSERT INTO schema_change.event (message) VALUES ('before the backup');
CREATE SCHEMA "We ird"; COMMENT ON SCHEMA "We ird" IS 'odd';
CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
CREATE DOMAIN positive AS numeric(12, 3) CHECK (VALUE > 0);
CREATE TABLE station (
    id integer PRIMARY KEY, name text NOT NULL UNIQUE, code text COLLATE "C" DEFAULT 'a', sign text COLLATE "POSIX"
);
INSERT INTO station VALUES (1, 'Åre'), (2, E'tab\\tnew\\nline\\\\.');
CREATE TABLE "We ird"."t.a*b? ""q" (
    "Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station_id integer NOT NULL REFERENCES station ON DELETE CASCADE,
    j jsonb, a text[], m mood, d positive, ts timestamptz, b bytea, n numeric, f double precision,
    iv interval, h hstore,
    twice integer GENERATED ALWAYS AS (station_id * 2) STORED
);
COMMENT ON CONSTRAINT "t.a*b? ""q_station_id_fkey" ON "We ird"."t.a*b? ""q" IS 'to the station';
INSERT INTO "We ird"."t.a*b? ""q" (station_id, j, a, m, d, ts, b, n, f, iv, h)
SELECT
    1 + g % 2, jsonb_build_object('k', g, 'x', NULL), ARRAY['a,b', NULL, '"q"', '\\.'], 'it''s ok', g + 0.125,
    '2024-02-29 23:59:59.123456+05:30'::timestamptz + g * interval '1 hour', decode('00ff5c0a2e', 'hex'),
    12345678901234567890.000100 * g, (CASE g WHEN 1 THEN 'NaN' WHEN 2 THEN '-Infinity' ELSE '0.1' END)::float8 + g,
    '1 year 2 days -3 hours', hstore('a', NULL)
FROM generate_series(1, 50) AS g;
CREATE TABLE reading (at date NOT NULL, station_id integer REFERENCES station, v real) PARTITION BY RANGE (at);
CREATE TABLE reading_2023 PARTITION OF reading FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE reading_2024 PARTITION OF reading FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO reading SELECT date '2023-12-01' + g, 1, g / 3.0 FROM generate_series(1, 60) AS g;
CREATE TABLE other (id integer PRIMARY KEY, x text); INSERT INTO other VALUES (1, 'not in a small scope');
CREATE UNLOGGED TABLE cache (k text PRIMARY KEY); INSERT INTO cache VALUES ('c');
CREATE MATERIALIZED VIEW totals AS SELECT station_id, count(*) AS n FROM reading GROUP BY station_id;
CREATE MATERIALIZED VIEW a_total AS SELECT sum(n) AS n FROM totals;
CREATE VIEW names AS SELECT s.name FROM station AS s;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'db.example', dbname 's3cr3t-of-a-server');
CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (user 'u', password 's3cr3t-of-a-user-mapping');
CREATE FOREIGN TABLE far (a integer) SERVER elsewhere;
CREATE PUBLICATION everything FOR TABLE station;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a trigger fired'; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR DELETE OR UPDATE ON other FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE other ENABLE ALWAYS TRIGGER refuse;
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON other EXECUTE FUNCTION refuse();
"""

SMALL = """
CREATE TABLE station (id integer PRIMARY KEY, name text NOT NULL);
INSERT INTO station VALUES (1, 'a'), (2, 'b');
CREATE TABLE reading (at date NOT NULL, station_id integer REFERENCES station, v real);
CREATE TABLE other (id integer PRIMARY KEY);
"""

WEIRD = Table("We ird", 't.a*b? "q')
STATION, OTHER, READING = Table("public", "station"), Table("public", "other"), Table("public", "reading")


@pytest.fixture
def awkward(connection: Connection, target: Target) -> Target:
    """The database."""
    connection.execute("SET client_min_messages = error")
    connection.execute(AWKWARD)
    return target


@pytest.fixture
def small(connection: Connection, target: Target) -> Target:
    """A database with three plain tables."""
    connection.execute(SMALL)
    return target


@pytest.fixture
def run_id(target: Target) -> Iterator[UUID]:
    """A run of its own for each test; the databases that a backup or a restore made for it are dropped at the end."""
    run_id = uuid4()
    yield run_id
    with target.with_database("postgres").connect("test") as admin:
        made = admin.execute(
            "SELECT datname FROM pg_database WHERE datname = %s OR starts_with(datname, %s)",
            [scratch_name(run_id), f"{target.database}_"],
        ).fetchall()
        for (name,) in made:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def folder(tmp_path: Path) -> UPath:
    """Where the backup goes."""
    return UPath(tmp_path / "backup")


def back_up(target: Target, folder: UPath, run_id: UUID, *written: Table, everything: bool = False) -> Manifest:
    """Take a backup the way a run does."""
    with target.connect("test") as session:
        tables = backup_scope(session, written, (), everything)
    return take_backup(target, tables, folder, everything=everything, run_id=run_id, note=lambda _: None)


def one(target: Target, query: str, *parameters: object) -> object:
    """Return the first value of a query in a session of its own."""
    with target.connect("test") as session:
        session.execute("SET search_path = public")
        row = session.execute(query.encode(), parameters or None).fetchone()
    assert row is not None
    return row[0]
