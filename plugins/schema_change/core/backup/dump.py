"""Take a backup: one snapshot, dumped by pg_dump, counted and checksummed; the manifest is written last."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg import IsolationLevel
from upath import UPath

from schema_change.core import sqlfiles
from schema_change.core.backup import files, programs
from schema_change.core.backup.checksums import TableChecksum, checksums
from schema_change.core.backup.databases import locale_of
from schema_change.core.backup.days import Days, days_with_rows, write_days
from schema_change.core.backup.manifest import BackupFile, DayRows, ForeignServer, Manifest, write_manifest
from schema_change.core.backup.scope import backup_scope
from schema_change.core.binaries import Installation, client_for
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError
from schema_change.core.names import Table, quote
from schema_change.core.wording import counted, sized

log = logging.getLogger(__name__)

#: The folder that pg_dump's directory format writes, for any number of jobs of pg_restore.
DUMP = "dump"
LARGE_OBJECTS = "large_objects.dump"

#: gzip's fastest level: every client of every version can read it, which zstd and lz4 do not promise.
_COMMON = ("--compress=1", "--encoding=UTF8", "--no-password", "--lock-wait-timeout=60s")
_FILTER_FILE_SINCE = 17


@dataclass(frozen=True)
class _Job:
    """Where a backup comes from and goes to; ``name`` is what its sessions on the server are called."""

    target: Target
    session: Connection
    client: Installation
    folder: UPath
    name: str
    note: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """An exported snapshot and what the catalog says in it.

    ``without_rows`` are pg_dump's patterns of the tables and sequences of which only the definitions are dumped.
    """

    name: str
    taken_at: datetime
    lsn: str
    tables: tuple[Table, ...]
    days: tuple[Days, ...]
    without_rows: tuple[str, ...]
    everything: bool
    inventory: Mapping[str, Any]


def take_backup(
    target: Target,
    tables: Sequence[Table],
    folder: UPath,
    *,
    everything: bool,
    run_id: UUID,
    templates: Sequence[str] = (),
    note: Callable[[str], None] = log.info,
) -> Manifest:
    """Back up the whole schema and the rows of the tables (see ``backup_scope``), or with ``everything`` all rows.

    Of these templates of the warehouse, with ``everything`` of all, the rows of the daily views are in it too.

    Writes the folder ``dump``, ``days_….gz``, ``large_objects.dump`` (with ``everything``, when there are any) and last
    ``manifest.json`` into the folder, replacing an earlier try. One session holds the snapshot; the dump and the
    checksums see exactly the same rows, whoever writes meanwhile. On failure no file is left and BackupError is raised.
    """
    files.remove(folder)
    files.prepare(folder)
    try:
        with target.connect("backup") as session:
            name = f"schema_change:dump:{run_id}"
            session.execute(sqlfiles.block("queries/backup", "end_earlier_try"), {"name": name})
            restore_point = _restore_point(session, run_id)
            job = _Job(target, session, client_for(session.info.server_version), folder, name, note)
            with _snapshot(session, tables, templates, everything=everything) as snapshot:
                note(f"snapshot {snapshot.name} at {snapshot.lsn}, dumped by pg_dump {job.client.major}")
                written, days, checked = _dump_and_count(job, snapshot)
                manifest = _manifest(
                    job,
                    snapshot,
                    written=written,
                    days=days,
                    checked=checked,
                    run_id=run_id,
                    restore_point=restore_point,
                )
    except BaseException as error:
        files.remove(folder)
        if isinstance(error, psycopg.Error):
            raise BackupError(f"the backup of {target.conn_id} failed: {error}", hint="see the cause above") from error
        raise
    write_manifest(folder, manifest)
    note(f"backup of {manifest.contents}: {folder}")
    return manifest


def _restore_point(session: Connection, run_id: UUID) -> str | None:
    allowed = session.execute(sqlfiles.block("queries/backup", "may_create_restore_point")).fetchone()
    if not allowed or not allowed[0]:
        return None
    name = f"schema_change_{run_id}"
    session.execute(sqlfiles.block("queries/backup", "create_restore_point"), {"name": name})
    return name


@contextmanager
def _snapshot(
    session: Connection, tables: Sequence[Table], templates: Sequence[str], *, everything: bool
) -> Iterator[_Snapshot]:
    session.isolation_level = IsolationLevel.REPEATABLE_READ
    session.read_only = True
    with session.transaction():
        exported = session.execute(sqlfiles.block("queries/backup", "export_snapshot")).fetchone()
        cursor = session.execute(sqlfiles.block("queries/backup", "inventory"), {"everything": everything})
        row = cursor.fetchone()
        if exported is None or row is None or cursor.description is None:
            raise BackupError("the server exported no snapshot", hint="connect to the server itself, not to a standby")
        inventory = {column.name: value for column, value in zip(cursor.description, row, strict=True)}
        if not inventory["schemas"]:
            raise BackupError(f"database {session.info.dbname} has no schema to back up", hint="skip the backup")
        scope = backup_scope(session, (), (), everything=True) if everything else tuple(tables)
        without_rows = () if everything else tuple(_without_rows(session, scope))
        days = days_with_rows(session, None if everything else templates)
        yield _Snapshot(exported[0], exported[1], exported[2], scope, days, without_rows, everything, inventory)


def _without_rows(session: Connection, wanted: Sequence[Table]) -> Iterator[str]:
    """Yield patterns of all tables and sequences but these tables and their sequences.

    pg_dump sends a query for each, which finds a single name by the index (0.2 ms); others scan the whole catalog.
    """
    rows = session.execute(
        sqlfiles.block("queries/backup", "without_rows"),
        {"schemas": [t.schema for t in wanted], "names": [t.name for t in wanted]},
    ).fetchall()
    schemas = {table.schema for table in wanted}
    for schema, names in rows:
        patterns = map(quote, names) if schema in schemas else "*"
        yield from (f"{quote(schema)}.{pattern}" for pattern in patterns)


def _dump_and_count(
    job: _Job, snapshot: _Snapshot
) -> tuple[tuple[BackupFile, ...], tuple[DayRows, ...], tuple[TableChecksum, ...]]:
    """Dump while the session that holds the snapshot counts."""
    with ThreadPoolExecutor(1, thread_name_prefix="checksums") as pool:
        counting = pool.submit(checksums, job.session, snapshot.tables)
        try:
            written = _dump(job, snapshot)
            days, more = write_days(job.target, snapshot.name, snapshot.days, job.folder)
            return (*written, *more), days, counting.result()
        except BaseException:
            # A cancel that arrives between two statements is lost, so again until the counting has ended.
            while not counting.done():
                job.session.cancel_safe(timeout=5)
                wait([counting], timeout=0.1)
            raise


def _dump(job: _Job, snapshot: _Snapshot) -> tuple[BackupFile, ...]:
    """Dump in parallel into a folder and bring that to its place; stream the large objects there.

    Schemas and extensions are selected by name: that leaves out foreign servers and user mappings, which hold secrets.
    """
    tool, common = job.client.tool("pg_dump"), (*_COMMON, f"--snapshot={snapshot.name}")
    with job.target.client_environment() as environment, files.workshop(job.folder) as folder:
        environment["PGAPPNAME"] = job.name
        chosen = _selection(job, snapshot, folder / "filter")
        # What is only on its way to other storage need not survive a crash of this machine.
        safely = () if files.is_local(job.folder) else ("--no-sync",)
        form = ("--format=directory", f"--jobs={programs.jobs()}", f"--file={folder / DUMP}", *safely)
        programs.run([tool, *form, *common, *chosen], environment)
        written = files.store(folder / DUMP, job.folder)
        if snapshot.everything and snapshot.inventory["large_objects"]:
            # The directory format has a file for each of them.
            only = ("--format=custom", "--data-only", "--blobs", "--exclude-table-data=*.*")
            with programs.output_of([tool, *only, *common], environment) as output:
                written += (files.write_stream(job.folder, LARGE_OBJECTS, output),)
    job.note(f"{counted(len(written), 'file')}, {sized(sum(file.bytes for file in written))}")
    return written


def _selection(job: _Job, snapshot: _Snapshot, filter_file: Path) -> list[str]:
    """Return the arguments that select objects; thousands of tables do not fit a command line, but a filter file."""
    inventory = snapshot.inventory
    chosen = [("include", kind, quote(n)) for kind in ("schema", "extension") for n in inventory[f"{kind}s"]]
    chosen += [("exclude", "table_data", pattern) for pattern in snapshot.without_rows]
    if job.client.major < _FILTER_FILE_SINCE:
        flags = {"schema": "--schema", "extension": "--extension", "table_data": "--exclude-table-data"}
        return [f"{flags[kind]}={pattern}" for _, kind, pattern in chosen]
    lines = (f"{verb} {kind} {pattern}".replace("\\", r"\\").replace("\n", r"\n") for verb, kind, pattern in chosen)
    filter_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"--filter={filter_file}"]


def _manifest(
    job: _Job,
    snapshot: _Snapshot,
    *,
    written: tuple[BackupFile, ...],
    days: tuple[DayRows, ...],
    checked: tuple[TableChecksum, ...],
    run_id: UUID,
    restore_point: str | None,
) -> Manifest:
    session, inventory = job.session, snapshot.inventory
    stored = (*snapshot.tables, *(view for found in snapshot.days for view, _ in found.views))
    size = session.execute(
        sqlfiles.block("queries/backup", "total_bytes"),
        {"schemas": [t.schema for t in stored], "names": [t.name for t in stored]},
    ).fetchone()
    matviews = session.execute(sqlfiles.block("queries/backup", "matviews")).fetchall()
    return Manifest(
        run_id=str(run_id),
        conn_id=job.target.conn_id,
        database=session.info.dbname,
        scope="database" if snapshot.everything else "tables",
        taken_at=snapshot.taken_at,
        server_version=session.info.server_version,
        client_major=job.client.major,
        lsn=snapshot.lsn,
        restore_point=restore_point,
        files=written,
        tables=checked,
        data_bytes=size[0] if size else 0,
        locale=locale_of(session, session.info.dbname),
        matviews=tuple(Table(row[0], row[1]) for row in matviews if row[2]),
        days=days,
        foreign_servers=tuple(ForeignServer(s["name"], s["wrapper"]) for s in inventory["foreign_servers"]),
        roles=tuple(sorted(inventory["roles"])),
        left_out=tuple(inventory["left_out"]),
    )
