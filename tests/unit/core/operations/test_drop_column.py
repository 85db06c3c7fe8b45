from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation, Trigger, Use
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.drop_column import DropColumn

TABLE = Table("public", "t")
KEY = Index("t_pkey", "CREATE UNIQUE INDEX t_pkey ON public.t (id)", ("id",), unique=True, primary=True)
T = Relation(
    table=TABLE,
    kind="r",
    owner="ann",
    columns=(Column("id", "integer", nullable=False), Column("c", "text"), Column("d", "text")),
    constraints=(Constraint("t_pkey", "p", "PRIMARY KEY (id)", ("id",)),),
    indexes=(KEY,),
)


def plan(relation: Relation = T, objects: dict[str, str] | None = None, **keys: Any) -> Planned:
    catalog = Catalog(180000, {TABLE: relation}, objects or {})
    return DropColumn.model_validate({"table": "t", "column": "c", **keys}).plan(catalog, PlanContext("7"))


def with_column(column: Column, *constraints: Constraint, uses: tuple[Use, ...] = ()) -> Relation:
    return replace(T.with_column(column), constraints=(*T.constraints, *constraints), uses=uses)


def phases(planned: Planned) -> list[tuple[Phase, str]]:
    return [(s.phase, s.title.split(" ", 1)[0]) for s in planned.steps]


def test_it_is_hidden_kept_and_dropped() -> None:
    planned = plan()
    assert phases(planned) == [
        (Phase.CUTOVER, "hide"),
        (Phase.CONTRACT, "create"),
        (Phase.CONTRACT, "keep"),
        (Phase.CONTRACT, "drop"),
    ]
    keep = planned.steps[2].backfill
    assert keep is not None
    assert keep.key == ("id",)
    assert planned.one_way == ()
    (kept,) = planned.retired
    assert (kept.kind, kept.column, kept.key) == ("column", "c", ("id",))
    assert planned.catalog.relations[TABLE].column("c") is None


@pytest.mark.parametrize(
    ("column", "down", "steps", "one_way"),
    [
        (Column("c", "text", nullable=False), None, ["allow", "hide"], True),
        (Column("c", "text", nullable=False), "d || '!'", ["hide"], False),
        (Column("c", "text", nullable=False, default="'x'::text"), None, ["hide"], False),
        (Column("c", "integer", nullable=False, identity="a"), None, ["hide"], False),
    ],
)
def test_not_null_gives_way_only_where_rows_have_no_value(
    column: Column, down: str | None, steps: list[str], one_way: bool
) -> None:
    planned = plan(with_column(column), down=down)
    assert [word for phase, word in phases(planned) if phase is Phase.CUTOVER] == steps
    assert bool(planned.one_way) is one_way


@pytest.mark.parametrize(
    ("definition", "columns", "goes"),
    [
        ("CHECK (c <> ''::text)", ("c",), False),
        ("CHECK ((c IS NOT NULL))", ("c",), True),
        ("CHECK ((c < d))", ("c", "d"), False),
    ],
)
def test_checks_give_way_where_null_breaks_them(definition: str, columns: tuple[str, ...], goes: bool) -> None:
    check = Constraint("chk", "c", definition, columns)
    relation = with_column(Column("c", "text"), check, uses=(Use("constraint", "chk", columns),))
    planned = plan(relation, also_drops=["chk"] if len(columns) > 1 else [])
    assert ("drop" in [word for phase, word in phases(planned) if phase is Phase.CUTOVER]) is goes


def test_a_foreign_key_and_indexes_go_before_the_column() -> None:
    parent = Table("public", "parent")
    key = Constraint("to_parent", "f", "FOREIGN KEY (c) REFERENCES public.parent(x)", ("c",), references=parent)
    relation = replace(
        with_column(
            Column("c", "text"), key, uses=(Use("constraint", "to_parent", ("c",)), Use("index", "by_c", ("c",)))
        ),
        indexes=(KEY, Index("by_c", "CREATE INDEX by_c ON public.t (c)", ("c",))),
    )
    planned = plan(relation)
    drops = [s for s in planned.steps if s.title.startswith("drop")]
    assert [s.title for s in drops] == [
        "drop foreign key to_parent of public.t",
        "drop index public.by_c of public.t",
        "drop column public.t.c",
    ]
    assert drops[0].tables == (TABLE, parent)
    assert not drops[1].transactional
    assert parent in planned.touched


@pytest.mark.parametrize(
    ("relation", "objects", "message"),
    [
        (replace(T, uses=(Use("view", "public.v", ("c",)),)), {}, r"view public\.v"),
        (replace(T, uses=(Use("trigger", "tr", ("c",)),)), {}, "trigger tr"),
        (replace(T, uses=(Use("index", "both", ("c", "d")),)), {}, r"index both"),
        (replace(T, partition_of=Table("public", "p")), {}, r"is a partition of public\.p"),
        (
            replace(T, triggers=(Trigger("tr", "CREATE TRIGGER tr BEFORE INSERT ON t EXECUTE FUNCTION public.f()"),)),
            {"function public.f()": "BEGIN new.c := 1; END"},
            r"function public\.f\(\) of trigger tr",
        ),
    ],
)
def test_what_is_in_the_way_is_named(relation: Relation, objects: dict[str, str], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(relation, objects)


def test_the_primary_key_and_its_own_value_are_refused() -> None:
    with pytest.raises(PlanError, match="primary key t_pkey"):
        plan(column="id")
    with pytest.raises(PlanError, match="reads the column itself"):
        plan(down="c || 'x'")
