"""Ranges of rows: by key, any types, also composite; by ctid in tables without a key.

A bound is a tuple of the key's values as text, which jsonb can hold and every type can read back. Ranges exclude their
lower bound and include their upper one. In a table without a key the bound ``(b,0)`` lies before every row of block b.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError
from schema_change.core.names import Table

Bound = tuple[str, ...]
#: So much of a table is looked at to cut it: enough that the shards of a large one differ by a few percent.
_SAMPLE_BYTES = 16 * 1024 * 1024
_AND, _COMMA = sql.SQL(" AND "), sql.SQL(", ")


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """One column of a key: the schema of its type's comparison operators, and its hash function, when it has one."""

    name: str
    type: str
    operators: str = "pg_catalog"
    hash: str | None = None

    @property
    def identifier(self) -> sql.Identifier:
        """Return the column for composing SQL."""
        return sql.Identifier(self.name)

    @property
    def bits(self) -> sql.Composed | None:
        """Return an integer whose last bit differs about half of the time between neighbours; None when there is none.

        That of a whole number alternates, which halves pages exactly; other bits help where numbers are far apart.
        """
        if self.type in ("smallint", "integer", "bigint"):
            return sql.SQL("{0} # ({0} >> 5) # ({0} >> 22)").format(self.identifier)
        return sql.SQL("{}({})").format(sql.SQL(self.hash), self.identifier) if self.hash else None

    def value(self, text: str) -> sql.Composed:
        """Return a value of this column as a typed literal."""
        return sql.SQL("{}::{}").format(sql.Literal(text), sql.SQL(self.type))

    def compare(self, operator: str, text: str) -> sql.Composed:
        """Return ``column <operator> value`` with the key's own operator."""
        return sql.SQL("{} OPERATOR({}.{}) {}").format(
            self.identifier, sql.Identifier(self.operators), sql.SQL(operator), self.value(text)
        )


@dataclass(frozen=True, slots=True)
class Ranges(ABC):
    """How the rows of one table are cut into ranges."""

    table: Table
    columns: tuple[KeyColumn, ...]

    @abstractmethod
    def first(self) -> Bound | None:
        """Return the lower bound of the whole table, None for none."""

    @abstractmethod
    def last(self, connection: Connection) -> Bound | None:
        """Return the upper bound of the whole table as it is now; None when it is empty."""

    def cuts(self, connection: Connection, shards: int, least_rows: int) -> list[Bound]:
        """Return the keys at which the table is cut into shards of about equal size, in order; none in a small table.

        They come from a sample of the table's pages, which costs the same for any key, however its values are spread.
        """
        bytes_, _, _ = size(connection, self.table)
        names = [sql.Identifier(f"k{place}") for place in range(len(self.columns))]
        keys = (sql.SQL("{}::text AS {}").format(c.identifier, n) for c, n in zip(self.columns, names, strict=True))
        query = sqlfiles.block("queries/backfill", "cut").format(
            table=self.table.identifier,
            keys=_COMMA.join(keys),
            names=_COMMA.join(sql.SQL("s.{}").format(n) for n in names),
            order=_COMMA.join(sql.Identifier(self.table.name, c.name) for c in self.columns),
            percent=sql.Literal(min(100.0, 100 * _SAMPLE_BYTES / max(bytes_, 1))),
            shards=sql.Literal(shards),
            least_rows=sql.Literal(least_rows),
        )
        with connection.transaction():
            connection.execute(sqlfiles.block("queries/backfill", "first_settings"))
            return [tuple(row) for row in connection.execute(query)]

    @abstractmethod
    def end_of_batch(self, connection: Connection, after: Bound | None, upper: Bound, rows: int) -> Bound:
        """Return the upper bound of a batch of about that many rows."""

    def within(self, after: Bound | None, upto: Bound) -> sql.Composed:
        """Return the predicate of the rows after one bound, up to the other."""
        plain = all(c.operators == "pg_catalog" for c in self.columns)
        build = self._row_comparison if plain else self._nested
        parts = [build("<=", upto)] if after is None else [build(">", after), build("<=", upto)]
        if len(self.columns) > 1:
            # Two row comparisons are not estimated as one range; one on the leading column is.
            first = self.columns[0]
            parts += [first.compare("<=", upto[0])] + ([] if after is None else [first.compare(">=", after[0])])
        return _AND.join(parts)

    def every_other(self, turn: int) -> sql.Composed | None:
        """Return the predicate of one half of the rows, 0 or 1, wherever they are; None when they cannot be halved."""
        bits = [bits for c in self.columns if (bits := c.bits)]
        if len(bits) < len(self.columns):
            return None
        return sql.SQL("({}) & 1 = {}").format(sql.SQL(" # ").join(bits), sql.Literal(turn))

    def nth(self, connection: Connection, predicate: sql.Composable, n: int, *, last: bool = False) -> Bound | None:
        """Return the key of the n-th row (from 1) that satisfies the predicate, in key order or the reverse."""
        direction = sql.SQL(" DESC" if last else "")
        row = connection.execute(
            sql.SQL("SELECT {texts} FROM {table} WHERE {predicate} ORDER BY {order} OFFSET {skip} LIMIT 1").format(
                texts=self.texts,
                table=self.table.identifier,
                predicate=predicate,
                # Qualified, because a bare name would mean the text of the select list.
                order=_COMMA.join(sql.Identifier(self.table.name, c.name) + direction for c in self.columns),
                skip=sql.Literal(n - 1),
            )
        ).fetchone()
        return tuple(row) if row else None

    def count(self, connection: Connection, predicate: sql.Composable) -> int:
        """Count the rows that satisfy the predicate."""
        block = sqlfiles.block("queries/backfill", "count")
        row = connection.execute(block.format(table=self.table.identifier, predicate=predicate)).fetchone()
        return int(row[0]) if row else 0

    @property
    def texts(self) -> sql.Composed:
        """Return the key's columns as text, separated by commas."""
        return _COMMA.join(sql.SQL("{}::text").format(c.identifier) for c in self.columns)

    def show(self, bound: Bound) -> str:
        """Return a key for people to read, such as ``id = 42``."""
        return ", ".join(f"{c.name} = {v}" for c, v in zip(self.columns, bound, strict=True))

    def _row_comparison(self, operator: str, bound: Bound) -> sql.Composed:
        if len(self.columns) == 1:
            return self.columns[0].compare(operator, bound[0])
        return sql.SQL("({}) {} ({})").format(
            _COMMA.join(c.identifier for c in self.columns),
            sql.SQL(operator),
            _COMMA.join(c.value(v) for c, v in zip(self.columns, bound, strict=True)),
        )

    def _nested(self, operator: str, bound: Bound) -> sql.Composed:
        """Compare column by column, for keys whose operators live in different schemas."""
        strict = operator.rstrip("=")
        *head, tail = zip(self.columns, bound, strict=True)
        predicate = tail[0].compare(operator, tail[1])
        for column, value in reversed(head):
            predicate = sql.SQL("({} OR ({} AND {}))").format(
                column.compare(strict, value), column.compare("=", value), predicate
            )
        return predicate


