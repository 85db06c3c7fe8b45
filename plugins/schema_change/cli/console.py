"""What the commands print: stages with their durations, questions, tables."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markdown import Markdown
from rich.status import Status

from schema_change.core.errors import SchemaChangeError
from schema_change.core.templates import duration

_MARKS = {"done": "✔", "skipped": "–", "failed": "✘"}


def out() -> Console:
    """Return the console of standard output; text is never taken for markup, and long lines are left to the reader."""
    return Console(highlight=False, markup=False, soft_wrap=True)


def show_markdown(text: str) -> None:
    """Show Markdown, rendered on a terminal, as it is elsewhere."""
    console = out()
    console.print(Markdown(text) if console.is_terminal else text)


def show_error(error: SchemaChangeError | Exception) -> None:
    """Write an error's message and remedy to standard error."""
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"error: {error}")


def interactive() -> bool:
    """Tell whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def confirm(question: str) -> bool:
    """Ask yes or no; nothing is no."""
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


class StageLine:
    """One line for a stage; while it works, what it is at is shown below, in place on a terminal."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.result = "failed"
        self.summary = ""
        self._status: Status | None = None
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            self._status = out().status(self.stage)
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
        if isinstance(error, SchemaChangeError):
            self.summary = error.message
        elif error is not None:
            self.summary = type(error).__name__
        took = duration(time.monotonic() - self._started)
        print(f"{_MARKS[self.result]} {self.stage:<15} {took:>8}  {self.summary}", flush=True)

    def progress(self, line: str) -> None:
        """Show what the stage is at; its own summary comes at the end."""
        if line.startswith(f"{self.stage}: "):
            return
        if self._status is not None:
            self._status.update(f"{self.stage}: {line}")
        else:
            print(f"    {line}", flush=True)

    def finish(self, status: str, summary: str) -> None:
        """Say how the stage ended."""
        self.result, self.summary = status, summary
