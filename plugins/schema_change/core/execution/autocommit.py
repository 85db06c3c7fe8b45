"""Statements that cannot run in a transaction, under a watchdog instead of a lock time-out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg import errors, sql

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.execution.blockers import Blocker, Watch
from schema_change.core.execution.patience import Patience
from schema_change.core.execution.statements import statement_failed
from schema_change.core.execution.waiting import Parked, Waiting
from schema_change.core.model import LockMode

_SAMPLE_S = 0.25
_PROGRESS_EVERY_S = 10.0
#: An index build that waits here has done nothing yet: it can be cancelled without loss, and begun again later.
_NOT_BEGUN = frozenset({"initializing", "waiting for writers before build"})
_LEFT = "correct the cause and run again; an invalid index it may have left is dropped by the next try or the undo"


@contextlib.contextmanager
def session_timeouts(work: Connection, *, lock_ms: int) -> Iterator[None]:
    """Set the session's lock_timeout, and no statement_timeout, and put both back afterwards."""
    before = work.execute(sqlfiles.block("queries/locks", "current_settings")).fetchone() or ("0", "0")
    change = sqlfiles.block("queries/locks", "session_settings")
    work.execute(change, {"lock": str(lock_ms), "statement": "0"})
    try:
        yield
    finally:
        if not work.closed:
            work.execute(change, {"lock": before[0], "statement": before[1]})


class Watchdog:
    """Reports whom a statement waits for, and cancels it after too long a wait for the very same sessions.

    An index build that has not begun to build, because of writers, is cancelled earlier when waits are parked.
    """

    def __init__(
        self, work: Connection, side: Connection, patience: Patience, wait_s: float, note: Callable[[str], None]
    ) -> None:
        self.gave_up = False
        self.parked: Waiting | None = None
        self._work, self._side, self._patience, self._wait_s, self._note = work, side, patience, wait_s, note
        self._progress_at = time.monotonic()

    def on_sample(self, blockers: tuple[Blocker, ...], waited_s: float) -> None:
        """Look at one sample; called about four times a second."""
        if not blockers:
            self._report_progress()
            return
        self._patience.blockers = blockers
        self._patience.report(blockers)
        self._patience.consider_terminating(blockers, waited_s)
        if self.gave_up or self.parked:
            return
        if waited_s >= self._patience.wait_s or (waited_s >= self._wait_s and not self._has_built()):
            self.gave_up = True
        elif self._patience.is_to_be_parked and self._phase() in _NOT_BEGUN:
            # What it waits for is what a SHARE lock would wait for.
            self.parked = self._patience.waiting(LockMode.SHARE)
        if self.gave_up or self.parked:
            self._work.cancel_safe(timeout=5)

    def _has_built(self) -> bool:
        """Tell whether an index is built in part: what came before its build is no reason to throw that away."""
        return self._phase() not in {"", *_NOT_BEGUN}

    def _phase(self) -> str:
        return str((self._progress() or ("",))[0])

    def _report_progress(self) -> None:
        if time.monotonic() - self._progress_at < _PROGRESS_EVERY_S:
            return
        self._progress_at = time.monotonic()
        if row := self._progress():
            phase, done, total = row
            self._note(f"index build: {phase}" + (f", {100 * done // total} % of blocks" if total else ""))

    def _progress(self) -> tuple[Any, ...] | None:
        words = {"work_pid": self._work.info.backend_pid}
        return self._side.execute(sqlfiles.block("queries/locks", "index_progress"), words).fetchone()


def run_watched(
    work: Connection,
    side: Connection,
    statement: str,
    *,
    patience: Patience,
    note: Callable[[str], None],
) -> None:
    """Run one statement without lock time-out, watched.

    Raises LockNotAvailable naming the blocker when the watchdog gave up or the server found a deadlock, Parked when it
    is to be run again later, and ExecutionError when the statement failed.
    """
    wait_s = max(patience.left_s, _SAMPLE_S)
    watchdog = Watchdog(work, side, patience, wait_s, note)
    with session_timeouts(work, lock_ms=0):
        try:
            with Watch(side, work.info.backend_pid, min(_SAMPLE_S, wait_s / 4), watchdog.on_sample):
                work.execute(sql.SQL(statement))
        except psycopg.Error as error:
            if watchdog.parked is not None and isinstance(error, errors.QueryCanceled):
                raise Parked(watchdog.parked) from None
            if watchdog.gave_up and isinstance(error, errors.QueryCanceled):
                raise patience.out_of_patience() from error
            if isinstance(error, errors.DeadlockDetected | errors.LockNotAvailable):
                raise patience.out_of_patience() from error
            raise statement_failed(statement, error, left=_LEFT) from error
