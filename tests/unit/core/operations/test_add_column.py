from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Plan, to_json
from schema_change.core.names import Table
from schema_change.core.operations.add_column import AddColumn
from schema_change.core.operations.base import PlanContext, Planned

TABLE = Table("public", "readings")


def catalog(version: int = 180000, rows: int = 10, **overrides: object) -> Catalog:
    relation = Relation(
        table=TABLE,
        kind="r",
        owner="postgres",
        columns=(Column("id", "integer", nullable=False), Column("day", "date")),
        constraints=(Constraint("readings_pkey", "p", "PRIMARY KEY (id)", ("id",)),),
        indexes=(Index("readings_pkey", "CREATE UNIQUE INDEX … (id)", ("id",), unique=True, primary=True),),
        rows=rows,
        **overrides,  # type: ignore[arg-type]
    )
    return Catalog(version, {TABLE: relation})


def plan(version: int = 180000, rows: int = 10, **operation: object) -> Planned:
    parsed = AddColumn.model_validate({"table": "readings", **operation})
    return parsed.plan(catalog(version, rows), PlanContext("1"))


def test_a_nullable_column_is_one_undoable_step() -> None:
    planned = plan(column={"name": "note", "type": "text", "comment": "what was seen"})
    (step,) = planned.steps
    assert step.statements == (
        'ALTER TABLE "public"."readings" ADD COLUMN "note" text',
        'COMMENT ON COLUMN "public"."readings"."note" IS \'what was seen\'',
    )
    assert step.undo == ('ALTER TABLE "public"."readings" DROP COLUMN IF EXISTS "note"',)
    assert (step.phase, step.lock) == (Phase.EXPAND, LockMode.ACCESS_EXCLUSIVE)
    assert planned.catalog.relations[TABLE].column("note") is not None


def test_a_constant_default_is_set_in_place_and_needs_no_backfill() -> None:
    planned = plan(column={"name": "kind", "type": "text", "default": "'a'", "nullable": False})
    (step,) = planned.steps
    assert step.statements == ('ALTER TABLE "public"."readings" ADD COLUMN "kind" text DEFAULT \'a\' NOT NULL',)


def test_a_volatile_default_is_set_for_new_rows_and_filled_in_batches_for_the_others() -> None:
    planned = plan(column={"name": "token", "type": "uuid", "default": "gen_random_uuid()"})
    add, fill, contract = planned.steps
    assert "DEFAULT" not in add.statements[0]
    assert add.statements[1].endswith("SET DEFAULT gen_random_uuid()")
    assert fill.backfill is not None
    assert fill.backfill.key == ("id",)
    assert contract.phase is Phase.CONTRACT


def test_a_filled_not_null_column_becomes_not_null_after_the_backfill_on_every_version() -> None:
    for version in (150000, 180000):
        planned = plan(version, column={"name": "day2", "type": "date", "nullable": False}, fill="day")
        phases = [s.phase for s in planned.steps]
        assert phases.index(Phase.BACKFILL) < phases.index(Phase.CUTOVER)
        cutover = " ".join(t for s in planned.steps if s.phase is Phase.CUTOVER for t in s.statements)
        assert "NOT VALID" in cutover
        assert "VALIDATE CONSTRAINT" in cutover


def test_the_application_fills_without_a_trigger_of_ours() -> None:
    planned = plan(column={"name": "day2", "type": "date"}, fill="day", new_rows="application")
    assert not any("TRIGGER" in t for s in planned.steps for t in s.statements)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"column": {"name": "id", "type": "text"}}, "already has a column id"),
        ({"column": {"name": "x", "type": "no such type at all"}}, "type"),
        ({"column": {"name": "x", "type": "int"}, "fill": "1; DROP TABLE readings"}, "fill"),
        ({"column": {"name": "x", "type": "int"}, "fill": "pg_terminate_backend(1)"}, "fill"),
        ({"column": {"name": "x", "type": "int", "nullable": False}}, "NOT NULL"),
        ({"column": {"name": "x", "type": "int"}, "table": "nowhere"}, "does not exist"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(**operation)
    assert refused.value.hint


def test_a_name_that_postgresql_would_cut_is_refused_when_the_file_is_read() -> None:
    with pytest.raises(ValidationError, match="64 bytes"):
        plan(column={"name": "ä" * 32, "type": "int"})


@pytest.mark.parametrize(("kind", "persistence"), [("v", "p"), ("f", "p"), ("r", "u")])
def test_what_is_not_an_ordinary_table_is_refused(kind: str, persistence: str) -> None:
    relation = Relation(table=TABLE, kind=kind, owner="postgres", persistence=persistence)
    operation = AddColumn.model_validate({"table": "readings", "column": {"name": "x", "type": "int"}})
    with pytest.raises(PlanError) as refused:
        operation.plan(Catalog(180000, {TABLE: relation}), PlanContext("1"))
    assert refused.value.hint


def test_a_plan_survives_json() -> None:
    planned = plan(column={"name": "day2", "type": "date", "nullable": False}, fill="day")
    stored = Plan(steps=planned.steps, expectations=planned.expectations, written=planned.written)
    assert Plan.from_json(to_json(stored)) == stored


def test_an_identity_of_a_large_table_is_numbered_first() -> None:
    planned = plan(rows=20_000, column={"name": "no", "type": "bigint", "identity": "always"})
    assert [s.phase for s in planned.steps][:2] == [Phase.EXPAND, Phase.BACKFILL]
    become = next(s for s in planned.steps if "identity" in s.title)
    assert become.statements[0].endswith("ADD GENERATED ALWAYS AS IDENTITY")
    assert (TABLE, "no") in planned.filled
    assert planned.steps[-1].statements[-1].startswith("DROP SEQUENCE IF EXISTS")


@pytest.mark.parametrize(
    ("version", "rows", "column", "message"),
    [
        (180000, 20_000, {"type": "int", "generated": {"expression": "id + 1"}}, "every row"),
        (170000, 10, {"type": "int", "generated": {"expression": "id + 1", "stored": False}}, "needs PostgreSQL 18"),
        (180000, 10, {"type": "int", "generated": {"expression": "random()"}}, "changes from call to call"),
        (180000, 10, {"type": "text", "identity": "always"}, "a whole number"),
    ],
)
def test_what_a_generated_column_cannot_be_is_refused(
    version: int, rows: int, column: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(version, rows, column={"name": "x", **column})
    assert refused.value.hint


@pytest.mark.parametrize(
    "keys",
    [
        {"column": {"name": "x", "type": "int", "identity": "always", "default": "1"}},
        {"column": {"name": "x", "type": "int", "generated": {"expression": "1"}}, "fill": "1"},
    ],
)
def test_a_column_has_one_source_of_values(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        plan(**keys)


def test_a_function_is_not_called_in_the_guise_of_a_column() -> None:
    known = replace(catalog(), objects={"function public.steal(public.readings)": ""})
    operation = AddColumn.model_validate(
        {"table": "readings", "column": {"name": "x", "type": "text"}, "fill": "readings.steal"}
    )
    with pytest.raises(PlanError, match=r"fill: readings.steal calls the function public.steal for the row"):
        operation.plan(known, PlanContext("1"))
    operation.plan(catalog(), PlanContext("1"))
