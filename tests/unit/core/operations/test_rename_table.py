from __future__ import annotations

from dataclasses import replace

import pytest

from schema_change.core.catalog.model import Catalog, Column, Index, Relation, Use
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.rename_table import RenameTable

OLD, NEW = Table("public", "readings"), Table("public", "measures")
READINGS = Relation(
    table=OLD,
    kind="r",
    owner="ann",
    columns=(Column("id", "integer", nullable=False), Column("Note", "text", comment="what")),
    indexes=(Index("readings_pkey", "CREATE UNIQUE INDEX …", ("id",), unique=True, primary=True),),
)
WARM = Relation(Table("public", "warm"), "v", "ann")
OBJECTS = {"schema weather": "", "function public.f()": "CREATE FUNCTION f() AS $$ SELECT FROM readings $$"}


def plan(to: str = "measures", relation: Relation = READINGS) -> Planned:
    catalog = Catalog(180000, {OLD: relation, WARM.table: WARM}, OBJECTS)
    return RenameTable.model_validate({"table": "readings", "to": to}).plan(catalog, PlanContext("1", live=catalog))


def test_the_view_stands_in_until_contract() -> None:
    planned = plan()
    swap, end = planned.steps
    assert (swap.phase, swap.lock, swap.tables) == (Phase.CUTOVER, LockMode.ACCESS_EXCLUSIVE, (OLD, NEW))
    assert swap.statements[:2] == (
        'ALTER TABLE "public"."readings" RENAME TO "measures"',
        'CREATE VIEW "public"."readings" AS SELECT "id", "Note" FROM "public"."measures"',
    )
    assert swap.undo == (
        'DROP VIEW IF EXISTS "public"."readings"',
        'ALTER TABLE "public"."measures" RENAME TO "readings"',
    )
    assert (end.phase, end.statements) == (Phase.CONTRACT, ('DROP VIEW IF EXISTS "public"."readings"',))
    assert any("public.f()" in notice for notice in planned.notices)


def test_row_security_applies_to_the_caller() -> None:
    (swap, _) = plan(relation=replace(READINGS, row_security=True)).steps
    assert "security_invoker='true'" in swap.statements[1]


def test_what_shows_its_name_is_in_the_scope() -> None:
    planned = plan(relation=replace(READINGS, uses=(Use("view", "public.warm", ("id",)),)))
    assert planned.touched == (NEW, WARM.table)


@pytest.mark.parametrize(
    ("to", "changed", "message"),
    [
        ("warm", READINGS, "already something named public.warm"),
        ("readings_pkey", READINGS, "already something named"),
        ("readings", READINGS, "has that name already"),
        ("sales.readings", READINGS, "no schema sales"),
        ("other", replace(READINGS, uses=(Use("publication", "feed"),)), "publication feed"),
    ],
)
def test_what_cannot_be_renamed_is_refused(to: str, changed: Relation, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(to, changed)
