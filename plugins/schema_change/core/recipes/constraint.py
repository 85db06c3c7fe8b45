"""A CHECK or FOREIGN KEY without a scan under a lock: NOT VALID first, then VALIDATE, which blocks no application."""

from __future__ import annotations

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, Constraint, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import DataCheck, LockMode, Phase, Step
from schema_change.core.names import Table, short_name
from schema_change.core.recipes import probe, raw, text
from schema_change.core.recipes.index import is_taken


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


def put_back(table: Table, constraint: Constraint) -> tuple[str, ...]:
    """Return the statements that bring a dropped CHECK, FOREIGN KEY or NOT VALID NOT NULL back as it was.

    Each runs in a transaction of its own and can be run again. Rows written meanwhile that break it make VALIDATE
    fail; the constraint then is there, NOT VALID, and refuses more of them.
    """
    name = sql.Identifier(constraint.name)
    definition = constraint.definition.removesuffix(" NOT VALID")
    enforced = not definition.endswith(" NOT ENFORCED")
    add = sql.SQL("ALTER TABLE {0} DROP CONSTRAINT IF EXISTS {1}, ADD CONSTRAINT {1} {2}{3}").format(
        table.identifier, name, raw(definition), sql.SQL(" NOT VALID" if enforced else "")
    )
    validate = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table.identifier, name)
    return (text(add), *((text(validate),) if constraint.validated else ()), *comment(table, constraint))


def comment(table: Table, constraint: Constraint, name: str | None = None) -> tuple[str, ...]:
    """Return the statement that gives a constraint, perhaps under another name, its comment, if it has one."""
    if constraint.comment is None:
        return ()
    statement = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}")
    return (
        text(
            statement.format(sql.Identifier(name or constraint.name), table.identifier, sql.Literal(constraint.comment))
        ),
    )


def free_name(
    relation: Relation, chosen: str | None, *parts: str, catalog: Catalog | None = None, leaving: str | None = None
) -> str:
    """Return the chosen name, or one made of the parts, for a new constraint of the table.

    With a ``catalog`` the constraint has an index, whose name must be free in the schema too; ``leaving`` is a name
    that the same step gives free. Raises PlanError when the name is taken.
    """
    name = chosen or short_name(*parts)
    if name == leaving:
        return name
    if any(c.name == name for c in relation.constraints):
        raise PlanError(f"{relation.table} already has a constraint {name}", hint="choose another name with name:")
    if catalog is not None and is_taken(catalog, Table(relation.table.schema, name)):
        raise PlanError(
            f"there is already a relation or index {name} in schema {relation.table.schema}",
            hint="choose another name with name:; an index that an interrupted build left has to be dropped first",
        )
    return name


def constraint_of(relation: Relation, name: str) -> Constraint:
    """Return a constraint by name, or raise PlanError naming those the table has."""
    found = next((c for c in relation.constraints if c.name == name), None)
    if found is None:
        names = ", ".join(c.name for c in relation.constraints) or "none"
        raise PlanError(
            f"{relation.table} has no constraint {name}",
            hint=f"its constraints are: {names}; NOT NULL is dropped with drop_not_null",
        )
    return found


def views_on(table: Table, name: str) -> DataCheck:
    """Return the pre-check that no view needs a primary key or unique constraint for its GROUP BY."""
    views = sqlfiles.block("queries/constraints", "views_on_constraint").format(
        table=sql.Literal(table.quoted), constraint=sql.Literal(name)
    )
    return DataCheck(
        name=f"views that need {name} of {table}",
        count=text(sql.SQL("SELECT count(*) FROM (\n{}\n) AS v").format(views)),
        sample=text(sql.SQL("{} LIMIT 10").format(views)),
        remedy="write every column of such a view into its GROUP BY first",
    )
