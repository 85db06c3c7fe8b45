from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.catalog.model import Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from schema_change.core.names import Table
from tests.unit.core.operations.shapes import READINGS, plan, readings


def drop(column: str, table: str = "readings") -> dict[str, Any]:
    return {"drop_not_null": {"table": table, "column": column}}


@pytest.mark.parametrize(("version", "statements"), [(150000, 4), (180000, 2)])
def test_it_is_put_back_without_reading_the_table_under_a_lock(version: int, statements: int) -> None:
    (step,) = plan(drop("station"), version=version).steps
    assert step.phase is Phase.CUTOVER
    assert len(step.undo) == statements
    assert step.undo[0].endswith("NOT VALID")
    assert "VALIDATE" in step.undo[1]


@pytest.mark.parametrize(
    ("column", "changes", "message"),
    [
        ("nope", {}, "no column nope"),
        ("day", {}, "NULL already"),
        ("id", {}, "primary key"),
        ("id", {"constraints": ()}, "identity"),
        ("id", {"constraints": (), "replica_identity": "index readings_pkey"}, "identity"),
    ],
)
def test_what_must_not_be_null_is_refused_with_a_remedy(column: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(drop(column), readings(**changes))
    assert refused.value.hint


def test_a_partition_follows_its_parent() -> None:
    part: Relation = readings(table=Table("public", "part"), partition_of=READINGS)
    with pytest.raises(PlanError, match=r"because public\.readings says so"):
        plan(drop("station", "part"), part)
    assert plan(drop("station"), part, readings(kind="p")).touched == (part.table,)
