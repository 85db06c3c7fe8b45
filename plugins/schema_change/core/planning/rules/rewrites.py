"""Rules about statements that copy a table, or read all of it, while nobody can use it."""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast
from pglast.enums import AlterTableType as At
from pglast.enums import ConstrType

from schema_change.core.names import Table
from schema_change.core.planning.rules.base import (
    Found,
    Rule,
    Scene,
    added_columns,
    commands,
    rows_of,
    type_name,
)
from schema_change.core.sqltext.grammar import Node, is_a
from schema_change.core.sqltext.statements import Statement

#: Rows above which rewriting a table in place is an error.
REWRITE_ROWS = 10_000

_REWRITING = (At.AT_SetLogged, At.AT_SetUnLogged, At.AT_SetTableSpace, At.AT_SetAccessMethod)
_SERIAL = {"serial", "bigserial", "smallserial", "serial4", "serial8", "serial2"}
_ONLINE_NOT_NULL = {
    False: "use the operation set_not_null: CHECK (… IS NOT NULL) NOT VALID, VALIDATE, then SET NOT NULL",
    True: "use the operation set_not_null: ADD CONSTRAINT … NOT NULL column NOT VALID, then VALIDATE",
}


def full_rewrite(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find copies of whole tables under ACCESS EXCLUSIVE: nobody reads or writes meanwhile."""
    whole = statement.kind in {"VACUUM FULL", "CLUSTER"} or is_a(statement.node, ast.AlterTableMoveAllStmt)
    if not whole and not any(commands(statement, *_REWRITING)):
        return
    level = scene.level(*statement.tables) if statement.tables else "error"
    if level:
        which = statement.tables[0] if statement.tables else "every table"
        yield Found(
            f"{statement.kind} rewrites {which} while nobody can read or write it",
            "use pg_repack (REPACK CONCURRENTLY from PostgreSQL 19), or a maintenance window and a waiver",
            level,
        )


def type_rewrite(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find type changes that copy the table under ACCESS EXCLUSIVE and build its indexes again."""
    for command in commands(statement, At.AT_AlterColumnType):
        table = statement.tables[0]
        relation = scene.catalog.get(table)
        column = relation.column(command.name) if relation else None
        if scene.level(table) is None or (column and _widens(column.type, command.def_)):
            continue
        large = relation is not None and relation.rows > REWRITE_ROWS
        yield Found(
            f"changing {table}.{command.name}{f' from {column.type}' if column else ''} rewrites "
            f"{rows_of(relation, table)} and its indexes while nobody can read or write it",
            "use the operation change_type: new column, kept in step, backfill, swap",
            "error" if large and not scene.typed else "warning",
        )


def _widens(old: str, definition: Node) -> bool:
    """Tell whether a type change needs no rewrite: text, varchar, varbit and numeric that do not get narrower."""
    if definition.raw_default is not None or definition.typeName.arrayBounds or "[]" in old:
        return False
    new = type_name(definition)
    base, _, rest = old.partition("(")
    limits = _numbers(rest.partition(")")[0])
    wanted = _modifiers(definition)
    if base == "character varying":
        return new == "text" or (new == "varchar" and (not wanted or (bool(limits) and wanted >= limits)))
    if base == "text":
        return new == "varchar" and not wanted
    if base == "bit varying":
        return new == "varbit" and (not wanted or (bool(limits) and wanted >= limits))
    if base == "numeric" and new == "numeric":
        # More digits before the point cost nothing; another scale rounds or pads every value.
        return not wanted or (len(limits) == 2 and wanted[1:] == limits[1:] and wanted >= limits)
    return base == "cidr" and new == "inet"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip().isdigit())


def _modifiers(definition: Node) -> tuple[int, ...]:
    modifiers = tuple(m.val.ival for m in definition.typeName.typmods or () if is_a(m, ast.A_Const))
    return (*modifiers, 0) if type_name(definition) == "numeric" and len(modifiers) == 1 else modifiers


