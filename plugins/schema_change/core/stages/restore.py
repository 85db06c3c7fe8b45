"""Put a run's backup back: its tables, or the whole database. Loses the writes made since; says which window."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from upath import UPath

from schema_change.core.backup.days import refill_days
from schema_change.core.backup.files import local_files
from schema_change.core.backup.manifest import MANIFEST, read_manifest
from schema_change.core.backup.restore import RestoreResult, restore_database, restore_tables
from schema_change.core.backup.switch import maintenance
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError, JournalError, OwnershipError
from schema_change.core.execution.locks import LockSettings
from schema_change.core.journal.fence import fenced
from schema_change.core.journal.journal import Journal, RunRow, applied_since, get_run
from schema_change.core.names import Table
from schema_change.core.stages.request import backup_folder
from schema_change.core.stages.session import Note, Session
from schema_change.core.surroundings.hooks import HookRunner


def put_back(session: Session) -> RestoreResult:
    """Restore this run's backup after a failed undo: the whole database when that was backed up, else its tables.

    A whole restore renames the database under our sessions, so they are closed first.
    """
    run = session.journal.run
    if session.options.backup_scope == "database":
        session.cancel()
        return restore_run(
            session.target,
            run.run_id,
            database=True,
            terminate_sessions=True,
            note=session.note,
            actor=run.requested_by,
            artifacts=session.request.artifacts,
        )
    session.hooks.run_all("before_restore", again=True)
    options = session.options
    locks = LockSettings(options.lock_timeout_ms, options.lock_wait_s, options.terminate_blockers)
    result = restore_tables(session.target, _folder(run, session.request.artifacts), locks=locks, note=session.note)
    session.journal.event("restored", result.lost_writes())
    session.hooks.run_all("after_restore", again=True)
    return result


def restore_run(
    target: Target,
    run_id: UUID,
    *,
    tables: Sequence[Table] | None = None,
    database: bool = False,
    terminate_sessions: bool = False,
    note: Note,
    actor: str = "",
    artifacts: UPath | None = None,
) -> RestoreResult:
    """Put the backup of a run back: the given tables (all of it by default), or the whole database beside the old one.

    ``artifacts`` is where backups are; it may carry credentials that the journal's copy of the address has not. A hook
    that fails stops nothing; it is among the notices of the result. Raises BackupError when the run has no backup or
    it does not fit, and OwnershipError while the run is at work.
    """
    with contextlib.ExitStack() as held:
        with target.connect("restore") as connection, fenced(connection, run_id, wait_s=5):
            run = get_run(connection, run_id)
            if run is None:
                raise JournalError(
                    f"run {run_id} is not in the journal of {target.conn_id}", hint="schema-change status"
                )
            folder = _folder(run, artifacts)
            _refuse_owned(connection, run, tables, database=database)
            failed = HookRunner(Journal(connection, run_id, actor), target, note).run_all("before_restore", again=True)
            if not database:
                result = restore_tables(target, folder, tables, note=note)
            else:  # nobody may be connected to it in the end, so another session says that the backup is read
                held.enter_context(maintenance(target).connect(reading(run_id)))
        if database:
            result = restore_database(target, folder, terminate_sessions=terminate_sessions, note=note)
    with target.connect("restore") as connection, connection.transaction():
        Journal(connection, run_id, actor).event("restored", result.lost_writes())
        if database:
            _take_back(connection, run_id, result, actor)
    with target.connect("restore") as connection:
        failed += HookRunner(Journal(connection, run_id, actor), target, note).run_all("after_restore", again=True)
    return replace(result, notices=(*result.notices, *failed))


def refill_run(target: Target, run_id: UUID, *, note: Note, actor: str = "") -> tuple[str, ...]:
    """Give daily views of the warehouse that hold no rows, or are gone, those of a run's backup; no source is asked.

    Return what could not be filled, with the reason. Raises BackupError when the backup has no rows of days.
    """
    with target.connect("restore") as connection, fenced(connection, run_id, wait_s=5):
        run = get_run(connection, run_id)
        if run is None:
            raise JournalError(f"run {run_id} is not in the journal of {target.conn_id}", hint="schema-change status")
        folder = _folder(run, None)
        manifest = read_manifest(folder)
        if not manifest.days:
            raise BackupError(
                f"{folder} has no rows of daily views",
                hint="those of a change of a template have, and those of scope database",
            )
        note(f"reading {manifest.contents}, as of {manifest.taken_at:%Y-%m-%d %H:%M:%S %Z}")
        names = {days.file for days in manifest.days}
        with local_files(folder, [file for file in manifest.files if file.name in names]) as files:
            failed = refill_days(target, manifest.days, files)
        Journal(connection, run_id, actor).event("refilled", f"days of the warehouse, but for {len(failed)}")
    return tuple(failed)


def reading(run_id: UUID) -> str:
    """Return the purpose of the session that is there for as long as a whole restore reads the backup of a run."""
    return f"restore:{run_id}"


def _refuse_owned(connection: Connection, run: RunRow, tables: Sequence[Table] | None, *, database: bool) -> None:
    """Raise OwnershipError while another run owns a table that would be put back."""
    wanted = {str(t) for t in tables} if tables is not None else set((run.backup or {}).get("tables", ()))
    for table, owner in Journal(connection, run.run_id).others().items():
        if database or str(table) in wanted:
            raise OwnershipError(
                f"{table} is owned by run {owner}, which has not ended", hint="let it end, or reconcile it, first"
            )


def _take_back(connection: Connection, run_id: UUID, result: RestoreResult, actor: str) -> None:
    """Say in the journal that this change, and those that landed after its backup, have not happened."""
    later = [other for other in applied_since(connection, result.taken_at) if other != run_id]
    for each in (run_id, *later):
        journal = Journal(connection, each, actor)
        journal.forget_versions()
        journal.set_status("restored")
        journal.release()
    for other in later:
        message = f"the database was put back to {result.taken_at:%Y-%m-%d %H:%M:%S %Z} by a restore of run {run_id}"
        Journal(connection, other, actor).event("restored", message)


def _folder(run: RunRow, artifacts: UPath | None) -> UPath:
    if not run.backup:
        raise BackupError(f"run {run.run_id} took no backup", hint="restore from your own backups")
    if artifacts is not None:
        folder = backup_folder(artifacts, run.conn_id, run.run_id)
        if (folder / MANIFEST).exists():
            return folder
    folder = UPath(run.backup["folder"])
    if "deleted_at" in run.backup and not (folder / MANIFEST).exists():
        raise BackupError(
            f"the backup of run {run.run_id} was deleted on {run.backup['deleted_at'][:10]}, when it was old",
            hint="restore from your own backups",
        )
    return folder
