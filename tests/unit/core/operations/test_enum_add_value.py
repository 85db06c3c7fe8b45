from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.enum_add_value import EnumAddValue

CATALOG = Catalog(180000, {}, {"enum app.mood": "'it''s sad', 'ok'\nowner: o\ngrants: =U/o"})


def plan(catalog: Catalog = CATALOG, **keys: Any) -> Planned:
    return EnumAddValue.model_validate({"type": "app.mood", **keys}).plan(catalog, PlanContext("1"))


def test_a_value_is_added_in_contract_because_nothing_takes_it_away() -> None:
    planned = plan(value="so so", after="it's sad")
    (step,) = planned.steps
    assert step.statements == ("ALTER TYPE \"app\".\"mood\" ADD VALUE IF NOT EXISTS 'so so' AFTER 'it''s sad'",)
    assert (step.phase, step.undo, step.tables) == (Phase.CONTRACT, (), ())
    assert planned.whole
    assert planned.catalog.objects["enum app.mood"].startswith("'it''s sad', 'so so', 'ok'\nowner: o")


def test_the_next_value_may_name_it() -> None:
    (step,) = plan(plan(value="so so").catalog, value="better", before="so so").steps
    assert step.statements[0].endswith("'better' BEFORE 'so so'")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"value": "ok"}, "already"),
        ({"value": "x", "before": "nope"}, "no value 'nope'"),
        ({"type": "app.nope", "value": "x"}, "no enum app.nope"),
    ],
)
def test_what_does_not_fit_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(**keys)
    assert refused.value.hint


def test_it_has_one_place() -> None:
    with pytest.raises(ValidationError, match="not both"):
        plan(value="x", before="ok", after="ok")
