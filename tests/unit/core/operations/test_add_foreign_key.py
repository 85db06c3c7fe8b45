from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from schema_change.core.catalog.model import Column, Constraint, Index
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase
from schema_change.core.names import Table
from tests.unit.core.operations.shapes import READINGS, STATIONS, foreign_key, plan, readings, stations


def add(**keys: Any) -> dict[str, Any]:
    return {
        "add_foreign_key": {"table": "readings", "columns": ["station"], "references": {"table": "stations"}, **keys}
    }


def test_it_is_demanded_of_new_rows_first_with_both_tables_locked_against_writes_only() -> None:
    planned = plan(add(on_delete="cascade", deferrable="initially_deferred"))
    forbid, validate = planned.steps
    assert forbid.statements == (
        (
            'ALTER TABLE "public"."readings" ADD CONSTRAINT "readings_station_fkey" FOREIGN KEY ("station")'
            ' REFERENCES "public"."stations" ("name") ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID'
        ),
    )
    assert (forbid.lock, forbid.tables) == (LockMode.SHARE_ROW_EXCLUSIVE, (READINGS, STATIONS))
    assert validate.lock is LockMode.SHARE_UPDATE_EXCLUSIVE
    assert "create_index" in planned.notices[0]
    assert planned.touched == (STATIONS,)


def test_an_index_that_begins_with_the_columns_needs_no_notice() -> None:
    index = Index("by_station", "CREATE INDEX …", ("station", "day"))
    assert plan(add(), readings(indexes=(index,))).notices == ()


@pytest.mark.parametrize("how", ["delete", "set_null", {"placeholder": {"title": "'?'"}}])
def test_orphans_are_treated_before_cutover_and_once_more_behind_the_constraint(how: Any) -> None:
    nullable = readings().with_column(Column("station", "text"))
    create, clean, forbid, again, validate, *forget = plan(add(orphans=how), nullable).steps
    assert [s.phase for s in (create, clean, forbid, again, validate)] == [
        Phase.EXPAND,
        Phase.BACKFILL,
        Phase.CUTOVER,
        Phase.CUTOVER,
        Phase.CUTOVER,
    ]
    assert clean.backfill is not None
    assert again.backfill is not None
    assert clean.backfill.batch is not None
    assert again.backfill.batch is not None
    assert clean.backfill.batch.drain
    assert not again.backfill.batch.drain, "the constraint still stands when that step is undone"
    assert [s.phase for s in forget] == ([Phase.CONTRACT] if isinstance(how, dict) else [])


def test_a_changed_action_takes_the_rest_from_the_key_it_replaces() -> None:
    old = foreign_key("of_station", "station", "stations.name", " MATCH FULL ON UPDATE CASCADE DEFERRABLE")
    relation = readings(constraints=(*readings().constraints, replace(old, comment="where")))
    operation = {"add_foreign_key": {"table": "readings", "replace": "of_station", "on_delete": "set_default"}}
    planned = plan(operation, relation)
    forbid, _, swap = planned.steps
    assert forbid.statements[0].endswith(
        '("name") MATCH FULL ON UPDATE CASCADE ON DELETE SET DEFAULT DEFERRABLE NOT VALID'
    )
    assert [s.split('"readings" ')[-1].split(" ")[0] for s in swap.statements] == ["DROP", "RENAME", "IS"]
    assert "VALIDATE" in swap.undo[1]
    assert [c.name for c in planned.catalog.relations[READINGS].constraints if c.type == "f"] == ["of_station"]


def test_a_key_that_sets_some_columns_only_is_not_replaced_by_one_that_sets_all() -> None:
    old = foreign_key("of_station", "station", "stations.name", " ON DELETE SET NULL (station)")
    operation = {"add_foreign_key": {"table": "readings", "replace": "of_station", "on_update": "cascade"}}
    with pytest.raises(PlanError, match="of a kind"):
        plan(operation, readings(constraints=(*readings().constraints, old)))


def test_each_partition_is_checked_by_itself_where_not_valid_is_not_known() -> None:
    parts = [readings(table=Table("public", f"part_{n}"), partition_of=READINGS) for n in (1, 2)]
    whole = readings(kind="p")
    assert len(plan(add(), whole, *parts, version=180000).steps) == 2
    steps = plan(add(), whole, *parts, version=150000).steps
    assert [s.tables[0].name for s in steps] == ["part_1", "part_1", "part_2", "part_2", "readings"]
    assert "NOT VALID" not in steps[-1].statements[0]


PARENT = {"table": "stations", "columns": ["number"]}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": ["nope"]}, "no column nope"),
        ({"references": {"table": "nowhere"}}, "does not exist"),
        ({"references": {"table": "stations", "columns": ["title"]}}, "unique"),
        ({"references": {"table": "stations", "columns": ["name", "title"]}}, "cannot refer to"),
        ({"columns": ["day"]}, "is date but"),
        ({"on_delete": "set_null"}, "is NOT NULL"),
        ({"orphans": "set_null"}, "cannot be NULL"),
        ({"orphans": {"placeholder": {}}}, "needs a value for title"),
        ({"orphans": {"placeholder": {"title": "'x'", "short": "'x'"}}}, "short"),
        ({"orphans": {"placeholder": {"title": "'x'; DROP TABLE stations"}}}, "placeholder.title"),
        ({"replace": "readings_pkey"}, "no foreign key"),
        ({"replace": "nope"}, "no constraint nope"),
        ({"name": "readings_pkey"}, "already has"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(add(**keys))
    assert refused.value.hint


def test_a_key_needs_columns_and_a_table_unless_it_replaces_one() -> None:
    with pytest.raises(ValidationError, match="columns and references are needed"):
        plan({"add_foreign_key": {"table": "readings"}})


def test_deleting_is_refused_where_it_would_reach_other_rows() -> None:
    child = foreign_key("of_reading", "number", "readings.id", " ON DELETE CASCADE")
    with pytest.raises(PlanError, match=r"of_reading of public\.stations ON DELETE CASCADE"):
        plan(add(orphans="delete"), stations(constraints=(*stations().constraints, child)))
    with pytest.raises(PlanError, match="rules"):
        plan(add(orphans="delete"), readings(rules=("CREATE RULE …",)))
    with pytest.raises(PlanError, match="fills or converts"):
        plan(add(orphans="delete"), filled=frozenset({(READINGS, "day")}))
    tree = {
        "add_foreign_key": {
            "table": "stations",
            "columns": ["title"],
            "references": {"table": "stations"},
            "orphans": "delete",
        }
    }
    with pytest.raises(PlanError, match="refers to itself"):
        plan(tree)


def test_rows_that_others_refer_to_are_counted_before_they_are_deleted() -> None:
    child = foreign_key("of_reading", "number", "readings.id")
    planned = plan(add(orphans="delete"), stations(constraints=(*stations().constraints, child)))
    assert [c.name for c in planned.data_checks] == [
        "rows of public.readings to be deleted that foreign key of_reading of public.stations refers to"
    ]


def test_values_set_to_null_need_a_key_to_be_given_back_by() -> None:
    bare = readings(constraints=(), indexes=()).with_column(Column("station", "text"))
    with pytest.raises(PlanError, match="no key"):
        plan(add(orphans="set_null"), bare)


def test_a_deferrable_key_cannot_be_referred_to() -> None:
    key = Constraint("stations_pkey", "p", "PRIMARY KEY (name) DEFERRABLE", columns=("name",))
    with pytest.raises(PlanError, match="deferrable"):
        plan(add(), stations(constraints=(key,)))
