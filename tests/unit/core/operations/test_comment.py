from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.comment import Comment

TABLE = Table("public", "readings")
CATALOG = Catalog(
    180000,
    {TABLE: Relation(TABLE, "r", "owner", columns=(Column("celsius", "numeric", comment="°C"),))},
    {
        "function app.f(integer,app.mood)": "CREATE FUNCTION …\nowner: o\ngrants: =X/o\ncomment: one\ntwo",
        "function app.g()": "CREATE …\nowner: a\ngrants: b\ncomment: c\nowner: o\ngrants: =X/o",
        "enum app.mood": "'sad'\nowner: o\ngrants: =U/o",
    },
)


def plan(**keys: Any) -> Planned:
    return Comment.model_validate(keys).plan(CATALOG, PlanContext("1"))


def test_the_former_comment_comes_back() -> None:
    planned = plan(table="readings", column="celsius", text="it's °C")
    (step,) = planned.steps
    assert step.statements == ('COMMENT ON COLUMN "public"."readings"."celsius" IS \'it\'\'s °C\'',)
    assert step.undo == ('COMMENT ON COLUMN "public"."readings"."celsius" IS \'°C\'',)
    assert step.phase is Phase.CUTOVER
    column = planned.catalog.relations[TABLE].column("celsius")
    assert column is not None
    assert column.comment == "it's °C"


def test_the_comment_of_a_function_is_read_from_its_picture() -> None:
    planned = plan(function="app.f(int, app.mood)", text=None)
    (step,) = planned.steps
    assert step.statements == ("COMMENT ON FUNCTION app.f(integer,app.mood) IS NULL",)
    assert step.undo == ("COMMENT ON FUNCTION app.f(integer,app.mood) IS 'one\ntwo'",)
    assert planned.whole


def test_an_object_without_a_comment_gets_none_back() -> None:
    (step,) = plan(type="app.mood", text="x").steps
    assert (step.statements, step.undo) == (
        ("COMMENT ON TYPE app.mood IS 'x'",),
        ("COMMENT ON TYPE app.mood IS NULL",),
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"table": "nope", "text": "x"}, "no table or view"),
        ({"table": "readings", "column": "nope", "text": "x"}, "no column nope"),
        ({"table": "readings", "constraint": "nope", "text": "x"}, "no constraint of public.readings"),
        ({"table": "readings", "text": None}, "has this comment already"),
        ({"index": "nope", "text": "x"}, "no index"),
        ({"function": "app.f()", "text": "x"}, "no function app.f"),
        ({"function": "app.f", "text": "x"}, "no arguments in brackets"),
        ({"function": "app.g()", "text": "x"}, "cannot be told"),
    ],
)
def test_what_is_not_there_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(**keys)
    assert refused.value.hint


@pytest.mark.parametrize(
    "keys",
    [
        {"text": "x"},
        {"table": "a", "index": "b", "text": "x"},
        {"column": "c", "text": "x"},
        {"table": "a", "column": "c", "trigger": "t", "text": "x"},
        {"table": "a", "text": ""},
        {"table": "a"},
    ],
)
def test_one_object_and_one_text(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        plan(**keys)