@dataclass(frozen=True, slots=True)
class KeyRanges(Ranges):
    """Ranges of a primary key or of a unique index on NOT NULL columns."""

    def first(self) -> Bound | None:
        """Return None: the first batch starts at the smallest key, whatever it is."""
        return None

    def last(self, connection: Connection) -> Bound | None:
        """Return the largest key."""
        return self.nth(connection, sql.SQL("true"), 1, last=True)

    def end_of_batch(self, connection: Connection, after: Bound | None, upper: Bound, rows: int) -> Bound:
        """Return the key that many rows further; read from the index alone."""
        return self.nth(connection, self.within(after, upper), rows) or upper


@dataclass(frozen=True, slots=True)
class BlockRanges(Ranges):
    """Ranges of blocks, for tables without a key; rows move when they are updated, so the table is swept again."""

    rows_per_block: float

    def first(self) -> Bound | None:
        """Return the start of block 0."""
        return ("(0,0)",)

    def last(self, connection: Connection) -> Bound | None:
        """Return the end of the last block."""
        _, blocks, _ = size(connection, self.table)
        return (f"({blocks},0)",) if blocks else None

    def end_of_batch(self, connection: Connection, after: Bound | None, upper: Bound, rows: int) -> Bound:
        """Return the bound some blocks further."""
        end = _block(after or ("(0,0)",)) + max(1, round(rows / self.rows_per_block))
        return (f"({end},0)",) if end < _block(upper) else upper


def _block(bound: Bound) -> int:
    return int(bound[0].strip("()").split(",")[0])


def size(connection: Connection, table: Table) -> tuple[int, int, int | None]:
    """Return bytes, blocks and estimated rows of a table. Raises BackfillError when it does not exist."""
    row: Sequence[Any] | None = connection.execute(
        sqlfiles.block("queries/backfill", "size"), {"schema": table.schema, "table": table.name}
    ).fetchone()
    if row is None:
        raise BackfillError(f"table {table} does not exist", hint="restore it, or roll this run back")
    return row[0], row[1], row[2]


def ranges_of(connection: Connection, table: Table, key: Sequence[str]) -> Ranges:
    """Return how the table is cut: by its key, or by blocks when it has none."""
    if not key:
        _, blocks, rows = size(connection, table)
        per_block = rows / blocks if rows and blocks else 50.0
        return BlockRanges(table, (KeyColumn("ctid", "tid"),), max(per_block, 1.0))
    rows_found = connection.execute(
        sqlfiles.block("queries/backfill", "key_columns"),
        {"columns": list(key), "schema": table.schema, "table": table.name},
    ).fetchall()
    if len(rows_found) != len(key):
        raise BackfillError(
            f"{table} has no columns {', '.join(key)}, by which it should be filled",
            hint="the table was changed since the plan was made; roll this run back and plan again",
        )
    return KeyRanges(table, tuple(KeyColumn(*row) for row in rows_found))
