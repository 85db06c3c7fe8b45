"""Who stands in the way of a lock: looked up before queueing, and sampled while a statement waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psycopg

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.execution.statements import statement_failed
from schema_change.core.model import LockMode
from schema_change.core.names import Table

log = logging.getLogger(__name__)


#: A transaction of that age (s) may end any moment. Most do; one that will not is soon older, and is not queued behind.
_YOUNG_S = 0.01


@dataclass(frozen=True, slots=True)
class Blocker:
    """A transaction that holds, or queues for, a conflicting lock. The text of its query is never read.

    ``age_s`` is the transaction's age; None when the server does not show it to us. ``kind`` is ``session``,
    ``autovacuum`` (yields to us) or ``wraparound`` (an autovacuum that does not). ``transaction`` tells one
    transaction of a session from its next.
    """

    pid: int | None
    user: str | None
    application: str | None
    state: str | None
    age_s: float | None
    gid: str | None
    kind: str
    transaction: str

    def __str__(self) -> str:
        age = "" if self.age_s is None else f", transaction open for {self.age_s:.1f} s"
        if self.gid is not None:
            return f"prepared transaction {self.gid!r} (user {self.user}{age})"
        if self.kind == "wraparound":
            return f"autovacuum to prevent wraparound, pid {self.pid}{age}"
        if self.kind == "autovacuum":
            return f"autovacuum, pid {self.pid}{age}"
        what = ", ".join(filter(None, (f"user {self.user}", self.application, self.state)))
        return f"session {self.pid} ({what}{age})"

    @property
    def remedy(self) -> str:
        """Say how a person gets this blocker out of the way."""
        if self.gid is not None:
            return f"COMMIT PREPARED or ROLLBACK PREPARED {self.gid!r}"
        if self.kind == "wraparound":
            return "let the vacuum finish; it protects the database"
        return f"let it end, or end it: SELECT pg_terminate_backend({self.pid})"


def in_the_way(blockers: Iterable[Blocker], seen_s: Mapping[str, float], *, waited_s: float) -> tuple[Blocker, ...]:
    """Return the blockers that an attempt would not outlast.

    What has lasted for long will last for long. The longer we have waited, the older a newcomer may be: so a table that
    is never free of one-second transactions is still attempted now and then, while one blocker that was there all the
    time is never queued behind. ``seen_s`` says for how long we know of each transaction, for want of its age.
    """
    limit = max(_YOUNG_S, waited_s / 4)
    return tuple(
        b for b in blockers if b.kind == "wraparound" or limit < (seen_s[b.transaction] if b.age_s is None else b.age_s)
    )


def describe(blockers: Iterable[Blocker]) -> str:
    """Name the blockers in one line."""
    return "; ".join(map(str, blockers)) or "nobody who could be named"


@dataclass(frozen=True, slots=True)
class View:
    """What one look saw: what exists, in the order in which to lock it, and who is in the way."""

    lockable: tuple[Table, ...]
    blockers: tuple[Blocker, ...]


def look(side: Connection, work_pid: int, tables: Collection[Table], lock: LockMode) -> View:
    """Return the tables that exist and the transactions whose locks on them (or their partitions) conflict.

    Requests that wait count too: we would stand behind them. A plain autovacuum does not count, it yields.
    """
    wanted = {
        "schemas": [t.schema for t in tables],
        "names": [t.name for t in tables],
        "modes": [m.catalog for m in lock.conflicts()],
        "work_pid": work_pid,
    }
    try:
        rows = side.execute(sqlfiles.block("queries/locks", "look"), wanted).fetchall()
    except psycopg.Error as error:
        raise statement_failed("look for blockers", error) from error
    lockable = {Table(schema, name) for schema, name, kind, *_ in rows if kind in ("r", "p")}
    # Who reads through a view locks it first, and then what is below it. Alone, a view is locked by its statement.
    views = dict.fromkeys(Table(schema, name) for schema, name, kind, *_ in rows if kind == "v" and lockable)
    blockers = {b.transaction: b for held, *values in (row[3:] for row in rows) if held for b in [Blocker(*values)]}
    return View((*views, *sorted(lockable)), tuple(b for b in blockers.values() if b.kind != "autovacuum"))


def any_left(side: Connection, transactions: Collection[str]) -> bool:
    """Tell whether one of these transactions is still there."""
    words = {"transactions": list(transactions)}
    row = side.execute(sqlfiles.block("queries/locks", "any_left"), words).fetchone()
    return bool(row and row[0])


def blocking(side: Connection, work_pid: int) -> tuple[Blocker, ...]:
    """Return whom a session waits for right now."""
    rows: list[tuple[Any, ...]] = side.execute(
        sqlfiles.block("queries/locks", "blocking"), {"work_pid": work_pid}
    ).fetchall()
    return tuple(Blocker(*row) for row in rows)


def terminate(side: Connection, blockers: Sequence[Blocker], older_than_s: float) -> list[int]:
    """Terminate the blocking client sessions whose transaction is that old; never our own. Return their pids."""
    rows = side.execute(
        sqlfiles.block("queries/locks", "terminate"),
        {"pids": [b.pid for b in blockers if b.pid is not None], "older_than_s": older_than_s},
    ).fetchall()
    return [pid for pid, terminated in rows if terminated]


class Watch:
    """Samples, from a thread on the side connection, whom ``work`` waits for while its statement runs.

    ``blockers`` keeps the last ones seen. ``on_sample(blockers, waited_s)`` is called with each sample;
    ``waited_s`` is how long the session has been waiting for these very blockers.
    """

    def __init__(
        self,
        side: Connection,
        work_pid: int,
        interval_s: float,
        on_sample: Callable[[tuple[Blocker, ...], float], None] | None = None,
    ) -> None:
        self.blockers: tuple[Blocker, ...] = ()
        self._side, self._pid, self._interval, self._on_sample = side, work_pid, interval_s, on_sample
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schema_change-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._sample_until_stopped()
        except psycopg.Error as error:
            # Without the side connection nobody can be named, but the statement itself goes on.
            log.warning("cannot see any more who blocks session %s: %s", self._pid, error)

    def _sample_until_stopped(self) -> None:
        waiting_for: frozenset[str] = frozenset()
        since = time.monotonic()
        interval = self._interval
        while not self._stop.wait(interval):
            interval = min(interval * 1.5, max(1.0, self._interval))
            now = blocking(self._side, self._pid)
            names = frozenset(b.transaction for b in now)
            if names != waiting_for:
                waiting_for, since = names, time.monotonic()
            self.blockers = now or self.blockers
            if self._on_sample:
                self._on_sample(now, time.monotonic() - since)
