"""A column that numbers the rows of a large table: numbered by a trigger and a backfill, an identity at cutover.

``ADD COLUMN … GENERATED AS IDENTITY`` writes the whole table anew. Here a sequence of ours numbers new rows as they are
written and old ones in batches; once every row has its number, the identity goes on where that sequence is.
"""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import filled_on_write, probe, text


def _sequence(table: Table, column: str) -> Table:
    return Table("schema_change", hashed_name("identity", table.schema, table.name, column))


def _next(table: Table, column: str) -> sql.Composed:
    return sql.SQL("nextval({})").format(sql.Literal(_sequence(table, column).quoted))


def number(table: Table, column: str) -> str:
    """Return the expression that gives a row its number."""
    return text(_next(table, column))


def begin(table: Table, column: str, type_: str) -> tuple[str, ...]:
    """Return the statements that number every row written from now on."""
    create = sql.SQL("CREATE SEQUENCE {} AS {}").format(_sequence(table, column).identifier, sql.SQL(type_))
    return (text(create), *filled_on_write.keep_filled(table, column, type_, number(table, column)))


def end(table: Table, column: str) -> tuple[str, ...]:
    """Return the statements that remove the trigger and the sequence."""
    drop = sql.SQL("DROP SEQUENCE IF EXISTS {}").format(_sequence(table, column).identifier)
    return (*filled_on_write.drop(table, column), text(drop))


def become(table: Table, column: str, kind: str) -> Step:
    """Return the cutover step that makes the numbered column an identity; ``kind`` is ALWAYS or BY DEFAULT."""
    name, ours = sql.Identifier(column), sql.Literal(_sequence(table, column).quoted)
    add = sql.SQL("ALTER TABLE {} ALTER COLUMN {} ADD GENERATED {} AS IDENTITY")
    theirs = sql.SQL("pg_get_serial_sequence({}, {})").format(sql.Literal(table.quoted), sql.Literal(column))
    drop = sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP IDENTITY IF EXISTS")
    return Step(
        phase=Phase.CUTOVER,
        title=f"make {table}.{column} an identity",
        tables=(table,),
        statements=(
            text(add.format(table.identifier, name, sql.SQL(kind))),
            text(sql.SQL("SELECT setval({}, {}, false)").format(theirs, _next(table, column))),
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("column_is_identity", table=table.quoted, column=column),
        undo=(
            text(sql.SQL("SELECT setval({}, nextval({}), false)").format(ours, theirs)),
            text(drop.format(table.identifier, name)),
        ),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )


def contract(table: Table, column: str) -> Step:
    """Return the contract step that removes the trigger and the sequence."""
    return replace(filled_on_write.contract(table, column), statements=end(table, column))
