"""Row counts and order-independent checksums, one pass per table, comparable between sessions and servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import BackupError
from schema_change.core.names import Table

#: A control character that no text has in practice.
_SEPARATOR = "\x1f"
#: Columns in one text: few enough for concat_ws(), and for the bits of a bigint.
_TOGETHER = 50


@dataclass(frozen=True, slots=True)
class TableChecksum:
    """What a table held: its rows, and the sum of the hashes of the listed columns of each row, as text."""

    table: Table
    rows: int
    checksum: str
    columns: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "schema": self.table.schema,
            "name": self.table.name,
            "rows": self.rows,
            "checksum": self.checksum,
            "columns": list(self.columns),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote."""
        return cls(Table(data["schema"], data["name"]), data["rows"], data["checksum"], tuple(data["columns"]))


@dataclass(frozen=True, slots=True)
class Shape:
    """A table as it is now: pg_class.relkind, the columns that are stored, and those an INSERT must give a value."""

    kind: str
    stored: tuple[str, ...]
    required: tuple[str, ...]


def shapes_of(connection: Connection, tables: Sequence[Table]) -> dict[Table, Shape]:
    """Return the shapes of the tables that exist; generated columns are not stored columns."""
    rows = connection.execute(
        sqlfiles.block("queries/backup", "stored_columns"),
        {"schemas": [t.schema for t in tables], "names": [t.name for t in tables]},
    ).fetchall()
    return {Table(row[0], row[1]): Shape(row[2], tuple(row[3]), tuple(row[4])) for row in rows}


def checksums(
    connection: Connection,
    tables: Sequence[Table],
    columns: Mapping[Table, tuple[str, ...]] | None = None,
) -> tuple[TableChecksum, ...]:
    """Count and checksum tables, independent of the order of rows, in the order asked for.

    One pass per table, all in one transaction, with pinned output formats and row security off: it fails rather than
    skip rows. ``columns`` restricts a table to the columns of an earlier checksum; without it every stored column
    counts, generated ones do not. A partitioned table counts with its partitions, any other table without its children.
    Call it in a REPEATABLE READ transaction when the tables must be compared with each other; the formats then stay
    pinned until that transaction ends. Raises BackupError when a table, or a column asked for, is gone.
    """
    with connection.transaction():
        connection.execute(sqlfiles.block("queries/backup", "pin_formats"))
        shapes = shapes_of(connection, tables)
        return tuple(_one(connection, table, shapes.get(table), (columns or {}).get(table)) for table in tables)


def _one(connection: Connection, table: Table, shape: Shape | None, wanted: tuple[str, ...] | None) -> TableChecksum:
    if shape is None:
        raise BackupError(f"table {table} does not exist here", hint="compare the tables that both sides have")
    names = shape.stored if wanted is None else wanted
    if missing := set(names) - set(shape.stored):
        raise BackupError(
            f"{table} has no stored column {', '.join(sorted(missing))}",
            hint="compare the columns that both sides have",
        )
    only = sql.SQL("" if shape.kind == "p" else "ONLY ")
    return TableChecksum(table, *checksum_of(connection, sql.SQL("{}{}").format(only, table.identifier), names), names)


def checksum_of(connection: Connection, rows: sql.Composable, names: Sequence[str]) -> tuple[int, str]:
    """Count and checksum rows: a table, or a query in brackets with its alias. The formats are pinned by the caller."""
    query = sqlfiles.block("queries/backup", "checksum").format(hash=_hash(names), rows=rows)
    row = connection.execute(query).fetchone()
    if row is None:
        raise BackupError("a count gave no row", hint="try again")
    return row[0], row[1]


def _hash(columns: Sequence[str]) -> sql.Composable:
    """Return the expression for the hash of a row: of its columns as text, with a bit set for each NULL among them.

    concat_ws() costs less than half of what a row's own text does, which quotes every character. It skips NULLs, hence
    the bits; it takes at most 100 columns, so the hash of those before is where the next ones begin. The sum of bigints
    is a numeric: it cannot overflow, and costs less than to add up numerics.
    """
    hashed: sql.Composable = sql.SQL("0")
    for start in range(0, len(columns), _TOGETHER):
        part = [sql.Identifier(name) for name in columns[start : start + _TOGETHER]]
        nulls = (sql.SQL("CASE WHEN {} IS NULL THEN {} ELSE 0 END").format(c, 1 << bit) for bit, c in enumerate(part))
        # Under a column's own collation, different texts may be equal, and two columns may not agree on one.
        texts = sql.SQL('concat_ws({}, {}) COLLATE pg_catalog."C"').format(_SEPARATOR, sql.SQL(", ").join(part))
        hashed = sql.SQL("hashtextextended({texts}, {before} # ({nulls}))").format(
            texts=texts, before=hashed, nulls=sql.SQL(" + ").join(nulls)
        )
    return hashed


def differences(before: Sequence[TableChecksum], after: Sequence[TableChecksum]) -> tuple[str, ...]:
    """Say, table by table, where two lists of checksums differ; empty means equal."""
    found = {c.table: c for c in after}
    lines: list[str] = []
    for old in before:
        new = found.get(old.table)
        if new is None:
            lines.append(f"{old.table}: missing")
        elif new.rows != old.rows:
            lines.append(f"{old.table}: {new.rows} rows instead of {old.rows}")
        elif new.checksum != old.checksum:
            lines.append(f"{old.table}: {new.rows} rows as before, with other values")
    return tuple(lines)
