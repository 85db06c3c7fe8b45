from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.catalog.model import Use
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from tests.unit.core.operations.shapes import READINGS, foreign_key, plan, readings, stations


def change(**keys: Any) -> dict[str, Any]:
    return {"change_primary_key": {"table": "readings", "columns": ["station", "day"], **keys}}


def test_both_indexes_are_there_before_the_swap_and_the_old_key_stays_unique() -> None:
    planned = plan(change())
    new, spare, *_, swap, keep = planned.steps
    assert "CREATE UNIQUE INDEX CONCURRENTLY" in new.statements[0]
    assert spare.statements[0].endswith("ON public.readings USING btree (id)")
    assert swap.phase is Phase.CUTOVER
    assert 'PRIMARY KEY USING INDEX "old_pkey' in swap.undo[1]
    assert keep.phase is Phase.CONTRACT
    assert '"readings_id_key" UNIQUE USING INDEX' in keep.statements[0]
    after = planned.catalog.relations[READINGS]
    assert after.key == ("station", "day")
    assert {c.name for c in after.constraints} == {"readings_pkey", "readings_id_key"}


def test_the_old_key_is_dropped_when_asked() -> None:
    *_, last = plan(change(old="drop")).steps
    assert last.phase is Phase.CONTRACT
    assert last.statements[0].startswith("DROP INDEX CONCURRENTLY")


def test_a_key_that_others_refer_to_is_refused_by_name() -> None:
    child = stations(constraints=(*stations().constraints, foreign_key("last", "number", "readings.id")))
    with pytest.raises(PlanError, match=r"foreign key last of public\.stations") as refused:
        plan(change(), child)
    assert "drop_constraint" in (refused.value.hint or "")


def test_a_key_that_replication_needs_is_refused() -> None:
    with pytest.raises(PlanError, match="publication everything"):
        plan(change(), readings(uses=(Use("publication", "everything"),)))
    assert plan(change(), readings(uses=(Use("publication", "everything"),), replica_identity="full")).steps
    with pytest.raises(PlanError, match="replica identity"):
        plan(change(), readings(replica_identity="index readings_pkey"))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PlanError, match="already"):
        plan(change(columns=["id"]))
    with pytest.raises(PlanError, match="no primary key"):
        plan(change(), readings(constraints=(), indexes=()))
    gist = replace(readings().indexes[0], definition="CREATE INDEX readings_pkey ON public.readings USING gist (id)")
    with pytest.raises(PlanError, match="gist"):
        plan(change(), readings(indexes=(gist,)))
