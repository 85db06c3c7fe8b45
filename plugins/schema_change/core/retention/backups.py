"""Delete backups that are old and that nobody needs any more."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row
from upath import UPath

from schema_change.core import sqlfiles
from schema_change.core.backup.files import remove
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError
from schema_change.core.journal import registry
from schema_change.core.journal.fence import release_fence, try_fence
from schema_change.core.journal.journal import FINAL, Journal
from schema_change.core.stages.request import backup_folder
from schema_change.core.stages.restore import reading
from schema_change.core.wording import sized

log = logging.getLogger(__name__)

#: As long as dropped data is kept, unless its operation says otherwise.
KEEP_DAYS = 30

#: A connection's name that is one part of a path.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that a run has begun to take, and is not known to be deleted.

    ``folder`` is where the journal says that it is, ``bytes`` its size; None when it was never finished.
    """

    run_id: UUID
    change: str
    conn_id: str
    run_status: str
    folder: str | None
    bytes: int | None
    begun_at: dt.datetime
    ended_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class PurgedBackup:
    """What became of an old backup: ``deleted``, ``gone`` already, ``due`` in a dry run, ``left`` or ``failed``."""

    backup: Backup
    state: str
    why: str = ""

    def __str__(self) -> str:
        size = "unfinished" if self.backup.bytes is None else sized(self.backup.bytes)
        what = f"{self.backup.begun_at:%Y-%m-%d} {self.backup.change}, run {self.backup.run_id} ({size})"
        return f"{what}: {self.state}{f': {self.why}' if self.why else ''}"


def purge_backups(
    target: Target, artifacts: UPath, *, days: int = KEEP_DAYS, dry_run: bool = False, actor: str = ""
) -> list[PurgedBackup]:
    """Delete the backups of a database that are older than so many days, one by one.

    What is needed is left: the backup of a run that has not ended and, so that a change can be taken back, of one that
    ended less than so many days ago. ``artifacts`` is where backups are, with the credentials of the storage. A failure
    is a result, so that it does not stop the others.
    """
    with target.connect("purge_backups", read_only=dry_run) as connection:
        oldest = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
        old = [backup for backup in _all(connection) if backup.begun_at < oldest]
        return [_one(connection, backup, artifacts, oldest, dry_run=dry_run, actor=actor) for backup in old]


def _all(connection: Connection) -> list[Backup]:
    if not registry.is_installed(connection):
        return []
    with connection.cursor(row_factory=class_row(Backup)) as cursor:
        return cursor.execute(sqlfiles.block("queries/retention", "backups")).fetchall()


def _one(
    connection: Connection, backup: Backup, artifacts: UPath, oldest: dt.datetime, *, dry_run: bool, actor: str
) -> PurgedBackup:
    if why := _needed(backup, oldest):
        return PurgedBackup(backup, "left", why)
    if not try_fence(connection, backup.run_id):
        return PurgedBackup(backup, "left", "somebody works on its run")
    try:
        if _is_read(connection, backup):
            return PurgedBackup(backup, "left", "it is being restored")
        return _delete(connection, backup, artifacts, actor, dry_run=dry_run)
    except Exception as error:
        log.exception("the backup of run %s could not be deleted", backup.run_id)
        return PurgedBackup(backup, "failed", f"{type(error).__name__}: {error}")
    finally:
        release_fence(connection, backup.run_id)


def _needed(backup: Backup, oldest: dt.datetime) -> str:
    """Say why a backup is still needed; empty when it is not."""
    if backup.run_status not in FINAL or backup.ended_at is None:
        return "its run has not ended"
    return f"its run ended on {backup.ended_at:%Y-%m-%d}" if backup.ended_at >= oldest else ""


def _is_read(connection: Connection, backup: Backup) -> bool:
    name = {"name": f"schema_change:{reading(backup.run_id)}"}
    return bool(connection.execute(sqlfiles.block("queries/retention", "sessions_named"), name).fetchall())


def _delete(connection: Connection, backup: Backup, artifacts: UPath, actor: str, *, dry_run: bool) -> PurgedBackup:
    """Delete the files, then say so in the journal: after a crash between the two it is done again."""
    folders = [*_folders(backup, artifacts)]
    if not any(folder.parent.exists() for folder in folders):
        return PurgedBackup(backup, "left", "nothing of its run is here; say where with --artifacts")
    found = [folder for folder in folders if folder.exists()]
    for folder in found:
        _refuse_others(folder, backup)
    if dry_run:
        return PurgedBackup(backup, "due" if found else "gone")
    for folder in found:
        remove(folder)
    with connection.transaction():
        connection.execute(sqlfiles.block("queries/retention", "mark_backup_deleted"), {"run_id": backup.run_id})
        where = ", ".join(map(str, found)) or f"nothing was left of it at {backup.folder or 'its place'}"
        Journal(connection, backup.run_id, actor).event("backup_deleted", where)
    return PurgedBackup(backup, "deleted" if found else "gone")


def _folders(backup: Backup, artifacts: UPath) -> Iterator[UPath]:
    """Yield where a backup can be: below the artifacts, and where it was written if that is another place."""
    usual = backup_folder(artifacts, backup.conn_id, backup.run_id)
    yield usual
    if backup.folder is not None and backup.folder != str(usual):
        yield UPath(backup.folder)


def _refuse_others(folder: UPath, backup: Backup) -> None:
    """Raise BackupError for a folder that no run has made: the names come from the target, where others may write."""
    made = (backup.conn_id, str(backup.run_id), "backup")
    if not _PLAIN.fullmatch(backup.conn_id) or folder.parts[-3:] != made:
        raise BackupError(f"{folder} is no backup folder of run {backup.run_id}", hint="delete it by hand")
