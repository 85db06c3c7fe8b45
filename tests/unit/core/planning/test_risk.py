from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.model import Backfill, Finding, LockMode, Phase, Plan, Risk, Step
from schema_change.core.names import Table
from schema_change.core.planning.risk import assess, unrated

TABLE = Table("public", "readings")
SAFE = Step(Phase.EXPAND, "a step", (TABLE,), ("ALTER …",), LockMode.ACCESS_EXCLUSIVE, undo=("ALTER …",))
FILL = Step(Phase.BACKFILL, "fill", (TABLE,), lasting=False, backfill=Backfill(TABLE, "c", "1", "c IS NULL"))


def risk_of(*steps: Step, relation: dict[str, Any] | None = None, **plan: Any) -> tuple[Risk, tuple[str, ...]]:
    catalog = Catalog(180000, {TABLE: Relation(TABLE, "r", "owner", **(relation or {}))})
    return assess(Plan(steps=steps, written=(TABLE,), **plan), catalog)


def test_brief_steps_that_can_be_undone_are_low() -> None:
    risk, reasons = risk_of(SAFE, FILL)
    assert risk is Risk.LOW
    assert len(reasons) == 1


@pytest.mark.parametrize(
    ("step", "risk", "word"),
    [
        (replace(SAFE, undo=()), Risk.MEDIUM, "no undo"),
        (replace(SAFE, undo=(), phase=Phase.CONTRACT), Risk.LOW, "brief"),
        (replace(SAFE, undo=(), lasting=False), Risk.LOW, "brief"),
        (replace(SAFE, long=True), Risk.HIGH, "blocks reads and writes"),
        (replace(SAFE, long=True, lock=LockMode.SHARE), Risk.HIGH, "blocks writes"),
        (replace(SAFE, long=True, lock=LockMode.SHARE_UPDATE_EXCLUSIVE), Risk.LOW, "lets reads and writes go on"),
    ],
)
def test_a_step_is_priced_by_its_lock_and_its_undo(step: Step, risk: Risk, word: str) -> None:
    found, reasons = risk_of(step)
    assert found is risk
    assert word in reasons[0]


@pytest.mark.parametrize(
    ("relation", "steps", "risk"),
    [
        ({"bytes": 10 * 1024**3}, (SAFE,), Risk.LOW),
        ({"bytes": 11 * 1024**3}, (SAFE,), Risk.MEDIUM),
        ({"rows": 10_000_001}, (SAFE,), Risk.LOW),
        ({"rows": 10_000_001}, (SAFE, FILL), Risk.MEDIUM),
        ({"dependants": ("view public.v",)}, (SAFE,), Risk.MEDIUM),
        ({"dependants": ("generated column public.readings.c",)}, (SAFE,), Risk.LOW),
    ],
)
def test_a_table_is_priced_by_size_and_dependants(
    relation: dict[str, Any], steps: tuple[Step, ...], risk: Risk
) -> None:
    assert risk_of(*steps, relation=relation)[0] is risk


def test_changed_values_and_lint_errors_are_high_also_when_waived() -> None:
    assert risk_of(SAFE, data_migration=True)[0] is Risk.HIGH
    finding = Finding("drop-column", "error", "it drops a column", "do not")
    assert risk_of(SAFE, findings=(finding,))[0] is Risk.HIGH
    risk, reasons = risk_of(SAFE, findings=(replace(finding, waived="nobody reads it"),))
    assert (risk, reasons) == (Risk.HIGH, ("high: drop-column: it drops a column (waived)",))
    assert risk_of(SAFE, findings=(replace(finding, level="warning"),))[0] is Risk.LOW
    assert risk_of(SAFE, findings=(replace(finding, rule="unanalysable", level="warning"),))[0] is Risk.MEDIUM


def test_the_highest_reason_decides_and_comes_first() -> None:
    risk, reasons = risk_of(replace(SAFE, undo=()), data_migration=True)
    assert risk is Risk.HIGH
    assert [reason.split(":")[0] for reason in reasons] == ["high", "medium"]


def test_a_reason_beside_its_risk_does_not_repeat_it() -> None:
    assert unrated("medium: step 'a: b' has no undo") == "step 'a: b' has no undo"
    assert unrated("every step is brief: see above") == "every step is brief: see above"


def test_a_table_that_does_not_exist_yet_costs_nothing() -> None:
    assert assess(Plan(steps=(SAFE,), written=(Table("public", "new"),)), Catalog(180000, {}))[0] is Risk.LOW
