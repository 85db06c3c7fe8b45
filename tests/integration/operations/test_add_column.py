from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import PlanError
from schema_change.core.names import Table
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows

PARTED = Table("My Schema", "Parted")
LARGE = "INSERT INTO readings (station, celsius) SELECT 'S', 1 FROM generate_series(1, 12000); ANALYZE readings"


def column(name: str, type_: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, **keys}


def add(column: dict[str, Any], table: str = "readings", **keys: Any) -> list[dict[str, Any]]:
    return [{"add_column": {"table": table, "column": column, **keys}}]


def test_each_row_gets_its_own_default_and_so_do_rows_written_meanwhile(bench: Bench, rows: Rows) -> None:
    operations = add(column("token", "uuid", nullable=False, default="gen_random_uuid() -- a new one"))
    comes_back(bench, operations)
    run = forward(bench, bench.write("001_token", {"operations": operations}), stop_before="backfill")
    rows("INSERT INTO readings (station) VALUES ('meanwhile')")
    rows("UPDATE readings SET note = 'u' WHERE id < 10")
    for stage in ("backfill", "cutover", "validate", "contract"):
        assert run.try_stage(stage), run.error
    assert rows("SELECT count(DISTINCT token), count(*) FROM readings") == [(5001, 5001)]


@pytest.mark.parametrize(
    ("type_", "fill", "written"), [("citext", "lower(note)", "NOTE"), ("json", "to_json(note)", '"mine"')]
)
def test_what_the_application_writes_meanwhile_stays_whatever_its_type_calls_equal(
    bench: Bench, rows: Rows, type_: str, fill: str, written: str
) -> None:
    """Also when its type calls texts equal which differ in case, or has no equality at all."""
    rows("CREATE EXTENSION IF NOT EXISTS citext")
    rows("UPDATE readings SET note = 'note'")
    change = bench.write("001_tag", {"operations": add(column("tag", type_), fill=fill)})
    run = forward(bench, change, stop_before="contract")
    rows(f"UPDATE readings SET tag = '{written}' WHERE id = 1")
    rows("UPDATE readings SET celsius = 1 WHERE id = 1")
    rows("UPDATE readings SET note = 'other' WHERE id IN (1, 2)")
    assert rows("SELECT tag::text FROM readings WHERE id = 1") == [(written,)]
    assert rows("SELECT trim(BOTH '\"' FROM tag::text) FROM readings WHERE id = 2") == [("other",)]
    assert run.try_stage("contract"), run.error


@pytest.mark.parametrize("stored", [True, False])
def test_a_generated_column_of_a_small_table_is_added_directly(
    bench: Bench, connection: Connection, rows: Rows, stored: bool
) -> None:
    generated = column("Range °", "numeric(6,2)", generated={"expression": "celsius * 2 -- twice", "stored": stored})
    if not stored and connection.info.server_version < 180000:
        run = forward(bench, bench.write("900_no", {"operations": add(generated)}))
        assert isinstance(run.error, PlanError)
        return
    comes_back(bench, add(generated))
    lands(bench, add(generated))
    assert rows('SELECT count(*) FROM readings WHERE "Range °" IS DISTINCT FROM celsius * 2') == [(0,)]


@pytest.mark.parametrize("kind", ["always", "by default"])
def test_a_small_table_is_numbered_directly(bench: Bench, rows: Rows, kind: str) -> None:
    operations = add(column("user", "bigint", identity=kind, comment="it's a number"))
    comes_back(bench, operations)
    lands(bench, operations)
    rows("INSERT INTO readings (station) VALUES ('new')")
    assert rows('SELECT count(DISTINCT "user"), max("user") FROM readings') == [(5001, 5001)]


def test_a_large_table_is_numbered_in_batches_and_goes_on_from_there(
    bench: Bench, connection: Connection, rows: Rows
) -> None:
    connection.execute(LARGE)
    operations = add(column("Number", "bigint", identity="always"))
    comes_back(bench, operations)
    run = forward(bench, "900_back", stop_before="backfill")
    rows("INSERT INTO readings (station) VALUES ('meanwhile')")
    for stage in ("backfill", "cutover"):
        assert run.try_stage(stage), run.error
    rows("INSERT INTO readings (station) VALUES ('after cutover')")
    for stage in ("validate", "contract"):
        assert run.try_stage(stage), run.error
    rows("INSERT INTO readings (station) VALUES ('after contract')")
    assert rows('SELECT count(DISTINCT "Number"), count(*) FROM readings') == [(17003, 17003)]
    assert rows(
        "SELECT attidentity::text, attnotnull FROM pg_attribute"
        " WHERE attrelid = 'readings'::regclass AND attname = 'Number'"
    ) == [("a", True)]
    assert rows(
        "SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'schema_change'::regnamespace"
        " AND relname LIKE 'identity%'"
    ) == [(0,)]
    assert rows("SELECT count(*) FROM pg_proc WHERE pronamespace = 'schema_change'::regnamespace") == [(0,)]


