from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import PlanError, RollbackFailed
from schema_change.core.names import Table, quote
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows

SETUP = """
CREATE TABLE station (code text PRIMARY KEY);
INSERT INTO station VALUES ('S1'), ('S2');
CREATE SCHEMA "My Schema";
CREATE TYPE "My Schema".mood AS ENUM ('sad', 'ok');
CREATE TABLE "My Schema"."Order" (
    "Id" uuid DEFAULT gen_random_uuid(),
    day date,
    "user" text REFERENCES station,
    "table" "My Schema".mood[] NOT NULL,
    n serial,
    note text CHECK (note IS NOT NULL AND note <> ''),
    PRIMARY KEY ("Id", day)
);
CREATE INDEX "on user" ON "My Schema"."Order" (lower("user")) WHERE "user" IS NOT NULL;
CREATE INDEX by_both ON "My Schema"."Order" ("user", n);
CREATE STATISTICS "My Schema"."of both" ON "user", n FROM "My Schema"."Order";
COMMENT ON COLUMN "My Schema"."Order"."user" IS 'who';
GRANT SELECT ("user") ON "My Schema"."Order" TO PUBLIC;
INSERT INTO "My Schema"."Order" (day, "user", "table", note)
SELECT '2024-01-01'::date + g, 'S' || 1 + g % 2, ARRAY['ok'::"My Schema".mood], 'n' || g
FROM generate_series(1, 1500) AS g;
UPDATE "My Schema"."Order" SET "user" = NULL WHERE n <= 10;
"""
ORDER = Table("My Schema", "Order")


def drop(column: str, table: str = ORDER.quoted, **more: Any) -> list[dict[str, Any]]:
    return [{"drop_column": {"table": table, "column": column, **more}}]


def kept(rows: Rows, number: int = 1) -> str:
    return (
        f"schema_change_retired.{quote(rows('SELECT kept_name FROM schema_change.retired ORDER BY id')[number - 1][0])}"
    )


def test_a_dropped_column_is_kept_by_key_and_a_rollback_gives_it_back(
    bench: Bench, connection: Connection, rows: Rows
) -> None:
    connection.execute(SETUP)
    operations = drop("user", also_drops=["by_both", '"My Schema"."of both"'])
    comes_back(bench, operations, ORDER)
    before = rows('SELECT "Id", day, "user" FROM "My Schema"."Order" WHERE "user" IS NOT NULL ORDER BY 1, 2')
    lands(bench, operations, skip_backup=False, skip_rehearsal=False)
    assert rows(f'SELECT "Id", day, "user" FROM {kept(rows)} ORDER BY 1, 2') == before
    columns = 'SELECT attname::text FROM pg_attribute WHERE attrelid = \'"My Schema"."Order"\'::regclass AND attnum > 0'
    assert rows(f"{columns} AND NOT attisdropped ORDER BY attnum") == [("Id",), ("day",), ("table",), ("n",), ("note",)]
    assert rows("SELECT count(*) FROM pg_indexes WHERE schemaname = 'My Schema'") == [(1,)]
    assert rows("SELECT key_columns, definition ->> 'comment' FROM schema_change.retired") == [(["Id", "day"], "who")]


def test_the_new_application_writes_without_the_column(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute(SETUP)
    change = bench.write("001_both", {"operations": [*drop("table"), *drop("note")]})
    run = forward(bench, change, stop_before="contract")
    assert run.error is None, run.error
    assert any("which is NOT NULL" in reason for reason in run.journal(connection).plan().one_way)
    rows('INSERT INTO "My Schema"."Order" (day) VALUES (\'2020-01-01\')')
    run.finish()
    # What was written without a value is not made up: a person has to say what it is.
    assert isinstance(run.outcome_error, RollbackFailed)
    rows("UPDATE \"My Schema\".\"Order\" SET note = 'later' WHERE day = '2020-01-01'")
    again = run.again()
    again.finish()
    assert isinstance(again.outcome_error, RollbackFailed)
    assert '1 rows have no value for "My Schema"."Order".table' in str(again.outcome_error)
    rows('UPDATE "My Schema"."Order" SET "table" = \'{}\' WHERE day = \'2020-01-01\'')
    run.again().finish()
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]


