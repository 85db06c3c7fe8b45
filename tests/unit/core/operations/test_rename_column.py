from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation, Trigger, Use
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.rename_column import RenameColumn

TABLE = Table("public", "people")
INDEX = Index("by_name", "CREATE INDEX by_name ON public.people USING btree (lower(name), id)", ("id",))
RELATION = Relation(
    table=TABLE,
    kind="r",
    owner="postgres",
    columns=(Column("id", "integer"), Column("name", "text"), Column("upper", "text", generated="s")),
    indexes=(INDEX,),
    constraints=(Constraint("some", "c", "CHECK ((name <> ''::text))", ("name",)),),
)


def plan(relation: Relation = RELATION, **operation: object) -> Planned:
    return RenameColumn.model_validate({"table": "people", "column": "name", "to": "full_name", **operation}).plan(
        Catalog(180000, {TABLE: relation}), PlanContext("1")
    )


def test_both_names_are_there_from_expand_to_contract() -> None:
    planned = plan()
    phases = [s.phase for s in planned.steps]
    assert phases == [Phase.EXPAND, Phase.BACKFILL, Phase.CUTOVER, Phase.CUTOVER, Phase.CONTRACT]
    assert 'ADD COLUMN "full_name"' in planned.steps[0].statements[0]
    assert 'DROP COLUMN IF EXISTS "name"' in planned.steps[-1].statements[-1]


def test_the_operations_behind_it_find_the_new_name() -> None:
    relation = plan().catalog.relations[TABLE]
    assert [c.name for c in relation.columns] == ["id", "full_name", "upper"]
    assert "full_name" in relation.indexes[0].definition
    assert "full_name" in relation.constraints[0].definition


def test_a_trigger_on_the_column_fires_for_both_names() -> None:
    definition = "CREATE TRIGGER t BEFORE UPDATE OF name ON public.people FOR EACH ROW EXECUTE FUNCTION public.f()"
    planned = plan(replace(RELATION, triggers=(Trigger("t", definition),)))
    assert any("UPDATE OF name, full_name" in s for s in planned.steps[0].statements)
    assert any("UPDATE OF full_name" in s for s in planned.steps[-1].statements)
    assert any("schema_change.bypass" in s and "UPDATE OF" in s for s in planned.steps[0].statements)
    assert definition in planned.steps[0].undo


def test_views_that_name_the_column_are_in_the_scope() -> None:
    view = Relation(table=Table("public", "v"), kind="v", owner="postgres")
    relation = replace(RELATION, uses=(Use("view", "public.v", ("name",)),))
    catalog = Catalog(180000, {TABLE: relation, view.table: view})
    operation = RenameColumn.model_validate({"table": "people", "column": "name", "to": "full_name"})
    assert operation.plan(catalog, PlanContext("1")).touched == (view.table,)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"column": "nope"}, "no column nope"),
        ({"to": "id"}, "already has a column id"),
        ({"column": "upper"}, "generated column"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(**operation)
    assert refused.value.hint
