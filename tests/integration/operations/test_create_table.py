from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import ChangeRolledBack, PlanError
from schema_change.core.names import quote
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows

STATIONS = (
    "CREATE TABLE station_metadata (station_id varchar(10) PRIMARY KEY); INSERT INTO station_metadata VALUES ('a')"
)
PRODUCT: dict[str, Any] = {
    "table": "quarterly_cloudcover_features",
    "comment": "Cloud cover per station and quarter",
    "columns": [
        {"name": "id", "type": "SERIAL"},
        {"name": "station_id", "type": "varchar(10)", "nullable": False},
        {"name": "year", "type": "integer", "nullable": False},
        {"name": "quarter", "type": "integer", "nullable": False, "comment": "1 to 4"},
        {"name": "cloud_cover_mean_oktas", "type": "numeric(4,2)"},
        {"name": "created_at", "type": "timestamp", "default": "now()"},
    ],
    "primary_key": ["id"],
    "unique": [["station_id", "year", "quarter"]],
    "checks": ["quarter BETWEEN 1 AND 4"],
    "foreign_keys": [{"columns": ["station_id"], "references": {"table": "station_metadata"}}],
    "indexes": [
        {"columns": ["station_id", "year", "quarter"], "name": "idx_cloudcover_station_year"},
        {"columns": ["year", "quarter"], "name": "idx_cloudcover_year_quarter"},
    ],
    "grants": {"public": ["select"]},
}
CHANGE: dict[str, Any] = {
    "operations": [
        {"create_table": PRODUCT},
        {"comment": {"table": PRODUCT["table"], "column": "id", "text": "a number"}},
        {"add_check": {"table": PRODUCT["table"], "check": "year > 1900", "name": "modern"}},
    ],
    "registry": {"table": PRODUCT["table"], "from": None, "to": "v1.0.0", "definition": {"product": "cloud_cover"}},
}
NASTY: dict[str, Any] = {
    "table": '"My Schema"."Table ""of"" things, whose name is as long as postgresql lets"',
    "columns": [
        {"name": "user", "type": "uuid", "default": "gen_random_uuid()"},
        {"name": "Of", "type": "text", "collation": '"C"', "nullable": False, "default": "'it''s %s {}'"},
        {"name": "n", "type": "bigint", "identity": "always"},
        {"name": "upper", "type": "text", "generated": {"expression": 'upper("Of")'}},
        {"name": "tags", "type": "text[]"},
        {"name": "parent", "type": "uuid"},
    ],
    "primary_key": ["user"],
    "unique": [["n"], ["Of", "n"]],
    "checks": ["n > 0", "n < 100", "\"Of\" <> ''"],
    "foreign_keys": [
        {
            "columns": ["parent"],
            "references": {"table": '"My Schema"."Table ""of"" things, whose name is as long as postgresql lets"'},
            "on_delete": "set_null",
        }
    ],
    "indexes": [{"columns": ["tags"], "method": "gin"}, {"columns": ['lower("Of")'], "unique": True, "where": "n > 5"}],
}


def test_a_new_product_table(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute(STATIONS)
    comes_back(bench, CHANGE["operations"])
    run = forward(bench, bench.write("001_product", CHANGE), skip_backup=False, skip_rehearsal=False)
    assert (run.error, run.outcome_error) == (None, None), (run.error, run.outcome_error)
    rows(f"INSERT INTO {PRODUCT['table']} (station_id, year, quarter) VALUES ('a', 2024, 1)")
    assert rows(f"SELECT id, created_at IS NOT NULL FROM {PRODUCT['table']}") == [(1, True)]
    constraints = (
        f"SELECT count(*) FROM pg_constraint WHERE conrelid = '{PRODUCT['table']}'::regclass AND contype <> 'n'"
    )
    assert rows(constraints) == [(5,)]
    assert rows("SELECT count(*) FROM pg_indexes WHERE tablename = 'quarterly_cloudcover_features'") == [(4,)]
    assert rows("SELECT version, schema_definition FROM schema_change.schema_registry") == [
        ("v1.0.0", {"product": "cloud_cover"})
    ]


def test_nasty_names_and_types(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute('CREATE SCHEMA "My Schema"')
    comes_back(bench, [{"create_table": NASTY}])
    lands(bench, [{"create_table": NASTY}])
    table = NASTY["table"]
    insert = f'INSERT INTO {table} ("Of", tags) VALUES (DEFAULT, ARRAY[1::text]) RETURNING n, upper'
    assert rows(insert) == [(1, "IT'S %S {}")]


@pytest.mark.parametrize("partitioned", [False, True], ids=["plain", "partitioned"])
def test_a_rollback_keeps_what_was_written_into_the_table(
    bench: Bench, connection: Connection, rows: Rows, partitioned: bool
) -> None:
    connection.execute(STATIONS)
    before = bench.state()
    key = ["id", "year"] if partitioned else ["id"]
    more: dict[str, Any] = {"partition_by": {"method": "range", "columns": ["year"]}} if partitioned else {}
    product = {**PRODUCT, "primary_key": key, "unique": [], **more}
    change = bench.write("001_product", {"operations": [{"create_table": product}]})
    for number in (1, 2):
        run = forward(bench, change, stop_before="contract")
        assert run.error is None, run.error
        if partitioned:
            rows(f"CREATE TABLE p24 PARTITION OF {PRODUCT['table']} FOR VALUES FROM (2024) TO (2025)")
        rows(f"INSERT INTO {PRODUCT['table']} (station_id, year, quarter) VALUES ('a', 2024, {number})")
        run.finish()
        assert isinstance(run.outcome_error, ChangeRolledBack), run.outcome_error
        assert bench.state() == before
    kept = rows("SELECT kept_name, key_columns FROM schema_change.retired ORDER BY id")
    assert [k for _, k in kept] == [key, key]
    for number, (name, _) in enumerate(kept, 1):
        assert rows(f"SELECT quarter FROM schema_change_retired.{quote(name)}") == [(number,)]
    rows("DELETE FROM station_metadata")


def test_the_table_is_seen_by_the_operations_behind_it(bench: Bench, rows: Rows) -> None:
    columns = [{"name": "id", "type": "integer"}, {"name": "reading", "type": "integer"}]
    operations: list[dict[str, Any]] = [
        {"create_table": {"table": "notes", "columns": columns, "primary_key": ["id"]}},
        {"create_index": {"table": "notes", "columns": ["reading"]}},
        {
            "add_foreign_key": {
                "table": "notes",
                "columns": ["reading"],
                "references": {"table": "readings"},
                "on_delete": "cascade",
            }
        },
        {"create_view": {"view": "all_notes", "query": "SELECT id FROM notes"}},
    ]
    comes_back(bench, operations)
    lands(bench, operations)
    assert rows("SELECT count(*) FROM all_notes") == [(0,)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"table": "readings"}, "already something named public.readings"),
        ({"table": "readings_id_seq"}, "already something named"),
        ({"table": "nowhere.t"}, "there is no schema nowhere"),
        (
            {"foreign_keys": [{"columns": ["year"], "references": {"table": "readings", "columns": ["station"]}}]},
            "unique",
        ),
        ({"checks": ["month > 1"]}, "no column month"),
    ],
)
def test_what_cannot_be_created_is_said(bench: Bench, changed: dict[str, Any], message: str) -> None:
    operation = {**PRODUCT, "foreign_keys": [], **changed}
    run = forward(bench, bench.write("001_t", {"operations": [{"create_table": operation}]}))
    assert isinstance(run.error, PlanError), run.error
    assert message in run.error.message