def test_a_large_table_is_numbered_with_backup_and_rehearsal(bench: Bench, connection: Connection) -> None:
    connection.execute(LARGE)
    lands(bench, add(column("number", "integer", identity="by default")), skip_backup=False, skip_rehearsal=False)


def test_a_table_without_a_key_is_numbered_page_by_page(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute(LARGE)
    connection.execute("ALTER TABLE readings DROP CONSTRAINT readings_pkey")
    lands(bench, add(column("number", "bigint", identity="always")))
    assert rows("SELECT count(DISTINCT number), count(*) FROM readings") == [(17000, 17000)]


def test_a_large_table_is_not_written_anew(bench: Bench, connection: Connection) -> None:
    connection.execute(LARGE)
    run = forward(bench, bench.write("001_no", {"operations": add(column("g", "int", generated={"expression": "id"}))}))
    assert isinstance(run.error, PlanError)
    assert "17000 rows" in run.error.message.replace(",", "")


@pytest.fixture
def parted(bench: Bench, connection: Connection) -> None:
    connection.execute(
        """
        CREATE SCHEMA "My Schema";
        CREATE TABLE "My Schema"."Parted" ("order" int, day date, n int, PRIMARY KEY (day, "order"))
        PARTITION BY RANGE (day);
        CREATE TABLE "My Schema".p24 PARTITION OF "My Schema"."Parted" FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')
        PARTITION BY HASH ("order");
        CREATE TABLE "My Schema".p24a PARTITION OF "My Schema".p24 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE "My Schema".p24b PARTITION OF "My Schema".p24 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE TABLE "My Schema".rest PARTITION OF "My Schema"."Parted" DEFAULT;
        INSERT INTO "My Schema"."Parted" SELECT g, '2023-06-01'::date + g % 800, g FROM generate_series(1, 3000) AS g
        """
    )


@pytest.mark.usefixtures("parted")
def test_a_partitioned_table_is_filled_through_all_its_partitions(bench: Bench, rows: Rows) -> None:
    name = '"My Schema"."Parted"'
    operations = [
        *add(column("twice", "int", nullable=False, collation=None), name, fill='"Parted".n * 2'),
        *add(column("label", "text", default="'new'", collation='"C"', comment="l"), name),
        *add(column("half", "int", generated={"expression": "n / 2"}), name),
        {"create_index": {"table": name, "columns": ["twice"]}},
    ]
    comes_back(bench, operations, PARTED)
    run = forward(bench, "900_back", stop_before="backfill", skip_backup=False, skip_rehearsal=False)
    assert run.error is None, run.error
    rows(f"INSERT INTO {name} VALUES (5000, '2024-07-01', 7)")
    rows(f"UPDATE {name} SET day = '2024-03-03' WHERE \"order\" = 5")
    for stage in ("backfill", "cutover", "validate", "contract"):
        assert run.try_stage(stage), run.error
    assert rows(f"SELECT count(*), count(*) FILTER (WHERE twice = n * 2 AND half = n / 2) FROM {name}") == [
        (3001, 3001)
    ]


def test_what_a_partitioned_or_inherited_table_cannot_have_is_refused(bench: Bench, connection: Connection) -> None:
    connection.execute("CREATE TABLE keyless (day date) PARTITION BY RANGE (day)")
    connection.execute("CREATE TABLE part PARTITION OF keyless DEFAULT")
    connection.execute("CREATE TABLE child (extra int) INHERITS (readings)")
    connection.execute("CREATE TABLE loose (day date) PARTITION BY RANGE (day)")
    connection.execute("CREATE UNLOGGED TABLE fast PARTITION OF loose DEFAULT")
    refused = {
        "unlogged table": add(column("x", "int"), "loose"),
        "has no key": add(column("x", "int"), "keyless", fill="1"),
        "is a partition of": add(column("x", "int"), "part"),
        "inherits from": add(column("x", "int"), fill="1"),
        "has a column extra already": add(column("extra", "int")),
        "an identity of a partitioned": add(column("x", "int", identity="always"), "keyless"),
        "a whole number": add(column("x", "text", identity="always")),
    }
    for number, (message, operations) in enumerate(refused.items()):
        run = forward(bench, bench.write(f"{number + 1:03}_no", {"operations": operations}))
        assert isinstance(run.error, PlanError), message
        assert message in run.error.message
        assert run.error.hint


def test_an_inherited_table_passes_a_plain_column_on(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("CREATE TABLE child (extra int) INHERITS (readings); INSERT INTO child VALUES (-1, 's')")
    operations = add(column("kind", "text", nullable=False, default="'k'"))
    comes_back(bench, operations, Table("public", "child"))
    lands(bench, operations)
    assert rows("SELECT kind FROM child") == [("k",)]
