from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.catalog.model import Catalog, Column, Index, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.set_not_null import SetNotNull

TABLE = Table("public", "readings")
KEY = Index("readings_pkey", "CREATE UNIQUE INDEX … (id)", ("id",), unique=True, primary=True)


def plan(indexes: tuple[Index, ...] = (KEY,), filled: bool = False, **operation: object) -> Planned:
    columns = (Column("id", "integer", nullable=False), Column("day", "date"))
    relation = Relation(table=TABLE, kind="r", owner="postgres", columns=columns, indexes=indexes)
    context = PlanContext("1", frozenset({(TABLE, "day")}) if filled else frozenset())
    return SetNotNull.model_validate({"table": "readings", **operation}).plan(
        Catalog(180000, {TABLE: relation}), context
    )


def test_nulls_fail_the_pre_check_by_default() -> None:
    planned = plan(column="day")
    (check,) = planned.data_checks
    assert check.count == 'SELECT count(*) FROM "public"."readings" WHERE "day" IS NULL'
    assert {s.phase for s in planned.steps} == {Phase.CUTOVER}


def test_filled_nulls_are_remembered_so_that_a_rollback_can_tell_them() -> None:
    planned = plan(column="day", nulls={"fill": "CURRENT_DATE"})
    backfill = next(s.backfill for s in planned.steps if s.backfill)
    assert backfill.remember
    assert planned.data_migration
    assert [s.phase for s in planned.steps][-1] is Phase.CONTRACT


def test_a_column_that_the_same_change_fills_is_not_counted_before_it_exists() -> None:
    assert plan(column="day", filled=True).data_checks == ()


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"column": "nope"}, "no column nope"),
        ({"column": "id"}, "NOT NULL already"),
        ({"column": "day", "nulls": {"fill": "1, 2"}}, "nulls.fill"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(**operation)
    assert refused.value.hint


def test_filling_without_a_key_is_refused() -> None:
    with pytest.raises(PlanError, match="no key"):
        plan(indexes=(), column="day", nulls={"fill": "CURRENT_DATE"})


def test_rows_are_set_back_after_the_trigger_is_gone() -> None:
    """Else it would replace, and remember, more of them behind the undo."""
    (fill,) = (s for s in plan(column="day", nulls={"fill": "CURRENT_DATE"}).steps if s.backfill)
    assert fill.undo[0].startswith("DROP TRIGGER")


def test_a_function_that_public_has_too_must_be_written_with_its_schema() -> None:
    columns = (Column("id", "integer", nullable=False), Column("day", "date"))
    relation = Relation(table=TABLE, kind="r", owner="postgres", columns=columns, indexes=(KEY,))
    catalog = Catalog(180000, {TABLE: relation}, objects={"function public.to_date(character varying)": "…"})

    def fill(expression: str) -> Planned:
        operation = {"table": "readings", "column": "day", "nulls": {"fill": expression}}
        return SetNotNull.model_validate(operation).plan(catalog, PlanContext("1"))

    with pytest.raises(PlanError, match=r"to_date\(\)") as caught:
        fill("to_date('x')")
    assert "pg_catalog.to_date" in (caught.value.hint or "")
    assert fill("pg_catalog.to_date('x', 'y')").steps
    assert fill("public.to_date('x')").steps


def test_deleted_rows_are_kept_and_taken_once_more_behind_the_constraint() -> None:
    planned = plan(column="day", nulls="delete")
    titles = [(s.phase, s.backfill is not None) for s in planned.steps]
    assert titles[:2] == [(Phase.EXPAND, False), (Phase.BACKFILL, True)]
    assert (Phase.CUTOVER, True) in titles[2:-1]
    (kept,) = planned.retired
    assert (kept.kind, kept.key, kept.kept.schema) == ("rows", ("id",), "schema_change_retired")
    assert planned.data_migration


def test_rows_are_not_deleted_where_the_change_converts_the_table() -> None:
    with pytest.raises(PlanError, match="fills or converts"):
        plan(filled=True, column="day", nulls="delete")


def test_a_table_below_that_is_strict_already_is_refused() -> None:
    """DROP NOT NULL, the undo, would reach it too."""
    columns = (Column("id", "integer", nullable=False), Column("day", "date"))
    strict = (Column("id", "integer", nullable=False), Column("day", "date", nullable=False))
    part = Table("public", "part")
    catalog = Catalog(
        180000,
        {
            TABLE: Relation(table=TABLE, kind="p", owner="postgres", columns=columns),
            part: Relation(table=part, kind="r", owner="postgres", columns=strict, partition_of=TABLE),
        },
    )
    with pytest.raises(PlanError, match=r"public\.part"):
        SetNotNull.model_validate({"table": "readings", "column": "day"}).plan(catalog, PlanContext("1"))
