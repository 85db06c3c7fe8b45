from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.catalog.model import Column
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from tests.unit.core.operations.shapes import READINGS, STATIONS, plan, readings


def add(**keys: Any) -> dict[str, Any]:
    return {"add_primary_key": {"table": "readings", "columns": ["station", "day"], **keys}}


BARE = readings(constraints=(), indexes=())


@pytest.mark.parametrize("version", [150000, 180000])
def test_nullable_columns_become_not_null_before_the_index_becomes_the_key(version: int) -> None:
    planned = plan(add(), BARE, version=version)
    build, *others, attach = planned.steps
    assert build.phase is Phase.EXPAND
    assert all("day" in s.title for s in others)
    assert attach.statements[0].endswith('"readings_pkey" PRIMARY KEY USING INDEX "readings_pkey"')
    assert [c.name for c in planned.data_checks] == [
        "NULL in public.readings.day",
        "rows of public.readings that share (station, day)",
    ]
    after = planned.catalog.relations[READINGS]
    assert after.key == ("station", "day")
    assert not any(c.nullable for c in after.columns if c.name in {"station", "day"})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": ["hour"]}, "no column hour"),
        ({"columns": ["day", "day"]}, "twice"),
        ({"columns": ["now"]}, "virtual"),
        ({"name": "stations"}, "already a relation"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(keys: dict[str, Any], message: str) -> None:
    virtual = BARE.with_column(Column("now", "date", default="day + 1", generated="v"))
    with pytest.raises(PlanError, match=message) as refused:
        plan(add(**keys), virtual)
    assert refused.value.hint


def test_a_second_key_is_refused() -> None:
    with pytest.raises(PlanError, match="already") as refused:
        plan(add())
    assert "change_primary_key" in (refused.value.hint or "")


@pytest.mark.parametrize("changes", [{"kind": "p"}, {"partition_of": STATIONS}])
def test_partitioned_tables_and_partitions_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="partitioned"):
        plan(add(), readings(constraints=(), indexes=(), **changes))
