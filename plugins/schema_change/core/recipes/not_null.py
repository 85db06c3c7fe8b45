"""NOT NULL without a scan under a lock: NOT VALID first, then VALIDATE, which lets reads and writes go on.

PostgreSQL 18 knows a NOT NULL constraint that is not valid yet. Before, a CHECK constraint stands in for it: once it
is validated, SET NOT NULL believes it and scans nothing.
"""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from schema_change.core.catalog.model import Relation
from schema_change.core.model import DataCheck, LockMode, Phase, Step
from schema_change.core.names import Table, short_name
from schema_change.core.recipes import probe, text

_NATIVE_SINCE = 180000
# IS NOT NULL would look into the fields of a composite value, as NOT NULL does not; of others they mean the same.
_CHECK = "CHECK ({} IS DISTINCT FROM NULL)"


def steps(relation: Relation, column: str, server_version: int, *, between: tuple[Step, ...] = ()) -> tuple[Step, ...]:
    """Return the cutover steps that make the column NOT NULL.

    ``between`` are steps for when no new NULL can come in any more, but the rows are not checked yet.
    """
    table = relation.table
    if server_version < _NATIVE_SINCE:
        forbid, *others = _by_check(table, column, _free(relation, "schema_change", table.name, column))
        return (forbid, *between, *others)
    for constraint in relation.constraints:
        if constraint.type == "n" and constraint.columns == (column,):
            return (*between, _validate_existing(table, column, constraint.name))
    forbid, *others = _native(table, column, _free(relation, table.name, column))
    return (forbid, *between, *others)


def put_back(relation: Relation, column: str, server_version: int) -> tuple[str, ...]:
    """Return the statements that make a column NOT NULL again after it was dropped.

    Each runs in a transaction of its own and can be run again.
    """
    table, identifier = relation.table, sql.Identifier(column)
    native = server_version >= _NATIVE_SINCE
    name = _free(relation, table.name, column) if native else _free(relation, "schema_change", table.name, column)
    definition = sql.SQL("NOT NULL {}" if native else _CHECK).format(identifier)
    forbid = sql.SQL("ALTER TABLE {0} DROP CONSTRAINT IF EXISTS {1}, ADD CONSTRAINT {1} {2} NOT VALID").format(
        table.identifier, sql.Identifier(name), definition
    )
    validate = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table.identifier, sql.Identifier(name))
    if native:
        return text(forbid), text(validate)
    return text(forbid), text(validate), _set(table, column), _drop_constraint(table, name)


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


def _set(table: Table, column: str) -> str:
    return text(sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL").format(table.identifier, sql.Identifier(column)))


def _drop_constraint(table: Table, name: str) -> str:
    return text(sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(table.identifier, sql.Identifier(name)))


def _free(relation: Relation, *parts: str) -> str:
    """Return a name that no constraint of the table has."""
    taken = {c.name for c in relation.constraints}
    name, number = short_name(*parts, "not_null"), 0
    while name in taken:
        number += 1
        name = short_name(*parts, "not_null", str(number))
    return name


def _add(table: Table, column: str, name: str) -> str:
    add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} NOT NULL {} NOT VALID")
    return text(add.format(table.identifier, sql.Identifier(name), sql.Identifier(column)))


def _native(table: Table, column: str, name: str) -> tuple[Step, ...]:
    return (
        Step(
            phase=Phase.CUTOVER,
            title=f"forbid new NULLs in {table}.{column}",
            tables=(table,),
            statements=(_add(table, column, name),),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("constraint_exists", table=table.quoted, constraint=name),
            undo=(drop(table, column),),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
        ),
        _validate(table, column, name, probe("column_not_null", table=table.quoted, column=column), lasting=True),
    )


def _validate_existing(table: Table, column: str, name: str) -> Step:
    """Return the step that validates a NOT NULL somebody made before us; its undo makes it NOT VALID again."""
    step = _validate(table, column, name, probe("column_not_null", table=table.quoted, column=column), lasting=True)
    return replace(step, undo=(drop(table, column), _add(table, column, name)), undo_lock=LockMode.ACCESS_EXCLUSIVE)


def _by_check(table: Table, column: str, name: str) -> tuple[Step, ...]:
    constraint = sql.Identifier(name)
    add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID")
    check = sql.SQL(_CHECK).format(sql.Identifier(column))
    drop_check = _drop_constraint(table, name)
    return (
        Step(
            phase=Phase.CUTOVER,
            title=f"forbid new NULLs in {table}.{column}",
            tables=(table,),
            statements=(text(add.format(table.identifier, constraint, check)),),
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
            statements=(_set(table, column), drop_check),
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
