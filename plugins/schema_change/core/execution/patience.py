"""Waiting for a lock: how long, how often, what is said meanwhile, and what is done about blockers."""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from schema_change.core.database import Connection
from schema_change.core.errors import LockNotAvailable
from schema_change.core.execution.blockers import Blocker, any_left, describe, in_the_way, terminate
from schema_change.core.execution.waiting import LockWait, Parked, Parking, TransactionWait, Waiting
from schema_change.core.model import LockMode
from schema_change.core.names import Table

log = logging.getLogger(__name__)

_FIRST_POLL_S, _LAST_POLL_S = 0.02, 0.25
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 5.0
_LONG_S = 1.0
_SAY_EVERY_S = 10.0
_TERMINATE_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class LockSettings:
    """How long one attempt may wait for a lock, how long all of them, and whether blockers may be terminated."""

    lock_timeout_ms: int = 100
    wait_s: float = 600
    terminate_blockers: bool = False


class Patience:
    """The waiting for one piece of work: from its first look to success, LockNotAvailable or Parked."""

    def __init__(
        self,
        what: str,
        settings: LockSettings,
        side: Connection,
        note: Callable[[str], None],
        audit: Callable[[str], None],
        *,
        tables: Sequence[Table] = (),
        lock: LockMode = LockMode.NONE,
        parking: Parking | None = None,
    ) -> None:
        self.blockers: tuple[Blocker, ...] = ()
        self._what, self._settings, self._side, self._note, self._audit = what, settings, side, note, audit
        self._tables, self._lock, self._parking = tables, lock, parking or Parking()
        self._start = time.monotonic()
        self._before_s = self._parking.waited_before(what)
        self._first_seen: dict[str, float] = {}
        self._poll, self._pause = _FIRST_POLL_S, _FIRST_PAUSE_S
        self._said_at = 0.0
        self._said_about: frozenset[str] = frozenset()

    @property
    def waited_s(self) -> float:
        """Return the seconds since the first look, that of an earlier try which was parked included."""
        return self._before_s + time.monotonic() - self._start

    @property
    def wait_s(self) -> float:
        """Return the seconds that patience has in all."""
        return self._settings.wait_s

    @property
    def left_s(self) -> float:
        """Return the seconds until patience runs out."""
        return self._settings.wait_s - self.waited_s

    def not_about_to_end(self, blockers: Sequence[Blocker]) -> tuple[Blocker, ...]:
        """Return the blockers that an attempt would not outlast."""
        now = time.monotonic()
        seen_s = {b.transaction: now - self._first_seen.setdefault(b.transaction, now) for b in blockers}
        return in_the_way(blockers, seen_s, waited_s=self.waited_s)

    def without_queueing(self, blockers: tuple[Blocker, ...]) -> None:
        """Wait a moment before the next look. Raises Parked when this has gone on for long."""
        self._blocked_by(blockers)
        if self.is_to_be_parked:
            raise Parked(self.waiting())
        self._sleep(self._poll)
        self._poll = min(self._poll * 1.5, _LAST_POLL_S)

    def after_attempt(self, blockers: tuple[Blocker, ...]) -> None:
        """Pause after a failed attempt, with the queue empty; a little longer each time, and jittered.

        Raises Parked when this has gone on for long and we know of whom.
        """
        self._blocked_by(blockers or self.blockers)
        if self.is_to_be_parked and self.blockers:
            # They may hold a lock on something else than the tables, which only an attempt can find out.
            raise Parked(self._transactions())
        self._sleep_until_gone(self._pause * random.uniform(0.5, 1.5))  # noqa: S311 (jitter, not a secret)
        self._pause = min(self._pause * 1.5, _LAST_PAUSE_S)
        self._poll = _FIRST_POLL_S

    @property
    def is_to_be_parked(self) -> bool:
        """Tell whether this process has waited long enough, while there is patience left."""
        return self.left_s > 0 and self._parking.is_due(time.monotonic() - self._start)

    def waiting(self, lock: LockMode | None = None) -> Waiting:
        """Return, as data, what is waited for: the blockers' locks, or the blockers themselves.

        ``lock`` is the mode that conflicts with theirs, when it is not the one wanted.
        """
        if self._settings.terminate_blockers:
            # Those that could not be terminated; whoever comes after them can be, by a try that is at work.
            return self._transactions()
        return LockWait(**self._words(), tables=tuple(self._tables), lock=lock or self._lock)

    def _transactions(self) -> Waiting:
        return TransactionWait(**self._words())

    def _words(self) -> dict[str, Any]:
        since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=self.waited_s)
        return {
            "what": self._what,
            "reason": describe(self.blockers),
            "since": since,
            "until": since + dt.timedelta(seconds=self._settings.wait_s),
            "transactions": tuple(b.transaction for b in self.blockers),
        }

    def out_of_patience(self) -> LockNotAvailable:
        """Return the error that names who was in the way."""
        remedies = "; ".join(dict.fromkeys(b.remedy for b in self.blockers))
        return LockNotAvailable(
            f"no {self._what} within {self._settings.wait_s:g} s; blocked by {describe(self.blockers)}",
            hint=f"{remedies or 'try again when the table is less busy'}; then run this again, or allow a longer wait",
        )

    def report(self, blockers: tuple[Blocker, ...]) -> None:
        """Say who is in the way: when that changes, and then now and again."""
        names = frozenset(b.transaction for b in blockers)
        if names != self._said_about or time.monotonic() - self._said_at >= _SAY_EVERY_S:
            self._note(f"waiting for {self._what}, {self.waited_s:.1f} s so far: {describe(blockers)}")
            self._said_about, self._said_at = names, time.monotonic()

    def consider_terminating(self, blockers: Sequence[Blocker], waited_s: float) -> None:
        """Terminate the blockers when the run allows it and they had their time."""
        if not self._settings.terminate_blockers or waited_s < min(_TERMINATE_AFTER_S, self._settings.wait_s / 2):
            return
        try:
            for pid in terminate(self._side, blockers, older_than_s=min(1.0, waited_s / 2)):
                message = f"terminated {_named(pid, blockers)}, which blocked {self._what}, as this run was asked to"
                self._note(message)
                self._audit(message)
        except psycopg.errors.InsufficientPrivilege as error:
            self._note(f"not permitted to terminate {describe(blockers)}: {error.diag.message_primary}")

    def _blocked_by(self, blockers: tuple[Blocker, ...]) -> None:
        self.blockers = blockers
        self.report(blockers)
        self.consider_terminating(blockers, self.waited_s)

    def _sleep_until_gone(self, seconds: float) -> None:
        """Sleep, but no longer than until those have gone who blocked the attempt for long.

        Where many short transactions did, there is nobody in particular to wait for, and they need the pause.
        """
        long = tuple(b.transaction for b in self.blockers if b.age_s is None or b.age_s >= _LONG_S)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._sleep(min(_LAST_POLL_S, left))
            if long and not any_left(self._side, long):
                return

    def _sleep(self, seconds: float) -> None:
        if self.left_s <= 0:
            raise self.out_of_patience() from None
        time.sleep(min(seconds, self.left_s))


def _named(pid: int, blockers: Sequence[Blocker]) -> str:
    return next((str(b) for b in blockers if b.pid == pid), f"session {pid}")
