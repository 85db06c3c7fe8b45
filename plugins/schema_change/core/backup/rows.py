"""Empty tables and load them from a dump inside an open transaction, with nothing of the user's firing."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.backup import programs
from schema_change.core.backup.files import CHUNK_BYTES
from schema_change.core.binaries import Installation
from schema_change.core.database import Connection
from schema_change.core.names import Table, split

_NAME = rb'(?:"(?:[^"]|"")+"|[^".\s(]+)'
_COPY = re.compile(rb"^COPY (?P<table>" + _NAME + rb"\." + _NAME + rb")(?: \(| FROM).*;$")
_ENABLE = {"O": sql.SQL("ENABLE"), "A": sql.SQL("ENABLE ALWAYS"), "R": sql.SQL("ENABLE REPLICA")}
#: pg_restore that writes text needs no server, and no variable of the caller's may lead it to one.
_NO_SERVER = {"LC_ALL": "C"}


def arrays(tables: Sequence[Table]) -> dict[str, list[str]]:
    """Return tables as the two parameters that set-based queries take."""
    return {"schemas": [t.schema for t in tables], "names": [t.name for t in tables]}


@dataclass(frozen=True, slots=True)
class _ForeignKey:
    table: Table
    name: str
    definition: str
    comment: str | None
    references: Table

    def drop(self) -> sql.Composed:
        return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(self.table.identifier, sql.Identifier(self.name))

    def add(self) -> Iterator[sql.Composed]:
        # The definition is pg_get_constraintdef()'s own text.
        definition = sql.SQL(self.definition)
        name, table = sql.Identifier(self.name), self.table.identifier
        yield sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, name, definition)
        if self.comment is not None:
            yield sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(name, table, sql.Literal(self.comment))


def _foreign_keys(session: Connection, tables: Sequence[Table]) -> list[_ForeignKey]:
    rows = session.execute(sqlfiles.block("queries/backup", "foreign_keys"), arrays(tables)).fetchall()
    return [_ForeignKey(Table(r[0], r[1]), r[2], r[3], r[4], Table(r[5], r[6])) for r in rows]


def involved(session: Connection, tables: Sequence[Table]) -> list[Table]:
    """Return tables and their foreign-key partners: what must be locked to replace the rows of the tables."""
    partners = {t for key in _foreign_keys(session, tables) for t in (key.table, key.references)}
    return sorted({*tables, *partners})


def reload(session: Connection, client: Installation, tables: Sequence[Table], data: Path) -> None:
    """Replace the rows of locked tables by those of a dump.

    Foreign keys from and to the tables are dropped and added again: that checks them set by set, needs no superuser,
    and keeps ON DELETE actions from reaching other tables. Sequences stay where they are.
    """
    keys = _foreign_keys(session, tables)
    triggers = session.execute(sqlfiles.block("queries/backup", "enabled_triggers"), arrays(tables)).fetchall()
    empty = sql.SQL("TRUNCATE {} CONTINUE IDENTITY").format(
        sql.SQL(", ").join(sql.SQL("ONLY {}").format(t.identifier) for t in tables)
    )
    disable = [_trigger(Table(r[0], r[1]), r[2], sql.SQL("DISABLE")) for r in triggers]
    _execute(session, [*(key.drop() for key in keys), *disable, empty])
    session.execute(sqlfiles.block("queries/backup", "pin_input"))
    _load(session, client, tables, data)
    _execute(session, [_trigger(Table(r[0], r[1]), r[2], _ENABLE[r[3]]) for r in triggers])
    _execute(session, [statement for key in keys for statement in key.add()])


def _execute(session: Connection, statements: Sequence[sql.Composed]) -> None:
    if statements:
        session.execute(sql.SQL(";\n").join(statements))


def _trigger(table: Table, name: str, verb: sql.SQL) -> sql.Composed:
    return sql.SQL("ALTER TABLE ONLY {} {} TRIGGER {}").format(table.identifier, verb, sql.Identifier(name))


def _load(session: Connection, client: Installation, tables: Sequence[Table], data: Path) -> None:
    """Stream the tables' rows out of the dump into this transaction."""
    with tempfile.TemporaryDirectory(prefix="schema_change_") as folder:
        chosen = Path(folder) / "list"
        chosen.write_text("\n".join(_entries(client, tables, data)) + "\n", encoding="utf-8")
        arguments = [client.tool("pg_restore"), "--data-only", f"--use-list={chosen}", "--file=-", str(data)]
        with programs.output_of(arguments, _NO_SERVER) as output:
            for statement in iter(lambda: _next_copy(output, tables), None):
                with session.cursor() as cursor, cursor.copy(statement) as copy:
                    for block in _rows(output):
                        copy.write(block)


def _entries(client: Installation, tables: Sequence[Table], data: Path) -> list[str]:
    """Return the table of contents' entries of the tables, and perhaps some more whose names begin alike."""
    listing = programs.run([client.tool("pg_restore"), "--list", str(data)], _NO_SERVER).decode()
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
