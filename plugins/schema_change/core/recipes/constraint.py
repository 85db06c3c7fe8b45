"""A CHECK or FOREIGN KEY without a scan under a lock: NOT VALID first, then VALIDATE, which blocks no application."""

from __future__ import annotations

from psycopg import sql

from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.recipes import probe, text


def add(
    table: Table,
    name: str,
    definition: sql.Composable,
    *,
    phase: Phase,
    lock: LockMode = LockMode.ACCESS_EXCLUSIVE,
    references: Table | None = None,
) -> tuple[Step, Step]:
    """Return the steps that add a constraint as NOT VALID and then validate it.

    ``definition`` is the constraint's text behind its name, without NOT VALID. A foreign key also locks the table it
    references, so name that, with SHARE ROW EXCLUSIVE as the lock.
    """
    tables = (table,) if references is None or references == table else (table, references)
    constraint = sql.Identifier(name)
    statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID").format(
        table.identifier, constraint, definition
    )
    names = {"table": table.quoted, "constraint": name}
    forbid = Step(
        phase=phase,
        title=f"demand {name} of rows written to {table}",
        tables=tables,
        statements=(text(statement),),
        lock=lock,
        probe=probe("constraint_exists", **names),
        undo=(drop(table, name),),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )
    return forbid, validate(table, name, phase=phase)


def validate(table: Table, name: str, *, phase: Phase) -> Step:
    """Return the step that checks the rows which are there already; in a transaction of its own."""
    return Step(
        phase=phase,
        title=f"check every row of {table} against {name}",
        tables=(table,),
        statements=(
            text(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table.identifier, sql.Identifier(name))),
        ),
        lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
        probe=probe("constraint_validated", table=table.quoted, constraint=name),
        long=True,
    )


def drop(table: Table, name: str) -> str:
    """Return the statement that removes a constraint, if it is there."""
    return text(sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(table.identifier, sql.Identifier(name)))
