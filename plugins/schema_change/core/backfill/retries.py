"""Trying a batch again while somebody else's locks are in the way."""

from __future__ import annotations

import datetime as dt
import random
import time
from uuid import UUID

import psycopg

from schema_change.core.errors import LockNotAvailable
from schema_change.core.execution.blockers import Blocker, describe
from schema_change.core.execution.waiting import Parked, Parking, TransactionWait

#: With its jitter, the last is about a second: that long after its blocker has gone a batch goes on.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 0.65


class Retries:
    """The pauses of one batch; they grow, are jittered and end after ``wait_s`` with LockNotAvailable.

    When long waits are parked they end with Parked, and the next try goes on counting.
    """

    def __init__(
        self, what: str, wait_s: float, parking: Parking | None = None, backfill: tuple[UUID, int] | None = None
    ) -> None:
        self._what, self._wait_s, self._parking, self._backfill = what, wait_s, parking or Parking(), backfill
        self._since: float | None = None
        self.over()
        self._before_s = self._parking.waited_before(what)

    @property
    def begun(self) -> bool:
        """Tell whether an earlier try of this batch was in vain."""
        return self._since is not None or self._before_s > 0

    def over(self) -> None:
        """Forget the troubles: a batch went through."""
        self.data = 0
        self._before_s = 0.0
        self._since = None
        self._pause = _FIRST_PAUSE_S

    def pause(self, error: psycopg.Error, blockers: tuple[Blocker, ...]) -> None:
        """Wait a little after a lock time-out, a deadlock or a serialization failure."""
        now = time.monotonic()
        self._since = self._since or now
        here_s = now - self._since
        waited_s = self._before_s + here_s
        if waited_s + self._pause > self._wait_s:
            raise LockNotAvailable(
                f"{self._what}: no batch got through within {self._wait_s:g} s; blocked by {describe(blockers)}",
                hint="; ".join(dict.fromkeys(b.remedy for b in blockers)) or "run this again; it goes on from there",
            ) from error
        if blockers and self._parking.is_due(here_s):
            since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=waited_s)
            raise Parked(
                TransactionWait(
                    what=self._what,
                    reason=f"rows are locked by {describe(blockers)}",
                    since=since,
                    until=since + dt.timedelta(seconds=self._wait_s),
                    transactions=tuple(b.transaction for b in blockers),
                    backfill=self._backfill,
                )
            )
        time.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311 (jitter, not a secret)
        self._pause = min(self._pause * 1.5, _LAST_PAUSE_S)
