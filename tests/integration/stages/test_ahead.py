"""What has nothing to do is skipped by whoever runs the stage before it, and the journal reads the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import ValidationFailed
from schema_change.core.journal.journal import Journal
from schema_change.core.stages import STAGES
from schema_change.core.stages.request import Request
from schema_change.core.stages.runner import Runner
from tests.bench import Bench

COLUMN = {"table": "public.readings", "column": {"name": "extra", "type": "integer"}}
MORE = {"table": "public.readings", "column": {"name": "more", "type": "integer"}}
INSTANT = {"operations": [{"add_column": COLUMN}]}
FILLED = {"operations": [{"add_column": {**COLUMN, "fill": "readings.id"}}]}
FAST: dict[str, Any] = {"skip_backup": True, "skip_rehearsal": True}


def run(request: Request, last: str = "outcome") -> dict[str, tuple[str, ...]]:
    """Run a change as the DAG would; return what was skipped by which stage."""
    skipped: dict[str, tuple[str, ...]] = {}
    for stage in STAGES[: STAGES.index(last) + 1]:
        if stage not in {later for stages in skipped.values() for later in stages}:
            runner = Runner(request, ahead=True)
            runner.run(stage)
            skipped[stage] = runner.skipped
    return {stage: later for stage, later in skipped.items() if later}


def journal(connection: Connection, request: Request) -> list[tuple[Any, ...]]:
    """Return each stage with how it ended and why, and how often it was tried."""
    stages = Journal(connection, request.run_id).stages().values()
    return [(s.stage, s.status, s.tries, s.result["summary"]) for s in stages if s.stage not in ("report", "outcome")]


def test_an_instant_change_skips_all_that_has_nothing_to_do(bench: Bench, connection: Connection) -> None:
    bench.write("001_extra", INSTANT)
    bench.write("002_more", {"operations": [{"add_column": MORE}]})
    request, one_by_one = bench.request("001_extra", **FAST), bench.request("002_more", **FAST)
    assert run(request) == {
        "plan": ("approve",),
        "pre_check": ("rehearse",),
        "migrate": ("backfill", "cutover"),
        "validate": ("soak",),
        "contract": ("rollback", "verify_rollback"),
    }
    bench.run(one_by_one)
    ahead = journal(connection, request)
    assert ahead == journal(connection, one_by_one)
    assert ("verify_rollback", "skipped", 1, "the change landed") in ahead


def test_what_has_something_to_do_is_left_to_its_own_task(bench: Bench) -> None:
    bench.write("001_filled", {**FILLED, "soak": {"hours": 1}})
    assert run(bench.request("001_filled", skip_rehearsal=True), "validate") == {
        "plan": ("approve",),
        "pre_check": ("rehearse",),
    }


def test_a_cutover_with_a_hook_is_left_to_its_own_task(bench: Bench) -> None:
    bench.write("001_extra", {**INSTANT, "hooks": {"after_cutover": [{"run": ["true"]}]}})
    assert run(bench.request("001_extra", **FAST), "migrate")["migrate"] == ("backfill",)


def test_an_approval_that_is_needed_is_not_skipped(bench: Bench, connection: Connection) -> None:
    connection.execute("CREATE VIEW readers AS SELECT id FROM readings")
    bench.write("001_extra", INSTANT)
    runner = Runner(bench.request("001_extra", **FAST), ahead=True)
    runner.run("plan")
    assert runner.approvals()
    assert runner.skipped == ()


def test_another_dag_that_fills_data_comes_before_backfill(bench: Bench) -> None:
    bench.write("001_extra", {**INSTANT, "backfill_dag": {"dag_id": "compute"}})
    request = bench.request("001_extra", **FAST)
    run(request, "pre_check")
    runner = Runner(request, ahead=True)
    runner.run("migrate")
    assert runner.skipped == ()


def test_a_run_that_is_to_be_rolled_back_is_not_skipped(bench: Bench, connection: Connection) -> None:
    bench.write("001_extra", INSTANT)
    request = bench.request("001_extra", **FAST)
    run(request, "migrate")
    connection.execute("ALTER TABLE readings DROP COLUMN extra")
    with pytest.raises(ValidationFailed):
        Runner(request).run("validate")
    runner = Runner(request, ahead=True)
    runner.run("rollback")
    assert runner.skipped == ()
    assert Runner(request).run("verify_rollback").status == "done"


def test_a_dry_run_skips_all_but_its_own_and_writes_nothing(bench: Bench, connection: Connection) -> None:
    bench.write("001_extra", INSTANT)
    request = bench.request("001_extra", dry_run=True)
    assert run(request) == {
        "plan": ("approve", "backup"),
        "pre_check": STAGES[STAGES.index("rehearse") : STAGES.index("outcome")],
    }
    assert connection.execute("SELECT to_regnamespace('schema_change')").fetchone() == (None,)


def test_nothing_to_do_needs_no_window(bench: Bench) -> None:
    """A cutover without anything to switch does not wait for the end of a blackout."""
    bench.write("001_extra", INSTANT)
    request = bench.request("001_extra", **FAST)
    run(request, "pre_check")
    Runner(request).run("migrate")
    bench.write("001_extra", {**INSTANT, "blackouts": [{"from": "2000-01-01", "to": "2100-01-01", "reason": "ever"}]})
    later = bench.request("001_extra").change
    assert request.change is not None
    assert later is not None
    closed = replace(request, change=replace(request.change, surroundings=later.surroundings))
    runner = Runner(closed, ahead=True)
    runner.run("migrate")
    assert runner.skipped == ("backfill", "cutover")
