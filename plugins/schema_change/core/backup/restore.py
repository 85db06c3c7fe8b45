"""Put a backup back: the rows of tables, or a whole database. Writes made since the backup are lost, and named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from upath import UPath

from schema_change.core import sqlfiles
from schema_change.core.backup import databases, rows, switch
from schema_change.core.backup.checksums import TableChecksum, checksums, differences, shapes_of
from schema_change.core.backup.days import refill_days
from schema_change.core.backup.dump import DUMP
from schema_change.core.backup.files import local_files
from schema_change.core.backup.load import load
from schema_change.core.backup.manifest import Manifest, read_manifest
from schema_change.core.backup.scope import backup_scope
from schema_change.core.binaries import Installation, client_for
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError, ExecutionError, LockNotAvailable
from schema_change.core.execution.locks import LockSafeExecutor, LockSettings
from schema_change.core.model import LockMode
from schema_change.core.names import Table, short_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestoredTable:
    """A table after a restore; ``changed`` is False where it still held exactly the rows of the backup."""

    table: Table
    rows_before: int
    rows: int
    changed: bool


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore put back. Writes between ``taken_at`` and ``restored_at`` to the changed tables are lost.

    ``kept_database`` is the name under which the database from before is kept, when the whole database was restored.
    """

    taken_at: datetime
    restored_at: datetime
    tables: tuple[RestoredTable, ...]
    notices: tuple[str, ...] = ()
    kept_database: str | None = None

    def lost_writes(self) -> str:
        """Say which writes are lost, for people."""
        changed = [f"{t.table} ({t.rows_before} → {t.rows} rows)" for t in self.tables if t.changed]
        if not changed:
            return "no write was lost: every table still held the rows of the backup"
        window = f"{self.taken_at:%Y-%m-%d %H:%M:%S %Z} and {self.restored_at:%Y-%m-%d %H:%M:%S %Z}"
        where = f"; they are still in database {self.kept_database}" if self.kept_database else ""
        return f"writes between {window} to {', '.join(changed)} are lost{where}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "taken_at": self.taken_at.isoformat(),
            "restored_at": self.restored_at.isoformat(),
            "tables": [
                {"table": str(t.table), "rows_before": t.rows_before, "rows": t.rows, "changed": t.changed}
                for t in self.tables
            ],
            "notices": list(self.notices),
            "kept_database": self.kept_database,
            "lost_writes": self.lost_writes(),
        }


def restore_tables(
    target: Target,
    folder: UPath,
    tables: Sequence[Table] | None = None,
    *,
    locks: LockSettings | None = None,
    note: Callable[[str], None] = log.info,
) -> RestoreResult:
    """Replace the rows of tables by those of the backup; None means all tables whose rows are in it.

    One transaction: lock, compare, empty, load the backup's columns (others get their default), check foreign keys and
    checksums, commit. The user's triggers do not fire, sequences stay where they are, and a table that still holds the
    backup's rows is left alone. Raises BackupError, with nothing changed, when a table no longer has the backup's
    columns, a row elsewhere refers to a row that would be gone, or the result differs; LockNotAvailable (retryable),
    naming who is in the way, when a table stays in use for as long as ``locks`` says.
    """
    manifest = read_manifest(folder)
    with target.connect("restore") as session, target.connect("restore:side") as side:
        chosen = _choose(session, manifest, tables)
        if not chosen:
            raise BackupError(f"{folder} holds no rows of the tables asked for", hint="name tables of the backup")
        client = client_for(max(session.info.server_version, manifest.client_major * 10000))
        _check_shapes(session, chosen)
        results: list[RestoreResult] = []
        try:
            with local_files(folder, manifest.files) as files:
                LockSafeExecutor(session, side, locks or LockSettings(), note).transaction(
                    (),
                    tables=rows.involved(session, [t.table for t in chosen]),
                    lock=LockMode.ACCESS_EXCLUSIVE,
                    long=True,
                    within=lambda work, _: results.append(_replace(work, client, manifest, chosen, files / DUMP)),
                )
        except LockNotAvailable:
            raise
        except ExecutionError as error:
            raise BackupError(
                f"the rows could not be restored, nothing was changed: {error.message}",
                hint="restore the whole database (a backup of scope database), or repair the cause and try again",
            ) from error
    result = results[-1]
    note(result.lost_writes())
    return result


def _choose(session: Connection, manifest: Manifest, tables: Sequence[Table] | None) -> tuple[TableChecksum, ...]:
    if tables is None:
        return manifest.tables
    leaves = session.execute(sqlfiles.block("queries/backup", "leaves"), rows.arrays(tables)).fetchall()
    wanted = {Table(row[0], row[1]) for row in leaves} | set(tables)
    return tuple(t for t in manifest.tables if t.table in wanted)


