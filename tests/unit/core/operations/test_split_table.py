from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.catalog.model import Column, Relation, Trigger, Use
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, NewRows, Phase, Plan, to_json
from schema_change.core.names import Table
from tests.unit.core.operations.shapes import READINGS, plan, readings

PLACES = Table("public", "places")


def wide(**changes: Any) -> Relation:
    """Return the readings with what they repeat of their station."""
    more = (
        Column("station_name", "character varying(255)", nullable=False, comment="as on the map"),
        Column("state", "text", collation='pg_catalog."C"'),
        Column("short", "text", default="left(state, 3)", generated="s"),
    )
    table = readings()
    return replace(table, columns=(*table.columns, *more), **changes)


def split(**changes: Any) -> dict[str, Any]:
    columns = [{"name": "name", "from": "station_name"}, {"name": "state", "from": "state"}]
    into = {"table": "places", "key": ["station"], "columns": columns, **changes.pop("into", {})}
    return {"split_table": {"table": "readings", "into": into, **changes}}


def test_the_steps_in_their_phases_and_locks() -> None:
    planned = plan(split(), wide())
    assert [(s.phase, s.lock) for s in planned.steps] == [
        (Phase.EXPAND, LockMode.SHARE_UPDATE_EXCLUSIVE),
        (Phase.EXPAND, LockMode.NONE),
        (Phase.EXPAND, LockMode.SHARE_ROW_EXCLUSIVE),
        (Phase.BACKFILL, LockMode.ROW_EXCLUSIVE),
        (Phase.CUTOVER, LockMode.SHARE_ROW_EXCLUSIVE),
        (Phase.CUTOVER, LockMode.SHARE_UPDATE_EXCLUSIVE),
        (Phase.CONTRACT, LockMode.ACCESS_EXCLUSIVE),
    ]
    index, create, _, copy, *_, contract = planned.steps
    assert 'CREATE INDEX CONCURRENTLY "readings_station_idx"' in index.statements[0]
    assert 'COLLATE pg_catalog."C"' in create.statements[0]
    assert any("as on the map" in s for s in create.statements)
    assert copy.backfill is not None
    assert (copy.backfill.key, copy.backfill.new_rows) == (("id",), NewRows.TRIGGER)
    assert contract.statements[-1].endswith('DROP COLUMN IF EXISTS "station_name", DROP COLUMN IF EXISTS "state"')
    assert planned.data_migration


def test_the_catalog_afterwards_has_the_new_table_and_not_the_dropped_columns() -> None:
    catalog = plan(split(), wide()).catalog
    left, new = catalog.relations[READINGS], catalog.relations[PLACES]
    assert left.column("station_name") is None
    assert [c.references for c in left.constraints] == [None, PLACES]
    assert (new.key, [c.name for c in new.columns]) == (("station",), ["station", "name", "state"])


def test_an_index_that_begins_with_the_key_is_enough() -> None:
    by_station = replace(readings().indexes[0], name="s", primary=False, unique=False, columns=("station", "day"))
    planned = plan(split(), wide(indexes=(*readings().indexes, by_station)))
    assert planned.steps[0].title == "create table public.places"


def test_derived_columns_have_triggers_per_statement() -> None:
    columns = [{"name": "name", "from": "station_name"}, {"name": "since", "from": "min(day)", "type": "date"}]
    planned = plan(split(into={"columns": columns}), wide())
    triggers = [s for s in planned.steps[2].statements if s.startswith("CREATE TRIGGER")]
    assert sum("FOR EACH STATEMENT" in t for t in triggers) == 4
    assert any("wait for each other" in n for n in planned.notices)


def test_the_values_that_lose_are_kept() -> None:
    planned = plan(split(conflicts={"latest": "day"}), wide())
    assert [r.column for r in planned.retired] == ["station_name", "state"]
    assert planned.data_migration
    assert not any("contradict" in c.name for c in planned.data_checks)


def test_columns_may_stay() -> None:
    planned = plan(split(drop_columns=[]), wide())
    assert planned.catalog.relations[READINGS].column("state") is not None
    assert not any("DROP COLUMN" in s for s in planned.steps[-1].statements)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (split(into={"table": "stations"}), "already a relation"),
        (split(into={"table": "nowhere.places"}), "no schema nowhere"),
        (split(into={"key": ["place"]}), "no column place"),
        (split(into={"key": ["short"]}), "generated"),
        (split(into={"columns": [{"name": "x", "from": "short"}]}), "generated"),
        (split(into={"columns": [{"name": "x", "from": "state", "type": "integer"}]}), "is text, not integer"),
        (split(into={"columns": [{"name": "x", "from": "state", "nullable": False}]}), "may be NULL"),
        (split(into={"columns": [{"name": "x", "from": "min(day)"}]}), "type is not known"),
        (split(into={"columns": [{"name": "x", "from": "day + 1", "type": "date"}]}), "aggregate"),
        (split(into={"columns": [{"name": "x", "from": "(SELECT 1)", "type": "date"}]}), "subquery"),
        (split(into={"columns": [{"name": "x", "type": "text"}]}), "no column is taken"),
        (split(into={"columns": [{"name": "station", "from": "state"}]}), "twice"),
        (split(into={"indexes": [{"columns": ["day"]}]}), "no column day"),
        (split(drop_columns=["day"]), "would be lost"),
        (split(conflicts={"latest": "count(*)"}), "many rows"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(operation, wide())
    assert refused.value.hint


@pytest.mark.parametrize(
    ("relation", "message"),
    [
        (wide(uses=(Use("view", "public.v", ("state",)),)), "view public.v"),
        (wide(uses=(Use("constraint", "known", ("state",)),)), "constraint known"),
        (wide(uses=(Use("publication", "p", ("state",)),)), "publication p"),
        (wide(row_security=True), "row-level security"),
        (wide(inherits=(Table("public", "base"),)), "inherit"),
    ],
)
def test_what_is_in_the_way_is_listed(relation: Relation, message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(split(), relation)
    assert refused.value.hint


def test_what_uses_other_columns_is_not_in_the_way() -> None:
    uses = (Use("view", "public.v", ("celsius",)), Use("publication", "p"), Use("index", "i", ("state",)))
    planned = plan(split(), wide(uses=uses, triggers=(Trigger("t", "CREATE TRIGGER …"),)))
    assert any("drops the indexes i" in n for n in planned.notices)


def test_columns_that_this_change_fills_are_refused() -> None:
    with pytest.raises(PlanError, match="gets its values in this change"):
        plan(split(), wide(), filled=frozenset({(READINGS, "state")}))


def test_a_plan_survives_json() -> None:
    planned = plan(split(conflicts="first"), wide())
    stored = Plan(steps=planned.steps, expectations=planned.expectations, retired=planned.retired)
    assert Plan.from_json(to_json(stored)) == stored
