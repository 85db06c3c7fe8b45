from __future__ import annotations

import json
from dataclasses import fields
from itertools import pairwise

import pytest

from schema_change.core.model import (
    Backfill,
    Batch,
    DataCheck,
    Expectation,
    Finding,
    LockMode,
    NewRows,
    Phase,
    Plan,
    Reading,
    Retired,
    Risk,
    Step,
    Tally,
    to_json,
)
from schema_change.core.names import Table

TABLE = Table("public", 'a "b"')
READ = Table("public", "r")
BATCH = Batch("DELETE FROM a WHERE ", " RETURNING *", ("SELECT ", " FROM b"), "deleted")
BACKFILL = Backfill(TABLE, "c", "a.x + 1", "c IS NULL", ("id", "day"), NewRows.SWEEP, remember=True, batch=BATCH)
STEP = Step(
    phase=Phase.CUTOVER,
    title="a step",
    tables=(TABLE,),
    statements=("SELECT 1", "SELECT 2"),
    lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
    transactional=False,
    probe="SELECT true",
    taken="SELECT false",
    repair=("DROP INDEX x",),
    undo=("SELECT 3",),
    undo_lock=LockMode.ACCESS_EXCLUSIVE,
    undo_transactional=False,
    lasting=False,
    long=True,
)
PLAN = Plan(
    steps=(STEP, Step(Phase.BACKFILL, "fill", (TABLE,), backfill=BACKFILL)),
    expectations=(Expectation(TABLE, "expect_x", {"column": "c"}, "c_x", "warning", "why"),),
    data_checks=(DataCheck("nulls", "SELECT 0", "SELECT 1", "fill them"),),
    written=(TABLE,),
    read=(READ,),
    scope=(TABLE,),
    findings=(Finding("rule", "error", "bad", "do this", "SELECT", waived="because"),),
    risk=Risk.HIGH,
    risk_reasons=("high: because",),
    data_migration=True,
    notices=("mind the gap",),
    one_way=("the old values are gone",),
    retired=(Retired("column", TABLE, READ, "c", ("id",), {"type": "text"}, 7),),
    readings=(Reading("one day", "SELECT 4"),),
    tallies=(Tally("values of c", "SELECT 5", "why"),),
    fingerprint="f",
)


@pytest.mark.parametrize("plan", [PLAN, Plan(steps=())], ids=["everything", "nothing"])
def test_a_plan_survives_the_journal(plan: Plan) -> None:
    assert Plan.from_json(json.loads(json.dumps(to_json(plan)))) == plan


def test_every_field_has_another_value_than_its_default_in_the_plan_above() -> None:
    """So that a field added to the model is added to the round trip too."""
    for value, plain in (
        (PLAN, Plan(steps=())),
        (STEP, Step(Phase.EXPAND, "", ())),
        (BACKFILL, Backfill(READ, "", "", "")),
    ):
        same = {f.name for f in fields(value) if getattr(value, f.name) == getattr(plain, f.name)}
        assert same <= {"backfill"}


def test_steps_are_found_by_phase_in_order() -> None:
    assert PLAN.of_phase(Phase.CUTOVER) == (STEP,)
    assert PLAN.of_phase(Phase.CONTRACT) == ()


def test_lock_conflicts_go_both_ways() -> None:
    for one in LockMode:
        for other in LockMode:
            assert (other in one.conflicts()) == (one in other.conflicts()), (one, other)


def test_a_stronger_lock_conflicts_with_no_less_apart_from_share() -> None:
    """SHARE lets itself in, which SHARE UPDATE EXCLUSIVE does not; all others form a ladder."""
    ladder = [m for m in LockMode if m is not LockMode.SHARE]
    for weaker, stronger in pairwise(ladder):
        assert set(weaker.conflicts()) <= set(stronger.conflicts())
    assert LockMode.SHARE not in LockMode.SHARE.conflicts()


def test_a_lock_mode_is_spelled_three_ways() -> None:
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE
    assert (mode.sql, mode.catalog) == ("SHARE UPDATE EXCLUSIVE", "ShareUpdateExclusiveLock")
    assert {m.blocks for m in LockMode if LockMode.ROW_EXCLUSIVE in m.conflicts()} == {"writes", "reads and writes"}
    assert {m for m in LockMode if m.blocks == "reads and writes"} == {LockMode.ACCESS_EXCLUSIVE}


def test_risks_are_ordered() -> None:
    assert [r.rank for r in (Risk.LOW, Risk.MEDIUM, Risk.HIGH)] == [0, 1, 2]
