"""Run the hooks of a point, each as an audited event, and none that succeeded in this run already."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass

from schema_change.core.database import Target
from schema_change.core.errors import ExecutionError, SchemaChangeError
from schema_change.core.journal.journal import Journal
from schema_change.core.surroundings.commands import run_command
from schema_change.core.surroundings.environment import for_program, values_of, without_secrets
from schema_change.core.surroundings.models import Hook, Surroundings
from schema_change.core.surroundings.watch import call_until_good

_KEPT = 2_000
_DONE, _STARTED, _FAILED = "hook", "hook_started", "hook_failed"


@dataclass(frozen=True)
class HookRunner:
    """Runs hooks for one run. ``journal`` is on a session outside of a transaction: what it is told commits at once.

    ``alive`` tells whether the task is still wanted; a program that runs longer is ended.
    """

    journal: Journal
    target: Target
    note: Callable[[str], None]
    alive: Callable[[], bool] = lambda: True

    def run(self, point: str) -> list[str]:
        """Run the hooks of a point in order; return what they are. Raises ExecutionError at the first that fails."""
        hooks = self._hooks(point)
        for name, hook in self._due(point, hooks):
            self._run(name, hook)
        return list(map(described, hooks))

    def run_all(self, point: str, *, again: bool = False) -> list[str]:
        """Run the hooks of a point, each whatever became of the others; return, and note, what failed.

        With ``again`` also those that succeeded before.
        """
        failed: list[str] = []
        for name, hook in self._due(point, self._hooks(point), again=again):
            try:
                self._run(name, hook)
            except SchemaChangeError as error:
                self.note(error.message)
                failed.append(error.message)
        return failed

    def _hooks(self, point: str) -> list[Hook]:
        return Surroundings.of(self.journal.run.change).hooks.at(point)

    def _due(self, point: str, hooks: list[Hook], *, again: bool = False) -> list[tuple[str, Hook]]:
        done = {e.object_name for e in self.journal.events() if e.kind == _DONE} if hooks and not again else set()
        named = [(f"{point}[{number}]", hook) for number, hook in enumerate(hooks)]
        for name, _ in named:
            if name in done:
                self.note(f"{name} succeeded in an earlier try")
        return [(name, hook) for name, hook in named if name not in done]

    def _run(self, name: str, hook: Hook) -> None:
        what = described(hook)
        self.journal.event(_STARTED, what, about=("hook", name))
        self.note(f"{name}: {what}")
        start = time.monotonic()
        try:
            said = self._call(hook) if hook.http else self._start(name, hook)
        except SchemaChangeError as error:
            output = self._safe(str(error.data.get("output", "")), hook)
            message = self._safe(f"{what}: {error.message}", hook) + (f"\n{output}" if output else "")
            self.journal.event(_FAILED, message, about=("hook", name))
            raise ExecutionError(f"{name} failed: {message}", hint=error.hint) from error
        took = time.monotonic() - start
        self.journal.event(_DONE, f"{what}: {self._safe(said, hook)} ({took:.1f} s)", about=("hook", name))

    def _call(self, hook: Hook) -> str:
        assert hook.http is not None  # noqa: S101 - the caller has looked
        answer = call_until_good(hook.http, self.alive)
        if not answer.ok:
            raise ExecutionError(answer.message)
        return answer.message

    def _start(self, name: str, hook: Hook) -> str:
        run = self.journal.run
        facts = {
            "SCHEMA_CHANGE_RUN_ID": str(run.run_id),
            "SCHEMA_CHANGE_ID": run.change_id,
            "SCHEMA_CHANGE_CONN_ID": run.conn_id,
            "SCHEMA_CHANGE_DATABASE": self.target.database,
            "SCHEMA_CHANGE_HOOK": name,
        }
        code, output = run_command(hook.run or (), for_program(hook.env, facts), hook.timeout_s, self.alive)
        if code != 0:
            how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
            raise ExecutionError(how, data={"output": output})
        return f"exit code 0\n{output}" if output else "exit code 0"

    def _safe(self, text: str, hook: Hook) -> str:
        """Return the end of a text without the values that the program was given."""
        password = str(self.target.parameters.get("password") or "")
        return without_secrets(text, (password, *values_of(hook.env)))[-_KEPT:]


def described(hook: Hook) -> str:
    """Return a hook as the audit shows it: the program with its arguments, or method and URL."""
    return f"{hook.http.method} {hook.http.url}" if hook.http else shlex.join(hook.run or ())


def hooks_started(journal: Journal, point: str) -> bool:
    """Tell whether a hook of a point was ever started."""
    return any(e.kind == _STARTED and e.object_name.partition("[")[0] == point for e in journal.events())


def failed_hooks(journal: Journal, *points: str) -> list[str]:
    """Return what the hooks of these points said that failed last."""
    failed: dict[str, str] = {}
    for event in journal.events():
        if event.object_type == "hook" and event.object_name.partition("[")[0] in points:
            if event.kind == _FAILED:
                failed[event.object_name] = f"{event.object_name}: {event.message}"
            elif event.kind == _DONE:
                failed.pop(event.object_name, None)
    return list(failed.values())
