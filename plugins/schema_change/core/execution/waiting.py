"""Long waits without a worker: what a stage waits for, as data, and whether that is over.

A stage that has waited for a while raises :class:`Parked`. Nothing of it is left then but its journal: no session, no
lock. Whoever runs stages (Airflow's triggerer) looks now and then with a session of its own, and runs the stage again
when the wait is over, telling it what it has waited for. It then begins as any try does, by looking.
"""

from __future__ import annotations

import datetime as dt
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, TypeAdapter

from schema_change.core import sqlfiles
from schema_change.core.backfill.throttle import Watcher
from schema_change.core.database import Connection, Target
from schema_change.core.execution.blockers import any_left, in_the_way, look
from schema_change.core.model import LockMode
from schema_change.core.names import Table
from schema_change.core.surroundings.models import Throttle


class Waiting(BaseModel):
    """What a stage waits for.

    ``what`` tells one wait of a stage from another; ``reason`` is for people. ``since`` is when it began, earlier
    tries included; at ``until`` the stage is run again in any case, to say that it has waited long enough.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    reason: str
    since: dt.datetime
    until: dt.datetime | None = None

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Waiting:
        """Read what :meth:`to_json` wrote."""
        return _ANY.validate_python(data)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def waited_s(self) -> float:
        """Return the seconds since it began."""
        return (dt.datetime.now(dt.UTC) - self.since).total_seconds()

    def is_over(self, target: Target) -> bool:
        """Look once, with a read-only session of its own and for some seconds at most, whether to go on.

        Raises ConfigurationError when the server cannot be reached, and psycopg's errors.
        """
        if self.until is not None and dt.datetime.now(dt.UTC) >= self.until:
            return True
        with target.connect("waiting", read_only=True) as connection:
            bounds = {"lock": "1s", "statement": "5s"}
            connection.execute(sqlfiles.block("queries/locks", "session_settings"), bounds)
            return self._is_over(connection)

    @abstractmethod
    def _is_over(self, connection: Connection) -> bool:
        """Look with this session."""

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


class LockWait(Waiting):
    """Transactions hold locks that conflict with the one wanted; over when an attempt would find none of them.

    ``transactions`` are those that were in the way at the start.
    """

    kind: Literal["lock"] = "lock"
    tables: tuple[Table, ...]
    lock: LockMode
    transactions: tuple[str, ...]

    def _is_over(self, connection: Connection) -> bool:
        blockers = look(connection, connection.info.backend_pid, self.tables, self.lock).blockers
        # One whose age is hidden from us counts for as long as this wait when it was there at its start.
        known = dict.fromkeys(self.transactions, self.waited_s)
        ages = {b.transaction: known.get(b.transaction, 0.0) for b in blockers}
        return not in_the_way(blockers, ages, waited_s=self.waited_s)


class TransactionWait(Waiting):
    """Certain transactions are in the way; over when none of them is there any more.

    ``backfill`` is the run and step whose rows they have locked: over as well when it was cancelled or a shard failed.
    """

    kind: Literal["transactions"] = "transactions"
    transactions: tuple[str, ...]
    backfill: tuple[UUID, int] | None = None

    def _is_over(self, connection: Connection) -> bool:
        return not any_left(connection, self.transactions) or self._is_in_vain(connection)

    def _is_in_vain(self, connection: Connection) -> bool:
        if self.backfill is None:
            return False
        run_id, seq = self.backfill
        words = {"run_id": run_id, "seq": seq, "since": self.since}
        row = connection.execute(sqlfiles.block("queries/backfill", "in_vain"), words).fetchone()
        return bool(row and row[0])


class ThrottleWait(Waiting):
    """A backfill is paused; over when nothing speaks against going on, or when it was cancelled or a shard failed.

    ``wal_ahead_s`` is how far it was ahead of its limit of WAL when it was parked.
    """

    kind: Literal["throttle"] = "throttle"
    run_id: UUID
    seq: int
    table: Table
    throttle: Throttle
    wal_ahead_s: float = 0.0
    _watcher: Watcher | None = PrivateAttr(default=None)

    def _is_over(self, connection: Connection) -> bool:
        if self._watcher is None:
            self._watcher = Watcher(
                self.run_id, self.seq, self.table, self.throttle, since=self.since, wal_ahead_s=self.wal_ahead_s
            )
        reason = self._watcher.reason(connection, paused=True)
        sample = self._watcher.sample
        return reason is None or (sample is not None and (sample.cancelled or sample.failed is not None))


_ANY: TypeAdapter[Waiting] = TypeAdapter(
    Annotated[LockWait | TransactionWait | ThrottleWait, Field(discriminator="kind")]
)


class Parked(Exception):
    """A stage has waited for a while: it ends here, and is run again when the wait is over."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(str(waiting))
        self.waiting = waiting


class Parking:
    """Whether and when the waits of one try of a stage are parked; by default never.

    ``after_s`` is how long a wait holds the process. ``earlier`` is what the try before this one waited for: a wait
    for the same goes on where that one stopped, so that its bound counts for both.
    """

    def __init__(self, after_s: float | None = None, earlier: Waiting | None = None) -> None:
        self.after_s = after_s
        self.earlier = earlier

    def waited_before(self, what: str) -> float:
        """Return the seconds that this wait has lasted already."""
        earlier = self.earlier
        return 0.0 if earlier is None or earlier.what != what else max(0.0, earlier.waited_s)

    def over(self) -> None:
        """Forget the earlier wait: what it was for is done."""
        self.earlier = None

    def is_due(self, here_s: float) -> bool:
        """Tell whether a wait that has lasted that long in this process is parked."""
        return self.after_s is not None and here_s >= self.after_s
