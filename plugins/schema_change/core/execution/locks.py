"""Lock-safe execution: look before queueing, short attempts, an empty queue between them, blockers named."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import ExecutionError
from schema_change.core.execution.autocommit import run_watched, session_timeouts
from schema_change.core.execution.blockers import Blocker, Watch, look
from schema_change.core.execution.patience import LockSettings, Patience
from schema_change.core.execution.statements import TRANSIENT, Clock, first_line, statement_failed
from schema_change.core.execution.waiting import Parking
from schema_change.core.model import LockMode
from schema_change.core.names import Table

__all__ = ["LockSafeExecutor", "LockSettings"]

log = logging.getLogger(__name__)

_WORK_MS = 5_000
"""What statements that hold up the application may take once they have their locks."""
_SLOW_ATTEMPTS = 2


def _log_note(message: str) -> None:
    log.info("%s", message)


class LockSafeExecutor:
    """Runs statements on ``work``; looks at the locks, and names who holds them, on ``side``.

    Both are autocommit sessions of the same database. ``note`` receives what a person may want to read meanwhile:
    who blocks, who was terminated. ``audit`` receives what must be on record: each session that was terminated.
    ``parking`` says whether a long wait ends with Parked, for somebody else to see it through.
    """

    def __init__(
        self,
        work: Connection,
        side: Connection,
        settings: LockSettings,
        note: Callable[[str], None] = _log_note,
        audit: Callable[[str], None] = _log_note,
        *,
        parking: Parking | None = None,
    ) -> None:
        self.parking = parking or Parking()
        self._work, self._side, self._settings, self._note, self._audit = work, side, settings, note, audit
        self._pid = work.info.backend_pid

    @cached_property
    def _guard_ms(self) -> int:
        """How long the harmless first lock waits: autovacuum gives way to whoever has waited the deadlock_timeout."""
        row = self._side.execute(sqlfiles.block("queries/locks", "deadlock_timeout_ms")).fetchone()
        return (row[0] if row else 1_000) + 1_000

    def in_process(self) -> LockSafeExecutor:
        """Return the same executor for work that waits here, however long, because it cannot be begun again."""
        return LockSafeExecutor(self._work, self._side, self._settings, self._note, self._audit)

    def transaction(
        self,
        statements: Sequence[str],
        *,
        tables: Sequence[Table],
        lock: LockMode,
        within: Callable[[Connection, int], None] | None = None,
        long: bool = False,
    ) -> int:
        """Run statements in one transaction under the lock; return the number of attempts it took.

        ``within(work, attempts)`` is called inside the transaction, before its commit. ``long`` lifts the bound on
        the statements' duration; their locks stay bounded. Raises LockNotAvailable naming the blocker after
        ``wait_s``, and ExecutionError when a statement fails; nothing of the transaction is left then.
        """
        self._refuse_open_transaction()
        work_ms = 0 if long or lock < LockMode.SHARE else _WORK_MS

        def attempt(clock: Clock, lockable: tuple[Table, ...], number: int) -> bool:
            with self._work.transaction() as transaction:
                if not self._take_locks(clock, lockable, lock, tables):
                    raise psycopg.Rollback(transaction)
                left_ms = self._run(clock, statements, work_ms)
                if within:
                    clock.start("the journal's entry", left_ms)
                    self._work.execute(sqlfiles.block("queries/locks", "ourselves_again"))
                    within(self._work, number)
                clock.start("COMMIT")
                return True
            return False

        return self._until_done(tables, lock, attempt)

    def autocommit(self, statements: Sequence[str], *, tables: Sequence[Table], lock: LockMode) -> None:
        """Run statements one by one outside a transaction.

        Up to SHARE UPDATE EXCLUSIVE (concurrent index builds, VACUUM) they begin when nobody is in the way, and then
        wait without lock time-out, which would leave an invalid index, under a watchdog that names whom they wait for
        and gives up after ``wait_s`` of waiting for the same sessions. Stronger locks (VACUUM FULL) are attempted
        briefly, like transactions.
        Raises LockNotAvailable naming the blocker, and ExecutionError when a statement fails. What an interrupted
        statement leaves behind is for the step's repair.
        """
        self._refuse_open_transaction()
        if not statements:
            return
        if lock <= LockMode.SHARE_UPDATE_EXCLUSIVE:
            patience = self._patience(lock, tables)
            self._clear_of_blockers(tables, lock, patience)
            run_watched(self._work, self._side, statements[0], patience=patience, note=self._note)
        else:
            self._until_done(tables, lock, partial(self._run_alone, statements[0]))
        # Behind the first one a wait is seen through here: who parks begins with the first one again.
        self.in_process().autocommit(statements[1:], tables=tables, lock=lock)

    def _until_done(
        self, tables: Sequence[Table], lock: LockMode, attempt: Callable[[Clock, tuple[Table, ...], int], bool]
    ) -> int:
        """Look, attempt, pause, until an attempt is through or patience runs out; return the number of attempts."""
        patience = self._patience(lock, tables)
        attempts = slow = 0
        while True:
            lockable = self._clear_of_blockers(tables, lock, patience)
            clock = Clock()
            watch = Watch(self._side, self._pid, self._settings.lock_timeout_ms / 1000 * 0.4)
            try:
                with watch:
                    if attempt(clock, lockable, attempts + 1):
                        return attempts + 1
            except psycopg.Error as error:
                if not (isinstance(error, TRANSIENT) or clock.ran_out(error)):
                    raise statement_failed(clock.statement, error) from error
                slow += clock.working and clock.ran_out(error)
                if slow >= _SLOW_ATTEMPTS:
                    raise self._too_slow(clock.statement, lock) from error
                log.debug("attempt %s for %s failed: %s", attempts + 1, lock.sql, error.sqlstate)
            attempts += 1
            patience.after_attempt(watch.blockers or self._blockers(tables, lock))

    def _clear_of_blockers(self, tables: Sequence[Table], lock: LockMode, patience: Patience) -> tuple[Table, ...]:
        """Wait, without standing in the queue, until nobody holds a conflicting lock for long; return what exists."""
        while True:
            view = look(self._side, self._pid, tables, lock)
            blockers = patience.not_about_to_end(view.blockers)
            if not blockers:
                return view.lockable
            patience.without_queueing(blockers)

    def _take_locks(self, clock: Clock, lockable: tuple[Table, ...], lock: LockMode, tables: Sequence[Table]) -> bool:
        """Lock the tables, harmlessly first; False when a blocker came up meanwhile."""
        short = self._settings.lock_timeout_ms
        if lockable and lock >= LockMode.SHARE_UPDATE_EXCLUSIVE:
            self._set(self._guard_ms, 2 * self._guard_ms)
            started = time.monotonic()
            self._lock(clock, lockable, LockMode.SHARE_UPDATE_EXCLUSIVE, 2 * self._guard_ms)
            if (time.monotonic() - started) * 1000 > short and self._blockers(tables, lock):
                return False
        self._set(short, 2 * short)
        if lockable and lock not in (LockMode.NONE, LockMode.SHARE_UPDATE_EXCLUSIVE):
            # lock_timeout is per lock; the statement's time-out bounds the sum over tables and partitions.
            self._lock(clock, lockable, lock, 2 * short)
        return True

    def _lock(self, clock: Clock, tables: tuple[Table, ...], mode: LockMode, bound_ms: int) -> None:
        statement = sql.SQL("LOCK TABLE {tables} IN {mode} MODE").format(
            tables=sql.SQL(", ").join(t.identifier for t in tables), mode=sql.SQL(mode.sql)
        )
        clock.start(statement.as_string(self._work), bound_ms)
        self._work.execute(statement)

    def _run(self, clock: Clock, statements: Sequence[str], work_ms: int) -> int:
        """Run the statements; ``work_ms`` bounds them together, 0 does not. Return the statement_timeout left."""
        # transaction_timeout, which PostgreSQL 17 has for this, would end the session and not just the transaction.
        started, left = time.monotonic(), work_ms
        if not statements:
            self._set(self._settings.lock_timeout_ms, left)
        for statement in statements:
            left = work_ms and max(1, work_ms - round((time.monotonic() - started) * 1000))
            self._set(self._settings.lock_timeout_ms, left)
            clock.start(statement, left, working=True)
            self._work.execute(sql.SQL(statement))
        return left

    def _run_alone(self, statement: str, clock: Clock, _lockable: tuple[Table, ...], _number: int) -> bool:
        """Run one statement in autocommit with a brief lock time-out."""
        with session_timeouts(self._work, lock_ms=self._settings.lock_timeout_ms):
            clock.start(statement, working=True)
            self._work.execute(sql.SQL(statement))
        return True

    def _set(self, lock_ms: int, statement_ms: int) -> None:
        self._work.execute(
            sqlfiles.block("queries/locks", "attempt_settings"), {"lock_ms": lock_ms, "statement_ms": statement_ms}
        )

    def _blockers(self, tables: Sequence[Table], lock: LockMode) -> tuple[Blocker, ...]:
        return look(self._side, self._pid, tables, lock).blockers

    def _patience(self, lock: LockMode, tables: Sequence[Table]) -> Patience:
        what = f"{lock.sql} lock on {', '.join(map(str, sorted(set(tables)))) or 'what the statement touches'}"
        return Patience(
            what,
            self._settings,
            self._side,
            self._note,
            self._audit,
            tables=tables,
            lock=lock,
            parking=self.parking,
        )

    def _too_slow(self, statement: str, lock: LockMode) -> ExecutionError:
        return ExecutionError(
            f"{first_line(statement)}: takes longer than {_WORK_MS / 1000:g} s while it blocks {lock.blocks}; "
            "it was rolled back",
            hint="split the change so that the long part runs without this lock (NOT VALID then VALIDATE, "
            "a concurrent index, a backfill)",
        )

    def _refuse_open_transaction(self) -> None:
        if not self._work.autocommit or self._work.info.transaction_status is not TransactionStatus.IDLE:
            raise ExecutionError(
                "the session for changes is inside a transaction", hint="commit or roll back before the next step"
            )
