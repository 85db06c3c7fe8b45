from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.create_view import CreateView
from schema_change.core.operations.drop_view import DropView
from schema_change.core.operations.replace_view import ReplaceView

TABLE, VIEW = Table("public", "readings"), Table("app", "warm")
READINGS = Relation(TABLE, "r", "owner", columns=(Column("id", "bigint"), Column("celsius", "numeric")))
WARM = Relation(
    VIEW,
    "v",
    "owner",
    columns=(Column("id", "bigint"),),
    definition=" SELECT id FROM public.readings;",
    options=("security_barrier=true",),
)
CATALOG = Catalog(180000, {TABLE: READINGS, VIEW: WARM})


def create(context: PlanContext | None = None, **keys: Any) -> Planned:
    operation = CreateView.model_validate({"view": "app.cold", "query": "SELECT id FROM readings", **keys})
    return operation.plan(CATALOG, context or PlanContext("1"))


def replaced(catalog: Catalog = CATALOG, **keys: Any) -> Planned:
    operation = ReplaceView.model_validate({"view": "app.warm", "query": "SELECT id FROM readings WHERE true", **keys})
    return operation.plan(catalog, PlanContext("1"))


def test_a_view_is_created_with_all_that_is_said_about_it() -> None:
    query = "SELECT r.id  \n FROM public.readings AS r"
    planned = create(
        query="SELECT r.id -- the key\n FROM readings AS r;",
        options={"security_invoker": True, "check_option": "local"},
        comment="it's cold",
        grants={"public": ["select"], "my role": ["insert", "update"]},
    )
    (step,) = planned.steps
    assert step.statements == (
        'CREATE VIEW "app"."cold" WITH ("check_option" = \'local\', "security_invoker" = \'true\') AS\n' + query,
        "COMMENT ON VIEW \"app\".\"cold\" IS 'it''s cold'",
        'GRANT SELECT ON "app"."cold" TO PUBLIC',
        'GRANT INSERT, UPDATE ON "app"."cold" TO "my role"',
    )
    assert (step.phase, step.lock) == (Phase.EXPAND, LockMode.NONE)
    assert step.undo == ('DROP VIEW IF EXISTS "app"."cold"',)
    assert "view app.cold" in planned.catalog.relations[TABLE].dependants
    assert planned.touched == (Table("app", "cold"),)


@pytest.mark.parametrize("query", ["SELECT * FROM readings", "SELECT max(celsius) AS m FROM readings"])
def test_a_view_of_what_this_change_fills_waits_for_it(query: str) -> None:
    filled = PlanContext("1", frozenset({(TABLE, "celsius")}))
    assert create(filled, query=query).steps[0].phase is Phase.CUTOVER
    assert create(filled).steps[0].phase is Phase.EXPAND


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"view": "app.warm"}, "already a relation"),
        ({"query": "SELECT 1 FROM nope"}, "no table or view public.nope"),
        ({"query": "DELETE FROM readings"}, "not one SELECT"),
        ({"query": "SELECT 1; SELECT 2"}, "not one SELECT"),
        ({"query": "SELECT nextval('x')"}, "side effects"),
        ({"query": "SELEC 1"}, "syntax error"),
        ({"materialized": True, "options": {"security_barrier": True}}, "none of these options"),
    ],
)
def test_what_is_no_view_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        create(**keys)
    assert refused.value.hint


def test_a_privilege_that_views_do_not_have_is_refused() -> None:
    with pytest.raises(ValidationError, match="grants"):
        create(grants={"r": ["execute"]})


def test_a_view_with_the_same_columns_is_replaced_in_place() -> None:
    (step,) = replaced().steps
    head = 'CREATE OR REPLACE VIEW "app"."warm" WITH ("security_barrier" = \'true\') AS\n'
    assert step.statements == (f"{head}SELECT id FROM public.readings WHERE true",)
    assert step.undo == (f"{head}SELECT id FROM public.readings",)
    assert (step.phase, step.lock) == (Phase.CUTOVER, LockMode.ACCESS_EXCLUSIVE)


def test_a_view_with_other_columns_is_made_anew() -> None:
    planned = replaced(query="SELECT celsius, 1 AS one FROM readings")
    (step,) = planned.steps
    assert step.statements[0] == 'DROP VIEW IF EXISTS "app"."warm"'
    assert "OWNER TO" in step.statements[2]
    assert step.undo[0] == 'DROP VIEW IF EXISTS "app"."warm"'
    assert "no column id any more" in planned.notices[0]


@pytest.mark.parametrize(
    ("view", "keys", "message"),
    [
        (WARM, {"query": "SELECT * FROM readings"}, "column 1 is not written"),
        (WARM, {"query": "SELECT id, 1 + 1 FROM readings"}, "column 2 is not written"),
        (
            replace(WARM, dependants=("view app.hot",)),
            {"query": "SELECT celsius FROM readings"},
            "used by view app.hot",
        ),
        (replace(WARM, dependants=("view app.hot",)), {"recreate": True}, "used by view app.hot"),
        (replace(WARM, kind="m"), {}, "materialized view"),
        (replace(WARM, owner=""), {}, "created by this change"),
        (WARM, {"view": "readings"}, "is a table, not a view"),
        (WARM, {"view": "nope"}, "no view public.nope"),
    ],
)
def test_what_cannot_be_replaced_is_refused(view: Relation, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        replaced(CATALOG.with_relation(view), **keys)
    assert refused.value.hint


def test_a_view_is_dropped_in_contract_and_its_name_taken_until_then() -> None:
    planned = DropView(view="app.warm").plan(CATALOG, PlanContext("1"))
    (step,) = planned.steps
    assert (step.phase, step.statements) == (Phase.CONTRACT, ('DROP VIEW IF EXISTS "app"."warm"',))
    again = CreateView(view="app.warm", query="SELECT 1 AS a")
    with pytest.raises(PlanError, match="already a relation") as refused:
        again.plan(planned.catalog, PlanContext("1", planned.filled))
    assert "replace_view" in (refused.value.hint or "")


def test_a_view_that_is_used_is_not_dropped() -> None:
    used = CATALOG.with_relation(replace(WARM, dependants=("function app.f()",)))
    with pytest.raises(PlanError, match=r"used by function app\.f"):
        DropView(view="app.warm").plan(used, PlanContext("1"))
