"""Runs of one change: all the way, or up to contract and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from schema_change.core.errors import ChangeRolledBack
from schema_change.core.names import Table
from tests.bench import FORWARD, Bench, Run

FAST = {"skip_backup": True, "skip_rehearsal": True}
Operations = list[dict[str, Any]]


def until(happened: Callable[[], bool], *, most_s: float = 60) -> None:
    """Wait for something that other threads do; fail when it takes too long."""
    end = time.monotonic() + most_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def forward(bench: Bench, change: str, *, stop_before: str | None = None, **options: Any) -> Run:
    """Run a change with every approval it needs; stop at the first failure."""
    run = Run(bench.request(change, **{**FAST, **options}))
    for stage in FORWARD:
        if stage == stop_before:
            return run
        if not run.try_stage(stage):
            break
        if stage == "plan":
            run.approve()
    run.finish()
    return run


def lands(bench: Bench, operations: Operations, name: str = "001_change", /, **options: Any) -> Run:
    """Run operations to the end and demand that they land."""
    scripts = {k: options.pop(k) for k in ("deploy", "cutover", "contract", "revert", "verify") if k in options}
    run = forward(bench, bench.write(name, {"operations": operations}, **scripts), **options)
    assert (run.error, run.outcome_error) == (None, None), (run.error, run.error and run.error.hint, run.outcome_error)
    return run


def comes_back(bench: Bench, operations: Operations, *tables: Table, **scripts: str) -> None:
    """Run operations up to validate, roll back, and demand the state before."""
    before = bench.state(*tables)
    change = bench.write("900_back", {"operations": operations}, **scripts)
    run = forward(bench, change, stop_before="contract")
    assert run.error is None, (run.error, run.error.hint)
    run.finish()
    assert isinstance(run.outcome_error, ChangeRolledBack), (run.error, run.outcome_error)
    assert bench.state(*tables) == before
