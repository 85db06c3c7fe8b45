"""Purge kept data whose time is over; nothing of it can be brought back afterwards."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.database import Connection, Target
from schema_change.core.errors import SchemaChangeError
from schema_change.core.execution.locks import LockSafeExecutor, LockSettings
from schema_change.core.journal.fence import release_fence, try_fence
from schema_change.core.journal.journal import FINAL, Journal
from schema_change.core.model import LockMode
from schema_change.core.recipes import text
from schema_change.core.retention.kept import KeptData, all_kept, find_kept
from schema_change.core.stages.session import Note
from schema_change.core.wording import sized


@dataclass(frozen=True, slots=True)
class Purged:
    """What became of kept data that is due: ``purged``, ``due`` in a dry run, ``left`` or ``failed``, and why."""

    kept: KeptData
    state: str
    why: str = ""

    def __str__(self) -> str:
        size = f" ({sized(self.kept.bytes)})" if self.kept.there else ""
        return f"{self.kept.id} {self.kept.what}{size}: {self.state}{f': {self.why}' if self.why else ''}"


def purge(
    target: Target, *, note: Note, only: int | None = None, dry_run: bool = False, actor: str = ""
) -> list[Purged]:
    """Drop what is kept beyond its time, one by one; what a run or a recovery works on is left for the next time.

    With ``only`` that one is dropped, whatever its time. A failure is a result, so that it does not stop the others.
    """
    with (
        target.connect("purge", read_only=dry_run) as work,
        target.connect("purge:side", read_only=dry_run) as side,
    ):
        now = dt.datetime.now(dt.UTC)
        candidates = all_kept(side) if only is None else [find_kept(side, only)]
        due = [k for k in candidates if k.purged_at is None and (only is not None or k.purge_after <= now)]
        if dry_run:
            return [Purged(k, "due") for k in due]
        if due:
            _release_forgotten(work, note)
        return [_one(work, side, kept, note, actor) for kept in due]


def _one(work: Connection, side: Connection, kept: KeptData, note: Note, actor: str) -> Purged:
    if kept.run_status not in FINAL:
        return Purged(kept, "left", f"run {kept.run_id} has not ended")
    if not try_fence(work, kept.run_id):
        return Purged(kept, "left", "it is being recovered")
    try:
        _drop(work, side, kept, note, actor)
    except SchemaChangeError as error:
        return Purged(kept, "failed", error.message)
    finally:
        release_fence(work, kept.run_id)
    return Purged(kept, "purged")


def _drop(work: Connection, side: Connection, kept: KeptData, note: Note, actor: str) -> None:
    journal = Journal(work, kept.run_id, actor)
    statement = text(sql.SQL("DROP TABLE IF EXISTS {}").format(kept.kept.identifier))

    def record(connection: Connection, _attempts: int) -> None:
        connection.execute(sqlfiles.block("queries/retention", "mark_purged"), {"id": kept.id})
        journal.event("purged", kept.what, tables=(kept.kept,), statement=statement)

    LockSafeExecutor(work, side, LockSettings(), note).transaction(
        (statement,), tables=(kept.kept,), lock=LockMode.ACCESS_EXCLUSIVE, within=record
    )


def _release_forgotten(work: Connection, note: Note) -> None:
    """Release the claims of recoveries that were killed."""
    for (run_id,) in work.execute(sqlfiles.block("queries/retention", "forgotten_owners")).fetchall():
        _release(work, run_id, note)


def _release(work: Connection, run_id: UUID, note: Note) -> None:
    if try_fence(work, run_id):
        try:
            Journal(work, run_id).release()
            note(f"released what a recovery of run {run_id} had claimed before it was killed")
        finally:
            release_fence(work, run_id)
