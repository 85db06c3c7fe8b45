from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation, Use
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.change_type import ChangeType

TABLE = Table("public", "readings")
KEY = Index(
    "readings_pkey", "CREATE UNIQUE INDEX readings_pkey ON public.readings USING btree (id)", ("id",), True, True
)
COLUMNS = (
    Column("id", "integer", nullable=False),
    Column("code", "character varying(10)"),
    Column("celsius", "numeric(5,2)"),
    Column("twice", "numeric", generated="s", default="(celsius * 2)"),
)
RELATION = Relation(table=TABLE, kind="r", owner="postgres", columns=COLUMNS, indexes=(KEY,), bytes=8192)
BIG = replace(RELATION, rows=10**8, bytes=10 << 30)


def plan(relation: Relation = RELATION, objects: dict[str, str] | None = None, **operation: object) -> Planned:
    catalog = Catalog(180000, {TABLE: relation}, objects or {})
    context = PlanContext("1", frozenset({(TABLE, "fresh")}))
    return ChangeType.model_validate({"table": "readings", **operation}).plan(catalog, context)


def phases(planned: Planned) -> list[Phase]:
    return [step.phase for step in planned.steps]


@pytest.mark.parametrize(
    ("relation", "column", "new", "expected"),
    [
        (RELATION, "id", "bigint", [Phase.EXPAND]),
        (RELATION, "code", "text", [Phase.EXPAND]),
        (BIG, "code", "varchar(20)", [Phase.CONTRACT]),
        (BIG, "celsius", "numeric(9,2)", [Phase.CONTRACT]),
    ],
)
def test_what_is_brief_is_changed_in_place(relation: Relation, column: str, new: str, expected: list[Phase]) -> None:
    """A large table last: narrowing it again, as a rollback would, copies it."""
    planned = plan(relation, column=column, type=new)
    assert phases(planned) == expected
    assert not planned.one_way
    assert bool(planned.steps[0].undo) == (expected == [Phase.EXPAND])


@pytest.mark.parametrize(
    ("relation", "column", "new"),
    [
        (BIG, "id", "bigint"),
        (BIG, "code", "varchar(5)"),
        (BIG, "celsius", "numeric(9,3)"),
        (RELATION, "celsius", "numeric(4,1)"),
        (RELATION, "code", "integer"),
    ],
)
def test_what_takes_long_or_loses_something_goes_through_a_second_column(
    relation: Relation, column: str, new: str
) -> None:
    planned = plan(relation, column=column, type=new)
    assert {Phase.EXPAND, Phase.BACKFILL, Phase.CUTOVER, Phase.CONTRACT} == set(phases(planned))


def test_a_check_makes_a_widening_look_at_every_row() -> None:
    check = Constraint("short", "c", "CHECK ((length((code)::text) < 9))", ("code",))
    planned = plan(replace(BIG, constraints=(check,)), column="code", type="text")
    assert Phase.BACKFILL in phases(planned)


def test_without_an_inverse_it_is_one_way() -> None:
    assert plan(column="code", type="integer").one_way
    assert not plan(column="code", type="integer", down="readings.code::text").one_way


def test_an_index_is_built_again_for_the_new_column() -> None:
    key = Constraint("readings_pkey", "p", "PRIMARY KEY (id)", ("id",))
    planned = plan(replace(BIG, constraints=(key,)), column="id", type="bigint")
    built = [s.statements[0] for s in planned.steps if s.title.startswith("create index")]
    assert len(built) == 2
    assert all("CONCURRENTLY" in statement for statement in built)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"column": "nope", "type": "text"}, "no column nope"),
        ({"column": "id", "type": "integer"}, "is of type integer already"),
        ({"column": "twice", "type": "integer"}, "generated column"),
        ({"column": "id", "type": "bigint", "using": "readings.twice::bigint"}, "generated column twice"),
        ({"column": "code", "type": "integer", "strategy": "direct"}, "cannot be changed in place"),
        ({"column": "code", "type": "1 integer"}, "type"),
        ({"column": "code", "type": "integer", "using": "1, 2"}, "using"),
        ({"column": "code", "type": "integer", "using": "(random() * 9)::integer"}, "another value each time"),
        ({"column": "code", "type": "date", "using": "CURRENT_DATE"}, "another value each time"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(**operation)
    assert refused.value.hint


@pytest.mark.parametrize(
    "use",
    [
        Use("function", "public.f()", ("id",)),
        Use("generated column", "public.readings.twice", ("id",)),
        Use("publication", "news", ("id",)),
        Use("rule", "r on public.readings", ("id",)),
    ],
)
def test_what_cannot_be_made_anew_is_listed(use: Use) -> None:
    with pytest.raises(PlanError, match=use.name.split(" ")[0].replace("(", r"\(").replace(")", r"\)")):
        plan(replace(RELATION, uses=(use,)), column="id", type="bigint", strategy="expand")


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Constraint("apart", "x", "EXCLUDE …", ("id",)), "exclusion"),
        (Constraint("readings_pkey", "p", "PRIMARY KEY (id) DEFERRABLE", ("id",)), "deferrable"),
    ],
)
def test_a_constraint_that_cannot_be_copied_is_listed(constraint: Constraint, message: str) -> None:
    index = replace(KEY, name=constraint.name)
    relation = replace(RELATION, constraints=(constraint,), indexes=(index,))
    with pytest.raises(PlanError, match=message):
        plan(relation, column="id", type="bigint", strategy="expand")


def test_a_domain_with_a_constraint_is_refused() -> None:
    domain = {"domain public.positive": "integer CHECK ((VALUE > 0))\nowner: postgres"}
    with pytest.raises(PlanError, match="domain"):
        plan(objects=domain, column="id", type="positive", using="id", strategy="expand")
