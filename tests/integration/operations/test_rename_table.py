from __future__ import annotations

from typing import Any

import psycopg
import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import PlanError
from schema_change.core.names import Table
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows

ROLES = """
DO $$ BEGIN CREATE ROLE "the reader"; EXCEPTION WHEN duplicate_object THEN END $$;
DO $$ BEGIN CREATE ROLE writer; EXCEPTION WHEN duplicate_object THEN END $$;
"""
SETUP = """
CREATE SCHEMA "My Schema";
CREATE TABLE "My Schema"."Thing" (
    "Id" integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner text NOT NULL DEFAULT current_user,
    "order" integer CHECK ("order" > 0),
    twice integer GENERATED ALWAYS AS ("order" * 2) STORED
);
COMMENT ON COLUMN "My Schema"."Thing".owner IS 'whose';
CREATE TABLE part (thing integer REFERENCES "My Schema"."Thing");
CREATE VIEW few AS SELECT "Id" FROM "My Schema"."Thing";
ALTER TABLE "My Schema"."Thing" ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON "My Schema"."Thing" USING (owner = current_user);
CREATE POLICY theirs ON part USING (EXISTS (SELECT FROM "My Schema"."Thing" AS t WHERE t."Id" = thing));
GRANT SELECT, INSERT, UPDATE ON "My Schema"."Thing" TO writer;
GRANT USAGE ON SCHEMA "My Schema" TO writer, "the reader";
INSERT INTO "My Schema"."Thing" (owner, "order") SELECT 'writer', g FROM generate_series(1, 20) AS g;
INSERT INTO "My Schema"."Thing" (owner, "order") VALUES ('nobody', 99);
INSERT INTO part SELECT "Id" FROM "My Schema"."Thing";
"""
THING = Table("My Schema", "Thing")
RENAME = [{"rename_table": {"table": THING.quoted, "to": "thing"}}]


def test_the_old_name_goes_on_until_contract(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute(ROLES)
    connection.execute(SETUP)
    comes_back(bench, RENAME, THING, Table("public", "part"))
    run = forward(bench, bench.write("001_thing", {"operations": RENAME}), stop_before="contract")
    assert run.error is None, run.error
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL ROLE writer")
        # Row security and defaults are the table's, and so are the rights.
        assert rows('SELECT count(*), sum(twice) FROM "My Schema"."Thing"') == [(20, 420)]
        insert = 'INSERT INTO "My Schema"."Thing" ("order") VALUES (7) RETURNING "Id", owner, twice'
        assert rows(insert) == [(22, "writer", 14)]
        upsert = (
            'INSERT INTO "My Schema"."Thing" ("Id", "order") OVERRIDING SYSTEM VALUE VALUES (22, 9)'
            ' ON CONFLICT ("Id") DO UPDATE SET "order" = excluded."order" RETURNING "order"'
        )
        assert rows(upsert) == [(9,)]
        assert rows('UPDATE "My Schema"."Thing" SET "order" = 5 WHERE "Id" = 3 RETURNING owner') == [("writer",)]
    rows('DELETE FROM part; DELETE FROM "My Schema"."Thing" WHERE "Id" = 1')
    assert run.try_stage("contract"), run.error
    assert rows('SELECT to_regclass(\'"My Schema"."Thing"\'), to_regclass(\'"My Schema".thing\')') == [
        (None, '"My Schema".thing')
    ]
    assert rows("SELECT count(*) FROM few") == [(20,)]


def test_a_table_moves_to_another_schema(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("CREATE SCHEMA weather")
    operations = [{"rename_table": {"table": "readings", "to": "weather.measures"}}]
    comes_back(bench, operations)
    lands(bench, operations, skip_backup=False, skip_rehearsal=False)
    assert rows("SELECT count(*) FROM weather.measures") == [(5000,)]
    assert rows("SELECT to_regclass('readings'), pg_get_serial_sequence('weather.measures', 'id')") == [
        (None, "weather.readings_id_seq")
    ]


def test_a_partitioned_table_is_renamed(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("CREATE TABLE event (day date, kind text) PARTITION BY RANGE (day)")
    connection.execute("CREATE TABLE event_24 PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")
    operations = [{"rename_table": {"table": "event", "to": "happening"}}]
    comes_back(bench, operations, Table("public", "event_24"))
    run = forward(bench, bench.write("001_event", {"operations": operations}), stop_before="contract")
    rows("INSERT INTO event VALUES ('2024-05-05', 'through the old name')")
    assert run.try_stage("contract"), run.error
    assert rows("SELECT count(*) FROM happening") == [(1,)]


def test_privileges_on_columns_hold_under_the_old_name(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute(ROLES)
    connection.execute('GRANT SELECT (id), INSERT (station) ON readings TO "the reader"')
    operations = [{"rename_table": {"table": "readings", "to": "measures"}}]
    comes_back(bench, operations)
    forward(bench, bench.write("001_r", {"operations": operations}), stop_before="contract")
    with connection.transaction(force_rollback=True):
        connection.execute('SET LOCAL ROLE "the reader"')
        assert rows("SELECT count(id) FROM readings") == [(5000,)]
        rows("INSERT INTO readings (station) VALUES ('new')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rows("SELECT station FROM readings")


@pytest.mark.parametrize(
    ("setup", "to", "message"),
    [
        ("CREATE SEQUENCE taken", "taken", "already something named public.taken"),
        ("CREATE TYPE taken AS ENUM ('a')", "taken", "already something named public.taken"),
        ("SELECT 1", "readings", "has that name already"),
        ("SELECT 1", "nowhere.readings", "no schema nowhere"),
        (
            "CREATE SCHEMA s; CREATE TABLE s.o (i integer CONSTRAINT readings_pkey PRIMARY KEY)",
            "s.r",
            "s.readings_pkey",
        ),
        ("ALTER TABLE readings ENABLE ROW LEVEL SECURITY; GRANT SELECT (id) ON readings TO PUBLIC", "other", "no view"),
        ("CREATE PUBLICATION feed FOR ALL TABLES", "other", "publication feed"),
    ],
)
def test_what_cannot_be_renamed_is_said(
    bench: Bench, connection: Connection, setup: str, to: str, message: str
) -> None:
    connection.execute(setup.encode())
    run = forward(bench, bench.write("001_r", {"operations": [{"rename_table": {"table": "readings", "to": to}}]}))
    assert isinstance(run.error, PlanError)
    assert message in run.error.message


OTHERS: list[dict[str, Any]] = [
    {"add_column": {"table": "readings", "column": {"name": "n", "type": "integer"}}},
    {"drop_constraint": {"table": "readings", "name": "once"}},
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda o: next(iter(o)))
@pytest.mark.parametrize(
    "last", [{"rename_table": {"table": "readings", "to": "other"}}, {"drop_table": {"table": "readings"}}]
)
def test_other_operations_on_the_table_need_a_change_of_their_own(
    bench: Bench, connection: Connection, other: dict[str, Any], last: dict[str, Any]
) -> None:
    connection.execute("ALTER TABLE readings ADD CONSTRAINT once UNIQUE (station, id)")
    run = forward(bench, bench.write("001_r", {"operations": [other, last]}))
    assert isinstance(run.error, PlanError), run.error
    assert "until it has landed" in run.error.message
