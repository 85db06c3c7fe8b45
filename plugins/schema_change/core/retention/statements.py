"""The statements that bring kept data back, along the key of the kept rows."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from schema_change.core.catalog.model import Relation
from schema_change.core.model import Backfill, Batch
from schema_change.core.names import hashed_name
from schema_change.core.recipes import raw, text
from schema_change.core.retention.kept import KeptData

_LIVE, _BATCH = "schema_change_live", "schema_change_batch"
_AND, _COMMA = sql.SQL(" AND "), sql.SQL(", ")


@dataclass(frozen=True, slots=True)
class Found:
    """Rows that a recovery leaves alone: how many, and the keys of ten of them."""

    count: sql.Composed
    sample: sql.Composed


def add_column(kept: KeptData) -> tuple[str, ...]:
    """Return the statements that add the column again: nullable, and its default only for rows to come."""
    was, name = kept.definition, sql.Identifier(kept.column_name)
    table = kept.table.identifier
    collation = raw(f" COLLATE {was['collation']}" if was["collation"] else "")
    found = [text(sql.SQL("ALTER TABLE {} ADD COLUMN {} {}{}").format(table, name, raw(was["type"]), collation))]
    if keeps_default(kept):
        found.append(
            text(sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {}").format(table, name, raw(was["default"])))
        )
    if was["comment"] is not None:
        comment = sql.SQL("COMMENT ON COLUMN {}.{} IS {}")
        found.append(text(comment.format(table, name, sql.Literal(was["comment"]))))
    return tuple(found)


def keeps_default(kept: KeptData) -> bool:
    """Tell whether the column's default can be given back; a sequence it took numbers from may have gone with it."""
    default = kept.definition["default"]
    return default is not None and "nextval(" not in default


def fill_column(kept: KeptData) -> Backfill:
    """Return the walk that gives rows without a value the one that is kept."""
    column = sql.Identifier(kept.column_name)
    tail = sql.SQL(") UPDATE {} AS {} SET {} = {} FROM {} WHERE {} AND {} IS NULL").format(
        kept.table.identifier,
        *(sql.Identifier(_LIVE), column, sql.Identifier(_BATCH, kept.column_name), sql.Identifier(_BATCH)),
        *(_same(kept, _BATCH), sql.Identifier(_LIVE, kept.column_name)),
    )
    empty = sql.SQL("{} IS NULL").format(sql.Identifier(_LIVE, kept.column_name))
    return _walk(kept, tail, _exists(kept, empty))


def insert_rows(kept: KeptData, relation: Relation, columns: tuple[str, ...]) -> Backfill:
    """Return the walk that inserts the rows whose key is not there."""
    # ON CONFLICT knows no deferrable constraint; without it, a value that is taken fails the batch and is named.
    deferrable = any(c.type in {"p", "u", "x"} and "DEFERRABLE" in c.definition for c in relation.constraints)
    names = _COMMA.join(map(sql.Identifier, columns))
    tail = sql.SQL(") INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}{}").format(
        kept.table.identifier,
        *(names, names, sql.Identifier(_BATCH)),
        sql.SQL("" if deferrable else " ON CONFLICT DO NOTHING"),
    )
    return _walk(kept, tail, sql.SQL("NOT {}").format(_exists(kept)))


def index_by_key(kept: KeptData) -> sql.Composed:
    """Return the statement that makes the walk along the kept rows fast; nobody else uses that table."""
    return sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} ({})").format(
        sql.Identifier(hashed_name("key", kept.kept_name)), kept.kept.identifier, _keys(kept)
    )


def other_values(kept: KeptData) -> Found:
    """Return the rows whose column has another value than the kept one."""
    pair = (sql.Identifier(name, kept.column_name) for name in (_LIVE, kept.kept_name))
    return _found(kept, _exists(kept, sql.SQL("{} IS DISTINCT FROM {}").format(*map(_as_text, pair))))


def without_row(kept: KeptData) -> Found:
    """Return what is kept of keys that the table does not have."""
    return _found(kept, sql.SQL("NOT {}").format(_exists(kept)))


def other_rows(kept: KeptData, columns: tuple[str, ...]) -> Found:
    """Return the kept rows whose key another row has."""
    live, ours = (_COMMA.join(_as_text(sql.Identifier(name, c)) for c in columns) for name in (_LIVE, kept.kept_name))
    return _found(kept, _exists(kept, sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(live, ours)))


def _as_text(column: sql.Composable) -> sql.Composed:
    """Return a column's value for a comparison: its own collation may call different texts equal."""
    return sql.SQL('{}::text COLLATE pg_catalog."C"').format(column)


def _walk(kept: KeptData, tail: sql.Composed, pending: sql.Composable) -> Backfill:
    head = sql.SQL("WITH {} AS (SELECT * FROM {} WHERE ").format(sql.Identifier(_BATCH), kept.kept.identifier)
    return Backfill(
        table=kept.kept,
        column="",
        expression="true",
        pending=text(pending),
        key=tuple(kept.key_columns),
        batch=Batch(head=text(head), tail=text(tail), verb="brought back"),
    )


def _exists(kept: KeptData, condition: sql.Composable | None = None) -> sql.Composed:
    parts = [_same(kept, kept.kept_name), *([condition] if condition is not None else [])]
    return sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        kept.table.identifier, sql.Identifier(_LIVE), _AND.join(parts)
    )


def _same(kept: KeptData, other: str) -> sql.Composed:
    return _AND.join(
        sql.SQL("{} = {}").format(sql.Identifier(_LIVE, c), sql.Identifier(other, c)) for c in kept.key_columns
    )


def _keys(kept: KeptData) -> sql.Composed:
    return _COMMA.join(map(sql.Identifier, kept.key_columns))


def _found(kept: KeptData, condition: sql.Composable) -> Found:
    shown = sql.SQL(", ").join(
        sql.SQL("{} || {}::text").format(sql.Literal(f"{c} = "), sql.Identifier(kept.kept_name, c))
        for c in kept.key_columns
    )
    where = sql.SQL("FROM {} WHERE {}").format(kept.kept.identifier, condition)
    return Found(
        sql.SQL("SELECT count(*) {}").format(where),
        sql.SQL("SELECT concat_ws(', ', {}) {} ORDER BY {} LIMIT 10").format(shown, where, _keys(kept)),
    )
