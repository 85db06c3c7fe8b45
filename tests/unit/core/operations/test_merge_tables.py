from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.catalog.model import Relation, Trigger, Use
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Plan, to_json
from tests.unit.core.operations.shapes import READINGS, STATIONS, foreign_key, plan, readings, stations

REFERRING = readings(constraints=(*readings().constraints, foreign_key("fk", "station", "stations.name")))


def merge(**changes: Any) -> dict[str, Any]:
    columns = [{"from": "title"}, {"from": "number", "name": "station_number"}]
    body = {"from": "stations", "into": "readings", "on": {"station": "name"}, "columns": columns}
    return {"merge_tables": body | changes}


def test_the_steps_in_their_phases_and_locks() -> None:
    planned = plan(merge(), REFERRING)
    assert [(s.phase, s.lock) for s in planned.steps] == [
        (Phase.EXPAND, LockMode.SHARE_UPDATE_EXCLUSIVE),
        (Phase.EXPAND, LockMode.ACCESS_EXCLUSIVE),
        (Phase.EXPAND, LockMode.SHARE_ROW_EXCLUSIVE),
        (Phase.BACKFILL, LockMode.ROW_EXCLUSIVE),
        (Phase.CONTRACT, LockMode.ACCESS_EXCLUSIVE),
        (Phase.CONTRACT, LockMode.ACCESS_EXCLUSIVE),
    ]
    _, add, _, fill, stop, _ = planned.steps
    assert add.statements[0].endswith('ADD COLUMN "title" text, ADD COLUMN "station_number" bigint')
    assert fill.backfill is not None
    assert fill.backfill.batch is not None
    assert fill.backfill.batch.head.startswith('UPDATE "public"."readings" SET ("title", "station_number") = (SELECT')
    assert stop.statements[-1] == 'ALTER TABLE "public"."readings" DROP CONSTRAINT IF EXISTS "fk"'
    assert [r.table for r in planned.retired] == [STATIONS]


def test_the_catalog_afterwards() -> None:
    catalog = plan(merge(), REFERRING).catalog
    assert catalog.get(STATIONS) is None
    left = catalog.relations[READINGS]
    assert left.column("title") is not None
    assert not any(c.type == "f" for c in left.constraints)


def test_rows_that_nothing_refers_to_are_counted_unless_they_may_go() -> None:
    assert any("refers to" in c.name for c in plan(merge(), REFERRING).data_checks)
    assert not any("refers to" in c.name for c in plan(merge(unmatched="retire"), REFERRING).data_checks)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (merge(into="stations", on={"name": "name"}), "into itself"),
        (merge(on={"station": "title"}), "unique and NOT NULL"),
        (merge(on={"day": "name"}), "different types"),
        (merge(on={"station": "nothing"}), "no column nothing"),
        (merge(columns=None), "generated"),
        (merge(columns=[{"from": "title", "name": "day"}]), "already has a column day"),
        (merge(columns=[{"from": "number"}]), "title is NOT NULL but is not taken over"),
        (merge(columns=[]), "nothing to take over"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(operation, REFERRING)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("relation", "message"),
    [
        (stations(triggers=(Trigger("t", "CREATE TRIGGER …"),)), "triggers"),
        (stations(row_security=True), "row-level security"),
        (stations(uses=(Use("view", "public.v", ("title",)),)), "view public.v"),
    ],
)
def test_tables_that_are_used_otherwise_are_refused(relation: Relation, message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(merge(), REFERRING, relation)
    assert refused.value.hint


def test_a_plan_survives_json() -> None:
    planned = plan(merge(), REFERRING)
    stored = Plan(steps=planned.steps, expectations=planned.expectations, retired=planned.retired)
    assert Plan.from_json(to_json(stored)) == stored
