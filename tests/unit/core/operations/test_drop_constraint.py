from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.catalog.model import Constraint, Relation, Use
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase
from schema_change.core.names import Table
from tests.unit.core.operations.shapes import READINGS, STATIONS, foreign_key, plan, readings, stations

CHECK = Constraint("cold", "c", "CHECK ((celsius < (100)::numeric))", columns=("celsius",), comment="it's cold")


def drop(name: str, table: str = "readings") -> dict[str, Any]:
    return {"drop_constraint": {"table": table, "name": name}}


def with_constraints(*more: Constraint, **changes: Any) -> Relation:
    return readings(constraints=(*readings().constraints, *more), **changes)


def test_a_check_is_put_back_not_valid_and_then_checked() -> None:
    (step,) = plan(drop("cold"), with_constraints(CHECK)).steps
    assert step.phase is Phase.CUTOVER
    assert step.undo == (
        (
            'ALTER TABLE "public"."readings" DROP CONSTRAINT IF EXISTS "cold", ADD CONSTRAINT "cold"'
            " CHECK ((celsius < (100)::numeric)) NOT VALID"
        ),
        'ALTER TABLE "public"."readings" VALIDATE CONSTRAINT "cold"',
        'COMMENT ON CONSTRAINT "cold" ON "public"."readings" IS \'it\'\'s cold\'',
    )
    assert not step.undo_transactional


def test_what_was_not_valid_comes_back_not_valid() -> None:
    loose = Constraint("cold", "c", "CHECK (true) NOT VALID", validated=False)
    planned = plan(drop("cold"), with_constraints(loose))
    assert not any("VALIDATE" in s for s in planned.steps[0].undo)
    assert planned.notices == ()


def test_a_foreign_key_locks_both_tables() -> None:
    planned = plan(drop("of_station"), with_constraints(foreign_key("of_station", "station", "stations.name")))
    (step,) = planned.steps
    assert step.tables == (READINGS, STATIONS)
    assert step.lock is LockMode.ACCESS_EXCLUSIVE
    assert planned.touched == (STATIONS,)


def test_a_key_goes_in_contract_because_duplicates_could_not_be_taken_back() -> None:
    planned = plan(drop("readings_pkey"))
    assert [s.phase for s in planned.steps] == [Phase.CONTRACT]
    assert "GROUP BY" in planned.data_checks[0].remedy


def test_a_foreign_key_of_a_partitioned_table_goes_in_contract() -> None:
    relation = with_constraints(foreign_key("of_station", "station", "stations.name"), kind="p")
    assert [s.phase for s in plan(drop("of_station"), relation).steps] == [Phase.CONTRACT]


def test_what_others_stand_on_is_refused_by_name() -> None:
    child = with_constraints(foreign_key("of_station", "station", "stations.name"))
    with pytest.raises(PlanError, match=r"foreign key of_station of public\.readings"):
        plan(drop("stations_pkey", "stations"), child)
    with pytest.raises(PlanError, match="publication p"):
        plan(drop("stations_pkey", "stations"), stations(uses=(Use("publication", "p"),)))


def test_what_is_not_there_or_comes_from_a_parent_is_refused() -> None:
    with pytest.raises(PlanError, match="no constraint nope") as refused:
        plan(drop("nope"))
    assert "readings_pkey" in (refused.value.hint or "")
    part = with_constraints(CHECK, table=Table("public", "part"), partition_of=READINGS)
    with pytest.raises(PlanError, match=r"comes from cold of public\.readings"):
        plan(drop("cold", "part"), part, with_constraints(CHECK, kind="p"))
