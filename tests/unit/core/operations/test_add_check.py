from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.catalog.model import Constraint
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase
from schema_change.core.names import Table
from tests.unit.core.operations.shapes import READINGS, plan, readings


def add(**keys: Any) -> dict[str, Any]:
    return {"add_check": {"table": "readings", "check": "celsius > -274", **keys}}


def test_it_is_demanded_of_new_rows_first_and_checked_without_blocking() -> None:
    forbid, validate = plan(add()).steps
    assert forbid.statements == (
        'ALTER TABLE "public"."readings" ADD CONSTRAINT "readings_celsius_check" CHECK (celsius > -274) NOT VALID',
    )
    assert (forbid.phase, validate.phase) == (Phase.CUTOVER, Phase.CUTOVER)
    assert validate.lock is LockMode.SHARE_UPDATE_EXCLUSIVE
    assert validate.long


def test_rows_that_break_it_are_counted_unless_they_hold_null() -> None:
    (check,) = plan(add()).data_checks
    assert check.count == 'SELECT count(*) FROM "public"."readings" WHERE NOT (celsius > -274)'
    assert 'SELECT "id", "celsius"' in check.sample


def test_rows_of_a_column_that_the_change_fills_are_not_counted_before_it_is() -> None:
    assert plan(add(), filled=frozenset({(READINGS, "celsius")})).data_checks == ()


def test_partitions_are_part_of_what_is_watched() -> None:
    part = replace(readings(), table=Table("public", "part"), partition_of=READINGS)
    assert plan(add(), part).touched == (part.table,)
    taken = replace(part, constraints=(Constraint("readings_celsius_check", "c", "CHECK (true)"),))
    with pytest.raises(PlanError, match=r"public\.part"):
        plan(add(), taken)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"check": "fahrenheit > 0"}, "no column fahrenheit"),
        ({"check": "celsius > (SELECT 1)"}, "check"),
        ({"check": "celsius > random()"}, "random"),
        ({"check": "true); DROP TABLE readings; --"}, "check"),
        ({"name": "readings_pkey"}, "already has a constraint"),
        ({"table": "nowhere"}, "does not exist"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(add(**keys))
    assert refused.value.hint