def _replace(
    session: Connection, client: Installation, manifest: Manifest, chosen: Sequence[TableChecksum], data: Path
) -> RestoreResult:
    """Replace the rows of tables that are locked."""
    tables = [t.table for t in chosen]
    _check_shapes(session, chosen)
    before = {c.table: c for c in checksums(session, tables, manifest.columns)}
    changed = [t for t in chosen if differences([t], [before[t.table]])]
    if changed:
        rows.reload(session, client, [t.table for t in changed], data)
        after = checksums(session, [t.table for t in changed], manifest.columns)
        if unequal := differences(changed, after):
            raise BackupError(
                f"the restored rows differ from the backup, nothing was changed: {'; '.join(unequal)}",
                hint="types may have changed since the backup: restore the whole database instead",
            )
    beside = session.execute(sqlfiles.block("queries/backup", "new_partitions"), rows.arrays(tables)).fetchall()
    return RestoreResult(
        taken_at=manifest.taken_at,
        restored_at=datetime.now(UTC),
        tables=tuple(RestoredTable(t.table, before[t.table].rows, t.rows, t in changed) for t in chosen),
        notices=tuple(f"{Table(row[0], row[1])} was attached after the backup and keeps its rows" for row in beside),
    )


def _check_shapes(session: Connection, chosen: Sequence[TableChecksum]) -> None:
    shapes = shapes_of(session, [t.table for t in chosen])
    problems: list[str] = []
    for backed in chosen:
        shape = shapes.get(backed.table)
        if shape is None:
            problems.append(f"{backed.table} does not exist any more")
            continue
        if missing := set(backed.columns) - set(shape.stored):
            problems.append(f"{backed.table} has no column {', '.join(sorted(missing))} any more")
        if extra := set(shape.required) - set(backed.columns):
            problems.append(f"{backed.table}.{', '.join(sorted(extra))} is NOT NULL without a default")
    if problems:
        raise BackupError(
            f"the backup's rows do not fit: {'; '.join(problems)}",
            hint="undo the change first, or restore the whole database (a backup of scope database)",
        )


def restore_database(
    target: Target, folder: UPath, *, terminate_sessions: bool = False, note: Callable[[str], None] = log.info
) -> RestoreResult:
    """Replace a database by its backup; the old one is kept as ``<name>_before_restore_<stamp>``.

    The backup (of scope ``database``) is restored beside the live database and verified. Options of foreign servers and
    user mappings, our own schemas, and the database's owner, grants, settings and comment come from the live one; the
    warehouse's daily views are filled from the backup, other materialized views are refreshed. Then both are renamed in
    one transaction, for which nobody may be connected: with ``terminate_sessions`` sessions are ended, else BackupError
    names them. Until then the live database is untouched, and the copy is dropped when anything fails. Needs a
    superuser, for owners and grants.
    """
    manifest = read_manifest(folder)
    if manifest.scope != "database":
        raise BackupError(
            f"{folder} holds the rows of {len(manifest.tables)} tables, not of the whole database",
            hint="restore its tables; to be able to restore the whole, take backups of scope database",
        )
    stamp = f"{datetime.now(UTC):%Y%m%d%H%M%S}"
    new, kept = short_name(target.database, "restore", stamp), short_name(target.database, "before_restore", stamp)
    with switch.maintenance(target).connect("restore") as admin:
        if not terminate_sessions:
            switch.refuse_sessions(admin, target.database)
        databases.create(admin, new, databases.locale_of(admin, target.database), "schema_change: being restored")
        try:
            before, created = _live_state(target, manifest)
            with local_files(folder, manifest.files) as files:
                load(target.with_database(new), manifest, files, owners=True, note=note)
                unfilled = refill_days(target.with_database(new), manifest.days, files)
            databases.carry_properties(admin, databases.properties(admin, target.database), new)
            notices = [*created, *unfilled, *_complete(target, target.with_database(new), manifest)]
            notices += switch.swap(admin, target, new, kept, terminate=terminate_sessions)
        except BaseException as error:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(new)))
            if isinstance(error, psycopg.Error):
                raise BackupError(
                    f"{target.database} could not be replaced, it is as it was: {str(error).strip()}",
                    hint="restore with a superuser, and end the sessions on the database",
                ) from error
            raise
    result = RestoreResult(manifest.taken_at, datetime.now(UTC), before, tuple(notices), kept)
    note(result.lost_writes())
    return result


def _live_state(target: Target, manifest: Manifest) -> tuple[tuple[RestoredTable, ...], list[str]]:
    """Compare the live database with the backup, on the columns that both have; name the tables that are new."""
    backed = [t.table for t in manifest.tables]
    with target.connect("restore", read_only=True) as session:
        shapes = shapes_of(session, backed)
        common = {t: tuple(c for c in manifest.columns[t] if c in shapes[t].stored) for t in backed if t in shapes}
        live = {c.table: c for c in checksums(session, list(common), common)}
        created = set(backup_scope(session, (), (), everything=True)) - set(backed)
    tables = tuple(
        RestoredTable(t.table, live[t.table].rows if t.table in live else 0, t.rows, live.get(t.table) != t)
        for t in manifest.tables
    )
    return tables, [f"{table} is newer than the backup and is in the kept database only" for table in sorted(created)]


def _complete(live: Target, copy: Target, manifest: Manifest) -> list[str]:
    """Add to the copy what a backup does not hold; return what is still missing."""
    notices = [*switch.carry_foreign_access(live, copy), *switch.refresh(copy, manifest)]
    with copy.connect("restore") as session:
        session.execute("ANALYZE")
    if lost := [text for text in manifest.left_out if not text.startswith(switch.CARRIED)]:
        notices.append(f"not in the backup, create again where needed: {'; '.join(lost)}")
    return notices
