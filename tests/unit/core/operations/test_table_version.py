from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.catalog.model import Column, Constraint, Relation, Trigger, Use
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Plan, to_json
from schema_change.core.names import Table
from tests.unit.core.operations.shapes import READINGS, foreign_key, plan, readings, stations

NEW = Table("public", "readings_v2")
COPIES = [{"name": n, "from": n} for n in ("id", "station", "day", "celsius")]
KELVIN = {"name": "kelvin", "from": "celsius + 273.15", "type": "numeric(6,2)"}


def version(*columns: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"table_version": {"table": "readings", "to": "readings_v2", "columns": list(columns or COPIES), **changes}}


def test_the_steps_in_their_phases_and_locks() -> None:
    planned = plan(version(view="current"))
    assert [(s.phase, s.lock) for s in planned.steps] == [
        (Phase.EXPAND, LockMode.NONE),
        (Phase.EXPAND, LockMode.ACCESS_SHARE),
        (Phase.EXPAND, LockMode.SHARE_ROW_EXCLUSIVE),
        (Phase.BACKFILL, LockMode.ROW_EXCLUSIVE),
        (Phase.CUTOVER, LockMode.ACCESS_EXCLUSIVE),
        (Phase.CONTRACT, LockMode.ACCESS_EXCLUSIVE),
        (Phase.CONTRACT, LockMode.ACCESS_EXCLUSIVE),
    ]
    assert planned.one_way == ()
    assert [(r.kind, r.table) for r in planned.retired] == [("table", READINGS)]
    assert planned.catalog.get(READINGS) is None
    assert planned.catalog.relations[NEW].key == ("id",)


def test_copies_keep_what_the_columns_are() -> None:
    new = plan(version()).catalog.relations[NEW]
    assert new.column("celsius") == readings().column("celsius")
    assert new.column("station") == Column("station", "text", nullable=False)
    # An identity is made in contract; until then numbers come from the old table's.
    assert new.column("id") == Column("id", "integer", nullable=False)


def test_computed_columns_without_a_way_back_are_one_way() -> None:
    planned = plan(version(*COPIES[:3], KELVIN))
    assert planned.one_way
    assert {e.severity for e in planned.expectations} == {"warning"}
    assert not any("follow_back" in s for step in planned.steps for s in step.statements)


def test_with_down_both_follow_each_other() -> None:
    planned = plan(version(*COPIES[:3], KELVIN, down={"celsius": "kelvin - 273.15"}))
    assert planned.one_way == ()
    assert any("follow_back" in s for step in planned.steps for s in step.statements)
    assert {e.severity for e in planned.expectations} == {"critical"}


def test_a_null_that_must_not_be_is_counted_before() -> None:
    planned = plan(version(*COPIES[:3], {**KELVIN, "nullable": False}))
    assert any(c.name == "NULL for public.readings_v2.kelvin" for c in planned.data_checks)


def test_what_the_new_version_lacks_is_told() -> None:
    check = Constraint("cold", "c", "CHECK (celsius < 100)", columns=("celsius",))
    planned = plan(version(), readings(constraints=(*readings().constraints, check)))
    assert any("does not have cold" in n for n in planned.notices)


def view(definition: str, **changes: Any) -> Relation:
    columns = (Column("station", "text"), Column("celsius", "numeric(5,2)"))
    return replace(
        Relation(Table("public", "current"), "v", "postgres", columns=columns, definition=definition), **changes
    )


def test_a_view_that_is_there_keeps_its_columns() -> None:
    plain = view("SELECT readings.station, readings.celsius FROM public.readings;", options=("security_barrier=true",))
    used = readings(uses=(Use("view", "public.current", ("station", "celsius")),))
    planned = plan(version(*COPIES[:3], KELVIN, down={"celsius": "kelvin - 273.15"}, view="current"), plain, used)
    (switch,) = [s for s in planned.steps if s.phase is Phase.CUTOVER]
    assert '(kelvin - 273.15)::numeric(5,2) AS "celsius" FROM "public"."readings_v2"' in switch.statements[0]
    assert "security_barrier" in switch.statements[0]
    assert switch.undo[0].endswith("SELECT readings.station, readings.celsius FROM public.readings")


@pytest.mark.parametrize(
    "definition",
    [
        "SELECT station, celsius FROM public.readings WHERE celsius > 0",
        "SELECT station, celsius FROM public.stations",
        "SELECT lower(station) AS station, celsius FROM public.readings",
        "SELECT DISTINCT station, celsius FROM public.readings",
        "SELECT station, celsius FROM public.readings UNION SELECT station, celsius FROM public.readings",
    ],
)
def test_a_view_that_is_more_is_refused(definition: str) -> None:
    with pytest.raises(PlanError, match="not a view of columns") as refused:
        plan(version(view="current"), view(definition))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (version(*COPIES[1:]), "key of public.readings is not in"),
        (version(*COPIES, COPIES[1]), "twice"),
        (version(*COPIES, {"name": "x", "from": "day + 1"}), "type is not known"),
        (version(*COPIES, {"name": "x"}), "type is not known"),
        (version(*COPIES, {"name": "x", "type": "text", "nullable": False}), "nothing gives it a value"),
        (version(*COPIES, down={"celsius": "1"}), "copied as it is"),
        (version(*COPIES, down={"nothing": "1"}), "no column nothing"),
        (version(COPIES[0], *COPIES[2:]), "have no value for it"),
        (version(to="other.readings"), "bare name"),
        (version(to="stations"), "already a relation"),
        (version(view="stations"), "not a view of columns"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(operation)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("relation", "message"),
    [
        (readings(triggers=(Trigger("t", "CREATE TRIGGER …"),)), "triggers"),
        (readings(row_security=True), "row-level security"),
        (readings(indexes=(), constraints=()), "no key"),
        (readings(constraints=(Constraint("k", "p", "PRIMARY KEY (id) DEFERRABLE", ("id",)),)), "deferrable"),
        (readings(uses=(Use("view", "public.v", ("day",)),)), "view public.v"),
    ],
)
def test_tables_that_cannot_have_another_version_are_refused(relation: Relation, message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(version(), relation)
    assert refused.value.hint


def test_a_table_that_others_refer_to_is_refused() -> None:
    child = stations(constraints=(*stations().constraints, foreign_key("last", "number", "readings.id")))
    with pytest.raises(PlanError, match=r"foreign key last of public\.stations"):
        plan(version(), child)


def test_a_plan_survives_json() -> None:
    planned = plan(version(*COPIES[:3], KELVIN, view="current"))
    stored = Plan(steps=planned.steps, expectations=planned.expectations, retired=planned.retired)
    assert Plan.from_json(to_json(stored)) == stored


def test_its_indexes_are_there_before_readers_are() -> None:
    create = plan(version(indexes=[{"columns": ["lower(station)"], "unique": True}])).steps[0]
    assert 'CREATE UNIQUE INDEX "readings_v2_expr_idx" ON "public"."readings_v2" (lower(station))' in create.statements