def type_change_with_check(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find type changes under a CHECK: also one that rewrites nothing reads every row to check it again."""
    for command in commands(statement, At.AT_AlterColumnType):
        table = statement.tables[0]
        relation = scene.busy(table)
        dropped = {c.name for c in commands(statement, At.AT_DropConstraint)}
        checks = [
            c.name
            for c in (relation.constraints if relation else ())
            if c.type == "c"
            and command.name in c.columns
            and c.name not in dropped
            and not scene.past.dropped(table, c.name)
        ]
        if relation is not None and checks:
            yield Found(
                f"changing the type of {table}.{command.name} checks {', '.join(checks)} again for every row while "
                "nobody can read or write the table",
                f"drop {', '.join(checks)} first, change the type, add it again NOT VALID, VALIDATE in a transaction "
                "of its own; or use the operation change_type",
                "error" if relation.rows > REWRITE_ROWS else "warning",
            )


def type_change_with_not_null(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find a type change and NOT NULL of one column in one transaction: the lock lasts for both."""
    if not any(commands(statement, At.AT_SetNotNull)):
        return
    together = scene.statements if scene.step.transactional else (statement,)
    table = statement.tables[0]
    retyped = {c.name for s in together if s.tables[:1] == (table,) for c in commands(s, At.AT_AlterColumnType)}
    for command in commands(statement, At.AT_SetNotNull):
        if command.name in retyped and (level := scene.level(table)):
            yield Found(
                f"{table}.{command.name} gets another type and NOT NULL in one transaction: the table is copied, then "
                "read again, under one lock",
                "two operations: change_type, then set_not_null",
                level,
            )


def serial_column(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find new columns that number the rows that exist already: the whole table is written anew."""
    for column, constraints in added_columns(statement):
        identity = any(c.contype == ConstrType.CONSTR_IDENTITY for c in constraints)
        level = scene.level(statement.tables[0])
        if level and (identity or type_name(column) in _SERIAL):
            table = statement.tables[0]
            yield Found(
                f"a {'generated identity' if identity else type_name(column)} column numbers all rows of "
                f"{rows_of(scene.busy(table), table)} at once: it is rewritten while nobody can read or write it",
                "use the operation add_column with an identity: plain column, sequence as default, backfill; then "
                "add_unique or add_primary_key",
                level,
            )


def set_not_null(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find SET NOT NULL without a validated CHECK: the whole table is read under ACCESS EXCLUSIVE."""
    for command in commands(statement, At.AT_SetNotNull):
        yield from _not_null(statement.tables[0], command.name, "SET NOT NULL", scene)
    for command in commands(statement, At.AT_AddConstraint):
        constraint = command.def_
        if constraint.contype == ConstrType.CONSTR_NOTNULL and not constraint.skip_validation:
            yield from _not_null(statement.tables[0], constraint.keys[0].sval, "NOT NULL without NOT VALID", scene)


def _not_null(table: Table, column: str, what: str, scene: Scene) -> Iterator[Found]:
    level = scene.level(table)
    if level and not scene.never_null(table, column):
        yield Found(
            f"{what} reads all of {rows_of(scene.busy(table), table)} while nobody can read or write it",
            _ONLINE_NOT_NULL[scene.catalog.server_version >= 180000],
            level,
        )


def primary_key_nullable(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find a primary key made of an index whose columns may be NULL: SET NOT NULL comes with it, and reads all rows."""
    for command in commands(statement, At.AT_AddConstraint):
        constraint, table = command.def_, statement.tables[0]
        if constraint.contype != ConstrType.CONSTR_PRIMARY or not constraint.indexname:
            continue
        open_columns = [c for c in scene.key_of(table, constraint.indexname) if not scene.never_null(table, c)]
        level = scene.level(table)
        if open_columns and level:
            yield Found(
                f"PRIMARY KEY USING INDEX makes {', '.join(open_columns)} NOT NULL, which reads all of "
                f"{rows_of(scene.busy(table), table)} while nobody can read or write it",
                "use the operation set_not_null on them first, or the operation add_primary_key",
                level,
            )


RULES = {
    "full-rewrite": Rule(full_rewrite),
    "type-rewrite": Rule(type_rewrite, typed=True),
    "type-change-with-check": Rule(type_change_with_check),
    "type-change-with-not-null": Rule(type_change_with_not_null),
    "serial-column": Rule(
        serial_column, instead_of=("adding-field-with-default", "adding-serial-primary-key-field", "prefer-identity")
    ),
    "set-not-null": Rule(set_not_null),
    "primary-key-nullable": Rule(primary_key_nullable),
}
