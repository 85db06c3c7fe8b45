from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from tests.unit.core.operations.shapes import READINGS, plan, readings


def add(**keys: Any) -> dict[str, Any]:
    return {"add_unique": {"table": "readings", "columns": ["station", "day"], **keys}}


def test_the_index_is_built_concurrently_and_then_becomes_the_constraint() -> None:
    build, attach = plan(add(include=["celsius"], nulls_distinct=False)).steps
    assert build.statements == (
        (
            'CREATE UNIQUE INDEX CONCURRENTLY "readings_station_day_key" ON "public"."readings" ("station", "day")'
            ' INCLUDE ("celsius") NULLS NOT DISTINCT'
        ),
    )
    assert not build.transactional
    assert attach.statements[0].endswith('UNIQUE USING INDEX "readings_station_day_key"')
    assert (build.phase, attach.phase) == (Phase.EXPAND, Phase.CUTOVER)


def test_a_column_that_the_change_fills_is_indexed_at_cutover() -> None:
    build, _ = plan(add(), filled=frozenset({(READINGS, "day")})).steps
    assert build.phase is Phase.CUTOVER


def test_null_makes_a_key_no_duplicate_unless_asked() -> None:
    (check,) = plan(add()).data_checks
    assert 'WHERE "station" IS NOT NULL AND "day" IS NOT NULL' in check.count
    (strict,) = plan(add(nulls_distinct=False)).data_checks
    assert "WHERE true" in strict.count


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": ["hour"]}, "no column hour"),
        ({"include": ["hour"]}, "no column hour"),
        ({"name": "readings_pkey"}, "already has a constraint"),
        ({"name": "stations"}, "already a relation or index"),
        ({"columns": ["day", "day"]}, "names a column twice"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(add(**keys))
    assert refused.value.hint


def test_a_partitioned_table_is_led_to_a_unique_index() -> None:
    with pytest.raises(PlanError, match="partitioned") as refused:
        plan(add(), readings(kind="p"))
    assert "create_index" in (refused.value.hint or "")
