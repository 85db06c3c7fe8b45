"""Show a run while it goes on: a line per task when it ends, a progress bar for the backfill."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from demo import weather
from demo.api import FINAL_STATES, AirflowApi
from schema_change.core.database import Connection, Target
from schema_change.core.errors import ConfigurationError

#: Airflow fails a task whose question is answered before the executor has reported that the task was put aside.
ANSWER_AFTER = 3.0
_ENDED = {
    "success": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("–", "dim"),
    "upstream_failed": ("·", "dim"),
    "removed": ("·", "dim"),
}


@dataclass(frozen=True, slots=True)
class Backfilled:
    """How far a backfill is; ``seconds`` since its first batch."""

    rows: int
    total: int
    seconds: float

    @property
    def rate(self) -> float:
        """Return rows per second so far."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def text(self) -> str:
        """Return rate and remaining time for a reader."""
        if self.rate <= 0:
            return ""
        left = max(self.total - self.rows, 0) / self.rate
        return f"{self.rate:,.0f} rows/s, {left:.0f} s left" if left >= 1 else f"{self.rate:,.0f} rows/s"


def origin(dag_id: str, run_id: str) -> str:
    """Return what the journal calls the origin of a DAG run."""
    return f"airflow:{dag_id}/{run_id}"


def backfilled(connection: Connection, dag_id: str, run_id: str) -> Backfilled | None:
    """Return the progress of a run's backfill, or None before its first batch."""
    row = weather.run_query(connection, "journal_backfill", {"origin": origin(dag_id, run_id)})
    return Backfilled(*row[0]) if row else None


@dataclass
class Follower:
    """Follows runs one after the other on one console."""

    api: AirflowApi
    target: Target
    console: Console
    answer: Callable[[str, str, dict[str, Any]], str | None] = lambda _dag, _run, _question: None
    """Called once with every question that has been open for ANSWER_AFTER seconds; returns a line to show."""
    _shown: set[tuple[str, int, int]] = field(default_factory=set)
    _asked: dict[tuple[str, int], float] = field(default_factory=dict)

    def follow(self, dag_id: str, run_id: str, timeout: float = 900) -> str:
        """Show a run until it ends; return its state. Raises ConfigurationError after ``timeout`` seconds."""
        self._shown.clear()
        self._asked.clear()
        deadline = time.monotonic() + timeout
        live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<16}"),
            _OnceKnown(BarColumn(bar_width=30)),
            _OnceKnown(MofNCompleteColumn()),
            TextColumn("{task.fields[speed]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        with self.target.connect("demo-follow", read_only=True) as connection, live:
            bar = _Bar(live, self.console)
            while time.monotonic() < deadline:
                state = self.api.run_state(dag_id, run_id)
                tasks = self.api.task_instances(dag_id, run_id)
                bar.show(tasks, backfilled(connection, dag_id, run_id))
                self._show_ended(connection, dag_id, run_id, tasks, everything=state in FINAL_STATES)
                if state in FINAL_STATES:
                    return state
                self._answer_questions(dag_id, run_id, tasks)
                time.sleep(0.4)
        raise ConfigurationError(f"{dag_id} did not end within {timeout:.0f} s", hint="look at it in the UI: make up")

    def _show_ended(
        self, connection: Connection, dag_id: str, run_id: str, tasks: list[dict[str, Any]], *, everything: bool
    ) -> None:
        new = [t for t in tasks if t["state"] in _ENDED and (everything or t["state"] != "upstream_failed")]
        new = [t for t in new if _key(t) not in self._shown]
        if not new:
            return
        said = dict(weather.run_query(connection, "journal_stages", {"origin": origin(dag_id, run_id)}))
        for task in sorted(new, key=lambda t: (t["end_date"] or "", t["task_id"])):
            self._shown.add(_key(task))
            mark, style = _ENDED[task["state"]]
            summary = next(iter(str(said.get(task["task_id"], "")).splitlines()), "")
            head = Text(f"  {mark} {task['task_id']:<16} {task['state']:<16} {_seconds(task):>7}  ", style=style)
            self.console.print(head.append(summary, style="default"), highlight=False, soft_wrap=True)

    def _answer_questions(self, dag_id: str, run_id: str, tasks: list[dict[str, Any]]) -> None:
        waiting = {(t["task_id"], t["map_index"]): t for t in tasks if t["state"] == "awaiting_input"}
        for key, task in waiting.items():
            since = self._asked.setdefault(key, time.monotonic())
            if time.monotonic() - since >= ANSWER_AFTER:
                self._asked[key] = float("inf")
                if line := self.answer(dag_id, run_id, task):
                    self.console.print(f"  ? {line}", style="cyan", highlight=False, markup=False)


class _OnceKnown(ProgressColumn):
    """A column that stays empty while there is nothing to count."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        return self._column.render(task) if task.fields["counting"] else Text()


class _Bar:
    """One progress bar: of the backfill while it runs, else only the name of the task at work."""

    def __init__(self, live: Progress, console: Console) -> None:
        self._live = live
        self._console = console
        self._line: TaskID = live.add_task("starting", total=None, speed="", counting=False)
        self._printed = 0.0

    def show(self, tasks: list[dict[str, Any]], progress: Backfilled | None) -> None:
        working = next((t["task_id"] for t in tasks if t["state"] in ("running", "awaiting_input")), "scheduling")
        if working == "backfill" and progress:
            self._live.update(
                self._line,
                description=working,
                completed=progress.rows,
                total=progress.total,
                speed=progress.text,
                counting=True,
            )
            self._print(progress)
        else:
            self._live.update(self._line, description=working, speed="", counting=False)

    def _print(self, progress: Backfilled) -> None:
        """Print a line instead of a bar where there is no terminal, every two seconds."""
        if self._console.is_terminal or time.monotonic() - self._printed < 2:
            return
        self._printed = time.monotonic()
        self._console.print(f"    backfill {progress.rows:,} of {progress.total:,} rows, {progress.text}", markup=False)


def _key(task: dict[str, Any]) -> tuple[str, int, int]:
    return task["task_id"], int(task["map_index"]), int(task["try_number"])


def _seconds(task: dict[str, Any]) -> str:
    if not task["start_date"] or not task["end_date"]:
        return ""
    start, end = (datetime.fromisoformat(task[name]) for name in ("start_date", "end_date"))
    return f"{(end - start).total_seconds():.1f} s"
