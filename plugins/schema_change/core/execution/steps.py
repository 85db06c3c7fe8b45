"""Run one step of the stored plan, or undo it, and write the journal in the same transaction where there is one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from schema_change.core import sqlfiles
from schema_change.core.backfill.engine import BackfillSettings, Progress, run_backfill, undo_fill
from schema_change.core.database import Connection
from schema_change.core.errors import ExecutionError, SchemaChangeError
from schema_change.core.execution.locks import LockSafeExecutor
from schema_change.core.journal.journal import Journal, StepRow
from schema_change.core.model import Step
from schema_change.core.wording import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepRunner:
    """Runs and undoes steps of one run. ``journal`` is on ``work``; failures are recorded on ``side``."""

    work: Connection
    side: Connection
    executor: LockSafeExecutor
    journal: Journal
    backfill: BackfillSettings
    note: Callable[[str], None]
    on_progress: Callable[[Step, Progress], None]

    def run(self, row: StepRow) -> None:
        """Bring a step to ``done``; one that is done already is left alone.

        A step cut off in the middle is looked at (its probe), repaired when needed, and run again.
        """
        step = row.planned
        if row.status == "done":
            return
        if row.status in {"undoing", "undone"}:
            raise ExecutionError(f"step '{step.title}' was undone", hint="start a new run of the change")
        self.note(f"{step.title} ({step.lock.sql} on {', '.join(map(str, step.tables))})")
        with self._failures_recorded(row, step):
            if step.backfill is not None:
                self._backfill(row.seq, step)
            elif step.transactional:
                self._in_transaction(row.seq, step)
            else:
                self._in_autocommit(row, step)
        self.executor.parking.over()

    def sweep(self, row: StepRow) -> None:
        """Walk a backfill's table once more, for the rows written since it was done."""
        step = row.planned
        with self._failures_recorded(row, step):
            if row.status == "done":  # else a sweep that was interrupted goes on from its checkpoint
                with self.work.transaction():
                    self.work.execute(
                        sqlfiles.block("queries/backfill", "delete_checkpoint"),
                        {"run_id": self.journal.run_id, "seq": row.seq},
                    )
                    self.journal.set_step(row.seq, "started")
            self._backfill(row.seq, step, before=row.rows or 0)

    def undo(self, row: StepRow) -> bool:
        """Undo a step that was done or begun; return whether there was anything to undo."""
        step = row.planned
        if row.status in {"planned", "undone"} and not self._left_behind(row, step):
            return False
        self.note(f"undo: {step.title}")
        with self._failures_recorded(row, step):
            self.journal.set_step(row.seq, "undoing")
            if step.backfill is not None:
                self._undo_backfill(row.seq, step)
            elif step.undo and step.undo_transactional:
                self.executor.transaction(
                    step.undo,
                    tables=step.tables,
                    lock=step.undo_lock,
                    within=lambda _, attempts: self._undone(row.seq, step, attempts),
                )
            else:
                self.executor.autocommit(step.undo, tables=step.tables, lock=step.undo_lock)
                self._undone(row.seq, step, 0)
        self.executor.parking.over()
        return True

    def holds(self, step: Step) -> bool:
        """Tell whether a step's probe says that it is done; a step without one is believed."""
        if step.probe is None:
            return True
        return self._asks(step.probe)

    def _asks(self, question: str) -> bool:
        row = self.side.execute(question.encode()).fetchone()
        return bool(row and row[0])

    def _left_behind(self, row: StepRow, step: Step) -> bool:
        """Tell whether a step that the journal calls planned has happened all the same; only autocommit can do that."""
        return row.status == "planned" and not step.transactional and row.started_at is not None and self.holds(step)

    def _in_transaction(self, seq: int, step: Step) -> None:
        def record(_: Connection, attempts: int) -> None:
            self.journal.set_step(seq, "done", lock_attempts=attempts)
            self._audit("done", seq, step, step.statements)

        self.executor.transaction(step.statements, tables=step.tables, lock=step.lock, within=record, long=step.long)

    def _in_autocommit(self, row: StepRow, step: Step) -> None:
        if row.status == "started":
            # Only a probe can tell that a try which was cut off had been through.
            if step.probe is not None and self.holds(step):
                self.note("an interrupted try had finished it")
                self._done(row.seq, step)
                return
            if step.repair:
                self.note("an interrupted try may have left something behind; repairing")
                self.executor.autocommit(step.repair, tables=step.tables, lock=step.lock)
        else:
            self._refuse_taken(step)
        self.journal.set_step(row.seq, "started")
        self._audit("started", row.seq, step, step.statements)
        self.executor.autocommit(step.statements, tables=step.tables, lock=step.lock)
        if not self.holds(step):
            raise ExecutionError(
                f"step '{step.title}' ran, but what it should have made is not there or not valid",
                hint="the run is rolled back; look at the server's log for the cause",
            )
        self._done(row.seq, step)

    def _refuse_taken(self, step: Step) -> None:
        """Raise, before the step counts as begun, when what it makes is there: its undo must not drop that."""
        if step.taken is not None and self._asks(step.taken):
            raise ExecutionError(
                f"step '{step.title}': the name of what it makes is taken by something this run did not make",
                hint="drop or rename what is there, or choose another name in the change; nothing was changed",
            )

    def _backfill(self, seq: int, step: Step, *, before: int = 0) -> None:
        """Fill together with the sessions of other shards, if there are any; the first to see the end records it."""
        assert step.backfill is not None  # noqa: S101 - the caller has looked
        with self.work.transaction():
            if self.journal.lock_step(seq) == "done":
                return
            self.journal.set_step(seq, "started")
            self._audit("started", seq, step, ())
        rows = before + run_backfill(
            self.work,
            self.side,
            run_id=self.journal.run_id,
            seq=seq,
            backfill=step.backfill,
            settings=self.backfill,
            on_progress=lambda progress: self.on_progress(step, progress),
            parking=self.executor.parking,
        )
        with self.work.transaction():
            if self.journal.lock_step(seq) != "done":
                self.journal.set_step(seq, "done", rows=rows)
                self._audit("done", seq, step, (), f"{counted(rows, 'row')} {step.backfill.verb}")

    def _undo_backfill(self, seq: int, step: Step) -> None:
        """Undo the statements first (they end what fills rows as they are written), then the rows."""
        if step.undo:
            self.executor.transaction(step.undo, tables=step.tables, lock=step.undo_lock)
        rows = self._forget(seq, step)
        if rows:
            self.note(f"{counted(rows, 'row')} set back")
        with self.work.transaction():
            self._undone(seq, step, 0)

    def _forget(self, seq: int, step: Step) -> int:
        """Forget a backfill's checkpoint; set the rows back that it remembers."""
        assert step.backfill is not None  # noqa: S101 - the caller has looked
        return undo_fill(
            self.work,
            self.side,
            run_id=self.journal.run_id,
            seq=seq,
            backfill=step.backfill,
            settings=self.backfill,
        )

    def _done(self, seq: int, step: Step) -> None:
        with self.work.transaction():
            self.journal.set_step(seq, "done")
            self._audit("done", seq, step, step.statements)

    def _undone(self, seq: int, step: Step, attempts: int) -> None:
        self.journal.set_step(seq, "undone", lock_attempts=attempts)
        self._audit("undone", seq, step, step.undo)

    def _audit(self, kind: str, seq: int, step: Step, statements: tuple[str, ...], message: str = "") -> None:
        self.journal.event(
            f"step_{kind}",
            message or step.title,
            seq=seq,
            tables=step.tables,
            statement=";\n".join(statements) or None,
        )

    def _failures_recorded(self, row: StepRow, step: Step) -> _Recorder:
        return _Recorder(self, row, step)


class _Recorder:
    """Writes a failure to the journal on the second session: the first one's transaction is gone with its entries."""

    def __init__(self, runner: StepRunner, row: StepRow, step: Step) -> None:
        self.runner = runner
        self.row = row
        self.step = step

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, (SchemaChangeError, psycopg.Error)) or self.runner.side.closed:
            return
        journal = self.runner.journal.on(self.runner.side)
        message = error.message if isinstance(error, SchemaChangeError) else str(error)
        journal.step_failed(self.row.seq, message)
        journal.event("step_failed", message, seq=self.row.seq, tables=self.step.tables)
