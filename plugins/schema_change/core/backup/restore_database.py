"""Put a whole database back: restored beside the live one, verified, then the two are renamed in one transaction."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from upath import UPath

from schema_change.core import sqlfiles
from schema_change.core.backup import databases, programs
from schema_change.core.backup.checksums import checksums, differences, shapes_of
from schema_change.core.backup.files import local_files
from schema_change.core.backup.load import load
from schema_change.core.backup.manifest import Manifest, read_manifest
from schema_change.core.backup.restore import RestoredTable, RestoreResult
from schema_change.core.binaries import client_for
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError
from schema_change.core.names import short_name

log = logging.getLogger(__name__)


def restore_database(
    target: Target, folder: UPath, *, terminate_sessions: bool = False, note: Callable[[str], None] = log.info
) -> RestoreResult:
    """Replace a database by its backup; the old one is kept as ``<name>_before_restore_<stamp>``.

    The backup (of scope ``database``) is restored beside the live database and verified; foreign servers and user
    mappings, the schema ``schema_change``, and the database's owner, grants, settings and comment are carried over
    from the live one; materialized views are refreshed. Then both are renamed in one transaction, which needs that
    nobody is connected: with ``terminate_sessions`` sessions are ended, else BackupError names them. Until that
    transaction commits the live database is untouched and the copy is dropped when anything fails.
    """
    manifest = read_manifest(folder)
    if manifest.scope != "database":
        raise BackupError(
            f"{folder} holds the rows of {len(manifest.tables)} tables, not of the whole database",
            hint="restore its tables, or take backups of scope database",
        )
    stamp = f"{datetime.now(UTC):%Y%m%d%H%M%S}"
    new, kept = short_name(target.database, "restore", stamp), short_name(target.database, "before_restore", stamp)
    with _maintenance(target).connect("restore") as admin:
        if not terminate_sessions:
            _refuse_sessions(admin, target.database)
        found = databases.properties(admin, target.database)
        databases.create(admin, new, databases.locale_of(admin, target.database), "schema_change: being restored")
        try:
            copy = target.with_database(new)
            before = _live_state(target, manifest)
            with local_files(folder, manifest.files) as paths:
                # Servers first: the loader then finds them with their options, and a refresh can use them.
                load(copy, manifest, paths, owners=True, note=note)
            notices = [*_carry_foreign_access(target, copy), *_refresh(copy, manifest), *_left_out(manifest)]
            databases.carry_properties(admin, found, new)
            with _closed(admin, target.database, terminate=terminate_sessions) as live:
                _carry_registry(live, copy)
                note(f"{new} is complete; renaming {target.database} to {kept}")
                live.close()
                _rename(admin, target.database, new, kept)
        except BaseException:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(new)))
            raise
    result = RestoreResult(
        taken_at=manifest.taken_at,
        restored_at=datetime.now(UTC),
        tables=tuple(
            RestoredTable(t.table, *before.get(t.table, (0, True))) for t in manifest.tables
        ),
        notices=tuple(notices),
        kept_database=kept,
    )
    note(result.lost_writes)
    return result
