"""The two runs of ``make demo``: one change that lands, one that is rolled back, each proven from outside."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import proof, weather
from demo.follow import Follower, origin
from demo.proof import Check, State
from demo.stack import Stack
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError

LANDS = "20240208143002_add_extreme_cold_hours"
FAILS = "20240215091500_add_flight_speed"
#: Short batches, so that the progress can be watched.
CONF: dict[str, Any] = {"conn_id": "weather", "batch_target_ms": 200}
#: Who answers for a role, as include/approvals.yaml has it.
_APPROVERS = ("dba", "lead", "owner")


@dataclass(frozen=True, slots=True)
class Ended:
    """One run that ended: what the demo asked for and what came out."""

    dag_id: str
    dag_run_id: str
    state: str
    seconds: float
    run_id: str
    reason: str
    folder: Path


def tell(stack: Stack, console: Console) -> bool:
    """Run both changes on a fresh database and print what came out; return whether everything is as it must be."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    landed = _run(stack, console, LANDS, f"demo_{stamp}")
    checks = proof.check_landed(stack.weather, landed.state) + proof.check_validated(stack.weather, landed.run_id)
    before = State.of(stack.weather)
    failed = _run(stack, console, FAILS, f"demo_{stamp}")
    undone = proof.check_undone(before, State.of(stack.weather), failed.state)
    undone += proof.check_reason(stack.weather, failed.run_id, failed.folder)
    _report(console, landed, checks)
    _report(console, failed, undone)
    return all(check.ok for check in checks + undone)


def _run(stack: Stack, console: Console, dag_id: str, dag_run_id: str) -> Ended:
    console.print(f"\n[bold]{dag_id}[/bold]  airflow dags trigger {dag_id} --conf …", highlight=False, soft_wrap=True)
    started = time.monotonic()
    stack.airflow.trigger(dag_id, CONF, dag_run_id)
    with stack.airflow.api() as api:
        follower = Follower(api, stack.weather, console, lambda *question: _approve(stack, *question))
        state = follower.follow(dag_id, dag_run_id)
    seconds = time.monotonic() - started
    console.print(f"  the run ended {state} after {seconds:.0f} s", highlight=False)
    run_id, reason = _journal(stack.weather, dag_id, dag_run_id)
    folder = next(stack.artifacts.rglob(run_id), stack.artifacts)
    return Ended(dag_id, dag_run_id, state, seconds, run_id, reason, folder)


def _approve(stack: Stack, dag_id: str, dag_run_id: str, task: dict[str, Any]) -> str | None:
    """Approve as the first user who is asked; in the demo nobody sits at the UI."""
    for user in _APPROVERS:
        with stack.airflow.api(user) as api:
            try:
                api.answer(dag_id, dag_run_id, task["task_id"], "Approve", map_index=int(task["map_index"]))
            except ConfigurationError:  # not this user's to answer
                continue
        return f"{user} approved"
    return None


def _journal(target: Target, dag_id: str, dag_run_id: str) -> tuple[str, str]:
    with target.connect("demo", read_only=True) as connection:
        rows = weather.run_query(connection, "journal_run", {"origin": origin(dag_id, dag_run_id)})
    if not rows:
        return "none", "the run never got as far as the journal"
    return str(rows[0][0]), str(rows[0][2])


def _report(console: Console, run: Ended, checks: list[Check]) -> None:
    console.print(f"\n[bold]{run.dag_id}[/bold]: {run.state} in {run.seconds:.0f} s", highlight=False)
    for line in run.reason.splitlines()[:4]:
        console.print(f"  {line}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    for check in checks:
        mark, style = ("✓", "green") if check.ok else ("✗", "bold red")
        console.print(
            f"  {mark} {check.name}: {check.seen}", style=style, markup=False, highlight=False, soft_wrap=True
        )
    console.print(f"  report: {run.folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
