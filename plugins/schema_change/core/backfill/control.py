"""What a person says to the backfills of a run: they look about every second, in whatever process they are."""

from __future__ import annotations

from uuid import UUID

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import JournalError
from schema_change.core.journal.journal import FINAL, Journal


def pause(connection: Connection, run_id: UUID, actor: str) -> None:
    """Let the backfills of a run stop between two batches, until they are resumed."""
    _say(connection, run_id, actor, "backfill_paused", paused=True)


def resume(connection: Connection, run_id: UUID, actor: str) -> None:
    """Let them go on; a cancellation is taken back too, for a task that is run again."""
    _say(connection, run_id, actor, "backfill_resumed", paused=False, cancelled=False)


def cancel(connection: Connection, run_id: UUID, actor: str) -> None:
    """Let them fail between two batches, which rolls the run back."""
    _say(connection, run_id, actor, "backfill_cancelled", cancelled=True)


def limit_speed(connection: Connection, run_id: UUID, actor: str, rows_per_second: int | None) -> None:
    """Let them fill at most so many rows per second; None lifts the limit."""
    message = f"{rows_per_second} rows per second" if rows_per_second else "as fast as the server bears"
    _say(connection, run_id, actor, "backfill_speed", message, rows=rows_per_second or 0)


def _say(connection: Connection, run_id: UUID, actor: str, kind: str, message: str = "", **values: int) -> None:
    """Write to ``schema_change.control``, and to the audit. Raises JournalError when the run is over."""
    journal = Journal(connection, run_id, actor)
    if journal.run.status in FINAL:
        raise JournalError(f"run {run_id} is over ({journal.run.status})", hint="schema-change status lists them")
    words = {"run_id": run_id, "by": actor, "paused": None, "cancelled": None, "rows": None, **values}
    with connection.transaction():
        connection.execute(sqlfiles.block("queries/backfill", "control"), words)
        journal.event(kind, message)
