"""Scratch databases: a backup restored beside everything else, to verify it and to rehearse on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

import psycopg
from psycopg import sql
from upath import UPath

from schema_change.core import sqlfiles
from schema_change.core.backup import databases
from schema_change.core.backup.days import verify_days
from schema_change.core.backup.files import local_files
from schema_change.core.backup.load import load
from schema_change.core.backup.manifest import Manifest, read_manifest
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError

log = logging.getLogger(__name__)

PREFIX = "schema_change_scratch_"
#: Above this size nothing is restored on the target's own server: its disk and its cache belong to the application.
SCRATCH_LIMIT_BYTES = 1 << 30


def scratch_name(run_id: UUID) -> str:
    """Return the name of a run's scratch database."""
    return f"{PREFIX}{run_id.hex[:8]}"


def scratch_server(target: Target, scratch: Target | None, manifest: Manifest) -> Target:
    """Return the server for a scratch copy: the configured one, or the target's own while the backup is small.

    Raises BackupError, naming the limit, when a scratch connection is needed.
    """
    if scratch is not None:
        return scratch
    if manifest.data_bytes > SCRATCH_LIMIT_BYTES:
        raise BackupError(
            f"the tables in the backup of {target.conn_id} have {manifest.data_bytes / 2**30:.1f} GiB; at most "
            f"{SCRATCH_LIMIT_BYTES / 2**30:.0f} GiB is restored on the target's own server",
            hint="configure a scratch connection to another server",
        )
    return target


def restore_to_scratch(folder: UPath, server: Target, name: str, note: Callable[[str], None] = log.info) -> Target:
    """Restore a backup into a new database of that name, verify rows and checksums, and return it.

    A leftover of an earlier try is replaced. A superuser restores owners and grants, creating missing roles as NOLOGIN;
    for anybody else everything belongs to the connecting user. Materialized views are left unpopulated, as are
    foreign servers without options. When anything fails the database is dropped again and BackupError is raised.
    """
    manifest = read_manifest(folder)
    copy = server.with_database(name)
    drop_scratch(server, name)
    with server.connect("scratch") as session:
        databases.create(session, name, manifest.locale, f"schema_change: scratch copy for run {manifest.run_id}")
        owners = _prepare_roles(session, manifest, note)
    try:
        with local_files(folder, manifest.files) as files:
            load(copy, manifest, files, owners=owners, note=note)
            verify_days(copy, manifest.days, files)
    except BaseException as error:
        drop_scratch(server, name)
        if isinstance(error, psycopg.Error):
            raise BackupError(f"the backup could not be restored: {error}", hint="see the cause above") from error
        raise
    with server.connect("scratch") as session:
        databases.describe(session, name, _as_restored(manifest))
    for text in _unlike(manifest):
        note(text)
    return copy


def scratch_to_change(folder: UPath, server: Target, name: str, note: Callable[[str], None] = log.info) -> Target:
    """Return a scratch database to change: the one the backup was verified in, once, else one restored anew.

    Its planner has statistics, as that of the original has.
    """
    manifest = read_manifest(folder)
    with server.connect("scratch") as session:
        found = session.execute(sqlfiles.block("queries/backup", "comment_on_database"), {"name": name}).fetchone()
        if not found or found[0] != _as_restored(manifest):
            restore_to_scratch(folder, server, name, note)
        databases.describe(session, name, f"schema_change: changed by run {manifest.run_id}")
    copy = server.with_database(name)
    with copy.connect("scratch") as session:
        for backed in manifest.tables:
            session.execute(sql.SQL("ANALYZE {}").format(backed.table.identifier))
    return copy


def _as_restored(manifest: Manifest) -> str:
    return f"schema_change: the backup of run {manifest.run_id} at {manifest.lsn}, {manifest.taken_at}, unchanged"


def _prepare_roles(session: Connection, manifest: Manifest, note: Callable[[str], None]) -> bool:
    """Tell whether owners and grants can be restored, with the roles they need."""
    row = session.execute(sqlfiles.block("queries/backup", "may_create_databases")).fetchone()
    if row is None or not row[1]:
        note(f"{session.info.user} is no superuser: owners and grants are not restored on the scratch copy")
        return False
    missing = session.execute(
        sqlfiles.block("queries/backup", "missing_roles"), {"names": list(manifest.roles)}
    ).fetchall()
    if missing:
        session.execute(sql.SQL(";\n").join(sql.SQL("CREATE ROLE {}").format(sql.Identifier(r[0])) for r in missing))
        note(f"created on the scratch server, without login: {', '.join(r[0] for r in missing)}")
    return True


def _unlike(manifest: Manifest) -> list[str]:
    """Say how the copy differs from the original."""
    texts = []
    if manifest.matviews:
        texts.append(f"unpopulated in the copy: {', '.join(map(str, manifest.matviews))}")
    if manifest.left_out:
        texts.append(f"not in the backup: {'; '.join(manifest.left_out)}")
    return texts


def drop_scratch(server: Target, name: str) -> None:
    """Drop a scratch database when it exists, with the sessions on it. Refuses any other database."""
    if not name.startswith(PREFIX):
        raise BackupError(f"{name} is not a scratch database", hint=f"their names begin with {PREFIX}")
    with server.connect("scratch") as session:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def list_scratch(server: Target) -> tuple[str, ...]:
    """Return the scratch databases on a server; one whose run is over was left by a killed task and can be dropped."""
    with server.connect("scratch") as session:
        rows = session.execute(sqlfiles.block("queries/backup", "scratch_databases"), {"prefix": PREFIX}).fetchall()
    return tuple(row[0] for row in rows)
