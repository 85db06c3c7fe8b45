from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from schema_change.core.catalog.model import Catalog, Column, Index, Relation
from schema_change.core.changes.load import load_change
from schema_change.core.changes.spec import Change
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase, Risk
from schema_change.core.names import Table
from schema_change.core.planning.plan import make_plan

READINGS, STATIONS = Table("public", "readings"), Table("public", "stations")
CATALOG = Catalog(
    180000,
    {
        table: Relation(
            table,
            "r",
            "owner",
            columns=(Column("id", "bigint", nullable=False), Column("celsius", "numeric"), Column("note", "text")),
            indexes=(Index("pkey", "CREATE UNIQUE INDEX pkey ON t USING btree (id)", ("id",), True, True),),
            rows=1000,
        )
        for table in (READINGS, STATIONS)
    },
)
ADD = {
    "add_column": {
        "table": "readings",
        "column": {"name": "fahrenheit", "type": "numeric", "nullable": False},
        "fill": "readings.celsius * 9 / 5 + (SELECT count(*) FROM public.stations)",
    }
}
INDEX = {"create_index": {"table": "readings", "columns": ["fahrenheit"]}}
MakeChange = Callable[..., Change]


@pytest.fixture
def change(tmp_path: Path) -> MakeChange:
    def write(*operations: dict[str, Any], **scripts: str) -> Change:
        folder = tmp_path / "001_test"
        folder.mkdir()
        document = {"description": "a test", "conn_id": "target", "operations": list(operations)}
        if not operations:
            del document["operations"]
        (folder / "change.yaml").write_text(yaml.safe_dump(document))
        for name, text in scripts.items():
            (folder / f"{name}.sql").write_text(text)
        return load_change(folder)

    return write


def test_the_same_change_and_catalog_give_the_same_plan(change: MakeChange) -> None:
    planned = change(ADD, INDEX)
    assert make_plan(planned, CATALOG) == make_plan(planned, CATALOG)


def test_steps_are_ordered_by_phase_and_within_it_by_operation(change: MakeChange) -> None:
    plan = make_plan(change(ADD, INDEX), CATALOG)
    order = [list(Phase).index(step.phase) for step in plan.steps]
    assert order == sorted(order)
    titles = [step.title for step in plan.of_phase(Phase.CUTOVER)]
    # The index is of the second operation, so it comes after all that the first does in its phase.
    assert "create index" in titles[-1]
    assert "until contract begins the change can be undone; after that only forward" in plan.notices


def test_an_operation_sees_what_those_before_it_leave_behind(change: MakeChange, tmp_path: Path) -> None:
    assert make_plan(change(ADD, INDEX), CATALOG).steps
    (tmp_path / "001_test" / "change.yaml").unlink()
    (tmp_path / "001_test").rmdir()
    with pytest.raises(PlanError, match="fahrenheit"):
        make_plan(change(INDEX, ADD), CATALOG)


def test_what_is_written_read_and_in_scope_is_told_apart(change: MakeChange) -> None:
    plan = make_plan(change(ADD, INDEX), CATALOG)
    assert plan.written == (READINGS,)
    assert plan.read == (STATIONS,)
    assert plan.scope == (READINGS,)
    assert plan.fingerprint == CATALOG.restricted((READINGS,)).fingerprint
    assert plan.fingerprint != CATALOG.fingerprint


def test_raw_sql_can_touch_anything_so_everything_is_in_scope(change: MakeChange) -> None:
    plan = make_plan(change(deploy="CREATE TABLE extra (id bigint PRIMARY KEY);", revert="DROP TABLE extra;"), CATALOG)
    assert plan.scope == ()
    assert plan.fingerprint == CATALOG.fingerprint


def test_an_expectation_that_two_operations_want_is_checked_once(change: MakeChange) -> None:
    plan = make_plan(change(ADD, {"set_not_null": {"table": "readings", "column": "note"}}, INDEX), CATALOG)
    names = [(e.table, e.check_id) for e in plan.expectations]
    assert len(names) == len(set(names))


def test_the_risk_and_its_reasons_are_part_of_the_plan(change: MakeChange) -> None:
    fill = {"set_not_null": {"table": "readings", "column": "note", "nulls": {"fill": "'none'"}}}
    plan = make_plan(change(fill), CATALOG)
    assert plan.risk is Risk.HIGH
    assert plan.data_migration
    assert plan.risk_reasons[0].startswith("high: data that exists is changed or moved")


def test_a_table_that_is_not_there_is_named(change: MakeChange) -> None:
    with pytest.raises(PlanError, match="readings"):
        make_plan(change(ADD), Catalog(180000, {}))
