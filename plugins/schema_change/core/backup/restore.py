"""Put the rows of a backup's tables back, in one transaction; writes made since the backup are lost."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.backup import programs
from schema_change.core.backup.checksums import TableChecksum, checksums, differences, shapes_of
from schema_change.core.backup.dump import DATA_FILE
from schema_change.core.backup.files import CHUNK_BYTES, local_files
from schema_change.core.backup.manifest import Manifest, read_manifest
from schema_change.core.binaries import Installation, client_for
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError, LockNotAvailable
from schema_change.core.names import Table, split
from upath import UPath

log = logging.getLogger(__name__)

_NAME = rb'(?:"(?:[^"]|"")+"|[^".\s(]+)'
_COPY = re.compile(rb"^COPY (?P<table>" + _NAME + rb"\." + _NAME + rb")(?: \(| FROM).*;$")
_ENABLE = {"O": sql.SQL("ENABLE"), "A": sql.SQL("ENABLE ALWAYS"), "R": sql.SQL("ENABLE REPLICA")}


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

    @property
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
            "lost_writes": self.lost_writes,
        }


def restore_tables(
    target: Target,
    folder: UPath,
    tables: Sequence[Table] | None = None,
    *,
    note: Callable[[str], None] = log.info,
) -> RestoreResult:
    """Replace the rows of tables by those of the backup; None means all tables whose rows are in it.

    One transaction: lock, compare, empty, load the backup's columns (others get their default), check foreign keys and
    checksums, commit. The user's triggers do not fire, sequences stay where they are, and a table that still holds the
    backup's rows is left alone. Raises BackupError, with nothing changed, when a table no longer has the backup's
    columns, a row elsewhere refers to a row that would be gone, or the result differs; LockNotAvailable (retryable)
    when a table is in use.
    """
    manifest = read_manifest(folder)
    with target.connect("restore") as session:
        chosen = _choose(session, manifest, tables)
        if not chosen:
            raise BackupError(f"{folder} holds no rows of the tables asked for", hint="name tables of the backup")
        client = client_for(max(session.info.server_version, manifest.client_major * 10000))
        try:
            with local_files(folder, [manifest.file(DATA_FILE)]) as paths, session.transaction():
                result = _replace(session, client, manifest, chosen, paths[DATA_FILE])
        except psycopg.errors.LockNotAvailable as error:
            raise LockNotAvailable(
                f"a table to restore on {target.conn_id} is in use", hint="end the sessions that use it, then try again"
            ) from error
        except psycopg.Error as error:
            raise BackupError(
                f"the rows could not be restored, nothing was changed: {str(error).strip()}",
                hint="restore the whole database (a backup of scope database), or repair the cause and try again",
            ) from error
    note(result.lost_writes)
    return result


def _names(tables: Sequence[Table]) -> dict[str, list[str]]:
    return {"schemas": [t.schema for t in tables], "names": [t.name for t in tables]}


def _choose(session: Connection, manifest: Manifest, tables: Sequence[Table] | None) -> tuple[TableChecksum, ...]:
    if tables is None:
        return manifest.tables
    rows = session.execute(sqlfiles.block("queries/backup", "leaves"), _names(tables)).fetchall()
    wanted = {Table(row[0], row[1]) for row in rows} | set(tables)
    return tuple(t for t in manifest.tables if t.table in wanted)


def _replace(
    session: Connection, client: Installation, manifest: Manifest, chosen: Sequence[TableChecksum], data: Path
) -> RestoreResult:
    tables = [t.table for t in chosen]
    _check_shapes(session, chosen)
    _lock(session, tables)
    _check_shapes(session, chosen)
    before = {c.table: c for c in checksums(session, tables, manifest.columns)}
    changed = [t for t in chosen if differences([t], [before[t.table]])]
    if changed:
        _reload(session, client, [t.table for t in changed], data)
        after = checksums(session, [t.table for t in changed], manifest.columns)
        if unequal := differences(changed, after):
            raise BackupError(
                f"the restored rows differ from the backup, nothing was changed: {'; '.join(unequal)}",
                hint="types may have changed since the backup: restore the whole database instead",
            )
    beside = session.execute(sqlfiles.block("queries/backup", "new_partitions"), _names(tables)).fetchall()
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


def _foreign_keys(session: Connection, tables: Sequence[Table]) -> list[tuple[Table, str, str, str | None, Table]]:
    """Return (table, name, definition, comment, referenced table) of the foreign keys from or to the tables."""
    rows = session.execute(sqlfiles.block("queries/backup", "foreign_keys"), _names(tables)).fetchall()
    return [(Table(r[0], r[1]), r[2], r[3], r[4], Table(r[5], r[6])) for r in rows]


def _lock(session: Connection, tables: Sequence[Table]) -> None:
    """Lock the tables and their foreign-key partners, in one order for everybody."""
    keys = _foreign_keys(session, tables)
    partners = {key[0] for key in keys} | {key[4] for key in keys}
    every = sql.SQL(", ").join(t.identifier for t in sorted({*tables, *partners}))
    session.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(every))


def _reload(session: Connection, client: Installation, tables: Sequence[Table], data: Path) -> None:
    """Empty and load tables without triggers and foreign keys; adding the keys again checks them set by set."""
    keys = _foreign_keys(session, tables)
    triggers = session.execute(sqlfiles.block("queries/backup", "enabled_triggers"), _names(tables)).fetchall()
    drop = [
        sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table.identifier, sql.Identifier(name))
        for table, name, *_ in keys
    ]
    empty = sql.SQL("TRUNCATE {} CONTINUE IDENTITY").format(
        sql.SQL(", ").join(sql.SQL("ONLY {}").format(t.identifier) for t in tables)
    )
    _execute(session, [*drop, *(_trigger(row, sql.SQL("DISABLE")) for row in triggers), empty])
    session.execute(sqlfiles.block("queries/backup", "pin_input"))
    _load(session, client, tables, data)
    _execute(session, [_trigger(row, _ENABLE[row[3]]) for row in triggers])
    _execute(session, [statement for key in keys for statement in _add_key(key)])


def _execute(session: Connection, statements: Sequence[sql.Composed]) -> None:
    if statements:
        session.execute(sql.SQL(";\n").join(statements))


def _trigger(row: Sequence[Any], verb: sql.SQL) -> sql.Composed:
    table = Table(row[0], row[1]).identifier
    return sql.SQL("ALTER TABLE ONLY {} {} TRIGGER {}").format(table, verb, sql.Identifier(row[2]))


def _add_key(key: tuple[Table, str, str, str | None, Table]) -> Iterator[sql.Composed]:
    table, name, definition, comment, _ = key
    # The definition is pg_get_constraintdef()'s own text.
    yield sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
        table.identifier,
        sql.Identifier(name),
        sql.SQL(definition),  # type: ignore[arg-type]
    )
    if comment is not None:
        yield sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
            sql.Identifier(name), table.identifier, sql.Literal(comment)
        )


def _load(session: Connection, client: Installation, tables: Sequence[Table], data: Path) -> None:
    """Stream the tables' rows out of the dump into this transaction."""
    with tempfile.TemporaryDirectory(prefix="schema_change_") as folder:
        chosen = Path(folder) / "list"
        chosen.write_text("\n".join(_entries(client, tables, data)) + "\n", encoding="utf-8")
        arguments = [client.tool("pg_restore"), "--data-only", f"--use-list={chosen}", "--file=-", str(data)]
        with programs.output_of(arguments, _PLAIN) as output:
            for statement in iter(lambda: _next_copy(output, tables), None):
                with session.cursor() as cursor, cursor.copy(statement) as copy:
                    for block in _rows(output):
                        copy.write(block)


_PLAIN: Mapping[str, str] = {"LC_ALL": "C"}


def _entries(client: Installation, tables: Sequence[Table], data: Path) -> list[str]:
    """Return the table of contents' entries of the tables, and perhaps some more whose names begin alike."""
    listing = programs.run([client.tool("pg_restore"), "--list", str(data)], _PLAIN).decode()
    marks = tuple(f" TABLE DATA {t.schema} {t.name} " for t in tables)
    return [line for line in listing.splitlines() if any(mark in line for mark in marks)]


def _next_copy(output: IO[bytes], tables: Sequence[Table]) -> bytes | None:
    """Go to the next COPY statement of one of the tables and return it."""
    for line in output:
        if not (match := _COPY.match(line)):
            continue
        if Table(*split(match["table"].decode())) in tables:
            return line.rstrip()
        for _ in _rows(output):
            pass
    return None


def _rows(output: IO[bytes]) -> Iterator[bytes]:
    r"""Yield the lines up to ``\.`` in blocks; a row of COPY's text format never contains a newline."""
    block: list[bytes] = []
    size = 0
    for line in output:
        if line == b"\\.\n":
            break
        block.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            yield b"".join(block)
            block, size = [], 0
    yield b"".join(block)
