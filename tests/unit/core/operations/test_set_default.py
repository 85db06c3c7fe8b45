"""``set_default`` and ``drop_default``."""

from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from schema_change.core.names import Table
from tests.unit.core.operations.shapes import READINGS, plan, readings


def give(column: str, default: str, table: str = "readings") -> dict[str, Any]:
    return {"set_default": {"table": table, "column": column, "default": default}}


def take(column: str, table: str = "readings") -> dict[str, Any]:
    return {"drop_default": {"table": table, "column": column}}


def test_a_default_is_set_before_the_backfill_and_dropped_after_it() -> None:
    (given,) = plan(give("celsius", "coalesce(NULL, 1)")).steps
    (taken,) = plan(take("celsius")).steps
    assert (given.phase, taken.phase) == (Phase.EXPAND, Phase.CUTOVER)
    assert given.undo == taken.undo == ('ALTER TABLE "public"."readings" ALTER COLUMN "celsius" SET DEFAULT 0',)
    assert plan(give("day", "now()")).steps[0].undo[0].endswith("DROP DEFAULT")


def test_the_default_of_a_converted_column_is_set_at_cutover() -> None:
    assert plan(give("day", "now()"), filled=frozenset({(READINGS, "day")})).steps[0].phase is Phase.CUTOVER


def test_a_sequence_must_be_there() -> None:
    operation = give("celsius", "nextval('numbers')")
    with pytest.raises(PlanError, match=r"no sequence public\.numbers"):
        plan(operation)
    (step,) = plan(operation, objects={"sequence public.numbers": "…"}).steps
    assert step.statements[0].endswith('SET DEFAULT nextval(\'"public"."numbers"\'::regclass)')


def test_dropping_what_a_not_null_column_lives_on_is_told() -> None:
    columns = tuple(c for c in readings().columns if c.name != "station")
    station = readings(columns=(*columns, readings().columns[1].__class__("station", "text", False, "'?'")))
    (notice,) = plan(take("station"), station).notices
    assert "INSERT without a value" in notice


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (give("nope", "1"), "no column nope"),
        (give("id", "1"), "identity"),
        (give("celsius", "0"), "already"),
        (give("celsius", "day"), "reads day"),
        (give("celsius", "(SELECT max(x) FROM t)"), "reads"),
        (give("celsius", "1, 2"), "default"),
        (give("celsius", "setval('numbers', 1)"), "side effects"),
        (give("short", "'x'", "stations"), "generated"),
        (take("day"), "no default"),
        (take("short", "stations"), "generated"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(operation)
    assert refused.value.hint


def test_another_default_of_a_partition_would_be_lost() -> None:
    part = readings(table=Table("public", "part"), partition_of=READINGS)
    assert plan(give("celsius", "1"), part).touched == (part.table,)
    other = part.with_column(readings().columns[3].__class__("celsius", "numeric(5,2)", default="7"))
    with pytest.raises(PlanError, match=r"public\.part below"):
        plan(give("celsius", "1"), other)


@pytest.mark.parametrize("default", ["NULL", "null::text", "(NULL) :: text", "CAST(NULL AS text)"])
def test_a_default_of_null_is_no_default(default: str) -> None:
    """PostgreSQL would store none, and what the step made would not be there."""
    with pytest.raises(PlanError, match="NULL") as refused:
        plan(give("celsius", default))
    assert "drop_default" in (refused.value.hint or "")
