"""NOT NULL without a scan under a lock: NOT VALID first, then VALIDATE, which lets reads and writes go on.

PostgreSQL 18 knows a NOT NULL constraint that is not valid yet. Before, a CHECK constraint stands in for it: once it
is validated, SET NOT NULL believes it and scans nothing.
"""

from __future__ import annotations

from psycopg import sql

from schema_change.core.model import DataCheck, LockMode, Phase, Step
from schema_change.core.names import Table, short_name
from schema_change.core.recipes import probe, text

_NATIVE_SINCE = 180000


def steps(table: Table, column: str, server_version: int) -> tuple[Step, ...]:
    """Return the cutover steps that make the column NOT NULL."""
    return _native(table, column) if server_version >= _NATIVE_SINCE else _by_check(table, column)


def null_check(table: Table, column: str, key: tuple[str, ...]) -> DataCheck:
    """Return the pre-check that counts the rows with NULL."""
    where = sql.SQL("FROM {} WHERE {} IS NULL").format(table.identifier, sql.Identifier(column))
    shown = sql.SQL(", ").join(map(sql.Identifier, key)) if key else sql.SQL("ctid")
    return DataCheck(
        name=f"NULL in {table}.{column}",
        count=text(sql.SQL("SELECT count(*) {}").format(where)),
        sample=text(sql.SQL("SELECT {} {} LIMIT 10").format(shown, where)),
        remedy="fill them (nulls: {fill: <expression>} in the change file) or delete the rows first",
    )


def drop(table: Table, column: str) -> str:
    """Return the statement that makes the column nullable again."""
    return text(
        sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(table.identifier, sql.Identifier(column))
    )


def _native(table: Table, column: str) -> tuple[Step, ...]:
    name = short_name(table.name, column, "not_null")
    add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} NOT NULL {} NOT VALID")
    return (
        Step(
            phase=Phase.CUTOVER,
            title=f"forbid new NULLs in {table}.{column}",
            tables=(table,),
            statements=(text(add.format(table.identifier, sql.Identifier(name), sql.Identifier(column))),),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("constraint_exists", table=table.quoted, constraint=name),
            undo=(drop(table, column),),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
        ),
        _validate(table, column, name, probe("column_not_null", table=table.quoted, column=column), lasting=True),
    )


def _by_check(table: Table, column: str) -> tuple[Step, ...]:
    name = short_name("schema_change", table.name, column, "not_null")
    constraint = sql.Identifier(name)
    add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID")
    drop_check = text(sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(table.identifier, constraint))
    set_not_null = sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL")
    return (
        Step(
            phase=Phase.CUTOVER,
            title=f"forbid new NULLs in {table}.{column}",
            tables=(table,),
            statements=(text(add.format(table.identifier, constraint, sql.Identifier(column))),),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("constraint_exists", table=table.quoted, constraint=name),
            lasting=False,
            undo=(drop_check,),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
        ),
        _validate(
            table, column, name, probe("constraint_validated", table=table.quoted, constraint=name), lasting=False
        ),
        Step(
            phase=Phase.CUTOVER,
            title=f"set {table}.{column} NOT NULL",
            tables=(table,),
            # Two statements: within one, the constraint would be gone before SET NOT NULL looks for its proof.
            statements=(text(set_not_null.format(table.identifier, sql.Identifier(column))), drop_check),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("column_not_null", table=table.quoted, column=column),
            undo=(drop(table, column),),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
        ),
    )


def _validate(table: Table, column: str, constraint: str, done: str, *, lasting: bool) -> Step:
    validate = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
    return Step(
        phase=Phase.CUTOVER,
        title=f"check every row of {table} for NULL in {column}",
        tables=(table,),
        statements=(text(validate.format(table.identifier, sql.Identifier(constraint))),),
        lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
        probe=done,
        lasting=lasting,
        long=True,
    )