def test_with_down_a_rollback_has_the_value_of_every_row(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute(SETUP)
    operations = [*drop("table", down="ARRAY['sad']::\"My Schema\".mood[]"), *drop("note", down="'n' || n")]
    comes_back(bench, operations, ORDER)
    change = bench.write("001_both", {"operations": operations})
    run = forward(bench, change, stop_before="contract")
    assert run.error is None, run.error
    rows('INSERT INTO "My Schema"."Order" (day, n) VALUES (\'2020-01-01\', 7777)')
    run.finish()
    assert rows('SELECT "table"::text, note FROM "My Schema"."Order" WHERE n = 7777') == [("{sad}", "n7777")]
    assert rows("SELECT status FROM schema_change.run ORDER BY started_at DESC LIMIT 1") == [("rolled_back",)]
    lands(bench, operations, "001_both")
    rows('INSERT INTO "My Schema"."Order" (day) VALUES (\'2021-01-01\')')


def test_without_a_key_whole_rows_are_kept(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("CREATE TABLE log (at timestamptz DEFAULT now(), line text, level integer)")
    connection.execute("INSERT INTO log SELECT now(), 'line ' || g, g % 3 FROM generate_series(1, 3000) AS g")
    before = rows("SELECT line, level FROM log ORDER BY 1")
    comes_back(bench, drop("level", "log"), Table("public", "log"))
    lands(bench, drop("level", "log"))
    assert rows(f"SELECT line, level FROM {kept(rows)} ORDER BY 1") == before


def test_a_column_of_a_partitioned_table(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute(
        "CREATE TABLE event (id integer, day date, kind text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)"
    )
    connection.execute("CREATE TABLE event_24 PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")
    connection.execute("CREATE INDEX event_kind ON event (kind)")
    connection.execute(
        "INSERT INTO event SELECT g, '2024-01-01'::date + g % 300, 'k' || g FROM generate_series(1, 900) g"
    )
    comes_back(bench, drop("kind", "event"), Table("public", "event_24"))
    lands(bench, drop("kind", "event"))
    assert rows(f"SELECT count(*), min(kind) FROM {kept(rows)}") == [(900, "k1")]
    refused = forward(bench, bench.write("003_day", {"operations": drop("day", "event")}))
    assert "partitioned by day" in str(refused.error)


USED = """
CREATE TABLE child (id integer PRIMARY KEY, station text REFERENCES readings (station));
CREATE VIEW warm AS SELECT station FROM readings;
CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN NEW.station := trim(new."station"); RETURN NEW; END $$;
CREATE TRIGGER "tidy up" BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION tidy();
CREATE POLICY mine ON readings USING (station = current_user);
ALTER TABLE readings ADD COLUMN low text GENERATED ALWAYS AS (lower(station)) STORED;
"""


def test_what_uses_the_column_is_named(bench: Bench, connection: Connection) -> None:
    connection.execute("DELETE FROM readings WHERE id > 7; CREATE UNIQUE INDEX one ON readings (station)")
    connection.execute(USED)
    run = forward(bench, bench.write("001_drop", {"operations": drop("station", "readings")}))
    assert isinstance(run.error, PlanError)
    for user in ("view public.warm", "child_station_fkey of public.child", "policy mine", "column public.readings.low"):
        assert user in run.error.message
    assert "function public.tidy() of trigger tidy up" in run.error.message
    run = forward(bench, bench.write("002_drop", {"operations": drop("id", "readings")}))
    assert "primary key readings_pkey" in str(run.error)


@pytest.mark.parametrize(
    ("also", "message"), [([], "index by_two"), (["by_two", "nothing"], "also_drops: nothing is not made of celsius")]
)
def test_what_is_made_of_other_columns_too_is_named(
    bench: Bench, connection: Connection, also: list[str], message: str
) -> None:
    connection.execute("CREATE INDEX by_two ON readings (station, celsius)")
    run = forward(bench, bench.write("001_d", {"operations": drop("celsius", "readings", also_drops=also)}))
    assert isinstance(run.error, PlanError)
    assert message in run.error.message


def test_a_column_that_the_change_still_reads_is_not_dropped_with_it(bench: Bench) -> None:
    add = {"table": "readings", "column": {"name": "fahrenheit", "type": "numeric"}, "fill": "celsius * 1.8 + 32"}
    run = forward(bench, bench.write("001_d", {"operations": [{"add_column": add}, *drop("celsius", "readings")]}))
    assert isinstance(run.error, PlanError)
    assert "behind this one" in str(run.error.hint)
