"""Columns of a template added, modified and removed by whole runs, while somebody reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest

from schema_change.core.database import Target
from schema_change.core.names import Table
from tests.bench import Bench, Run
from tests.integration.warehouse.conftest import Change
from tests.integration.warehouse.warehouse import FIRST, TEMPLATE, TENANTS, TODAY, Warehouse

DAYS = (TODAY - FIRST).days + 1
YEARS = (TODAY.year - 2, TODAY.year - 1)
ADD = {
    "template": TEMPLATE,
    "column": "waste_category",
    "type": "text",
    "expression": "l.waste_category",
    "default": "'UNKNOWN'",
}


@dataclass
class Reader:
    """Reads the public view all the time, and keeps what went wrong, and which columns it saw."""

    target: Target
    errors: list[str] = field(default_factory=list)
    counts: set[int] = field(default_factory=set)
    shapes: list[list[str]] = field(default_factory=list)
    reads: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with self.target.connect("reader") as session:
            while not self.stop.is_set():
                try:
                    cursor = session.execute(f"SELECT * FROM public.{TEMPLATE}".encode(), prepare=False)
                    shape = [c.name for c in cursor.description or ()]
                    self.counts.add(len(cursor.fetchall()))
                    self.reads += 1
                    if shape not in self.shapes:
                        self.shapes.append(shape)
                except psycopg.Error as error:
                    self.errors.append(str(error))


@pytest.fixture
def reader(target: Target, warehouse: Warehouse) -> Iterator[Reader]:
    reader = Reader(target)
    thread = threading.Thread(target=reader.run)
    thread.start()
    yield reader
    reader.stop.set()
    thread.join()


def nothing_is_left(warehouse: Warehouse) -> None:
    """No run of ours leaves anything behind."""
    assert warehouse.one("SELECT array_agg(nspname) FROM pg_namespace WHERE nspname ~ '^_wh_'") is None
    for table in ("changes", "shapes", "change_definitions", "change_work"):
        assert warehouse.one(f"SELECT count(*) FROM _wh.{table}") == 0
    assert warehouse.one("SELECT count(*) FROM schema_change.owner") == 0


def landed(run: Run) -> None:
    assert (run.error, run.outcome_error) == (None, None)


def columns(warehouse: Warehouse, view: str) -> list[str]:
    return [c.name for c in warehouse.session.execute(f"SELECT * FROM {view} LIMIT 0".encode()).description or ()]


OLD = ["id", "store", "weight", "logged_time", "schema_name"]


def test_a_column_is_added_while_everybody_reads(warehouse: Warehouse, change: Change, reader: Reader) -> None:
    before = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    run = change("warehouse_add_column", {**ADD, "index": True})
    landed(run)
    assert reader.errors == []
    assert reader.counts == {before}
    assert reader.shapes == [OLD, [*OLD[:-1], "waste_category", "schema_name"]]
    found = warehouse.session.execute(
        f"SELECT waste_category, count(*) FROM public.{TEMPLATE} GROUP BY 1 ORDER BY 1".encode()
    ).fetchall()
    assert found == [("UNKNOWN", 8), ("peel", 4 * DAYS), ("rest", 6 * DAYS)]
    assert columns(warehouse, f"landb.{TEMPLATE}") == [*OLD[:-1], "waste_category"]
    # The parts are where they were, under the names they had, in the template's new shape and with its indexes.
    assert warehouse.one(f"SELECT count(*) FROM _wh.parts_of('{TEMPLATE}')") == 2 * DAYS + 4
    wrong = (
        "SELECT count(*) FROM _wh.parts_of(%s) p CROSS JOIN LATERAL _wh.shapes_of(%s, p.schema_name) s"
        " WHERE _wh.shape_problems(s, p.part_oid) <> '{}'"
    )
    assert warehouse.one(wrong, TEMPLATE, TEMPLATE) == 0
    indexed = "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%(waste\\_category)'"
    assert warehouse.one(indexed) == 2 * DAYS + 4
    nothing_is_left(warehouse)
    # The daily work goes on in the new shape.
    for tenant, schema in TENANTS.items():
        assert warehouse.one("SELECT _wh.update_mv_by_template(%s, %s, %s)", TEMPLATE, tenant, schema) is True
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before


def test_rollback_gives_everything_back(warehouse: Warehouse, change: Change, bench: Bench, reader: Reader) -> None:
    tables = [Table(schema, f"{TEMPLATE}_{year}") for schema in TENANTS.values() for year in YEARS]
    state = bench.state(*tables)
    run = change("warehouse_add_column", ADD, stop_before="contract")
    assert run.error is None, run.error
    assert "waste_category" in columns(warehouse, f"public.{TEMPLATE}")
    run.finish()
    assert bench.state(*tables) == state
    assert reader.errors == []
    nothing_is_left(warehouse)


def test_a_type_is_modified(warehouse: Warehouse, change: Change, reader: Reader) -> None:
    total = warehouse.one(f"SELECT sum(weight) FROM public.{TEMPLATE}")
    run = change("warehouse_modify_column", {"template": TEMPLATE, "column": "weight", "type": "double precision"})
    landed(run)
    assert reader.errors == []
    assert warehouse.one(f"SELECT pg_typeof(weight)::text FROM public.{TEMPLATE} LIMIT 1") == "double precision"
    assert warehouse.one(f"SELECT sum(weight) FROM public.{TEMPLATE}") == float(total)
    types = (
        "SELECT DISTINCT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'weight'"
        " AND attrelid IN (SELECT part_oid FROM _wh.parts_of(%s))"
    )
    assert warehouse.session.execute(types.encode(), [TEMPLATE]).fetchall() == [("double precision",)]
    nothing_is_left(warehouse)


def test_a_column_is_removed(warehouse: Warehouse, change: Change, reader: Reader) -> None:
    run = change("warehouse_remove_column", {"template": TEMPLATE, "column": "store"})
    landed(run)
    assert reader.errors == []
    assert reader.shapes == [OLD, [c for c in OLD if c != "store"]]
    left = (
        "SELECT count(*) FROM pg_attribute WHERE attname = 'store' AND NOT attisdropped"
        " AND attrelid IN (SELECT part_oid FROM _wh.parts_of(%s))"
    )
    assert warehouse.one(left, TEMPLATE) == 0
    # The values of finished years are kept, the sources have the others.
    assert warehouse.one("SELECT count(*) FROM schema_change.retired") == 4
    nothing_is_left(warehouse)
