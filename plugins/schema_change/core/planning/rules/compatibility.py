"""Rules about what an application, a view or a subscriber still uses under its old name or shape."""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast
from pglast.enums import AlterTableType as At
from pglast.enums import ObjectType

from schema_change.core.catalog.model import Relation
from schema_change.core.names import Table
from schema_change.core.planning.rules.base import Found, Rule, Scene, cascades, commands, foreign_key
from schema_change.core.sqltext.grammar import is_a
from schema_change.core.sqltext.statements import Statement


def drop_with_dependants(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find drops of what is used: the statement fails, or CASCADE drops the users too."""
    for table, column in _dropped(statement):
        names = scene.users(table, column)
        if column is None:
            others = (r for r in scene.catalog.around(table) if r.table != table)
            keys = [foreign_key(r.table, c.name) for r in others for c in r.constraints if c.references == table]
            names = list(dict.fromkeys([*names, *(k for k in keys if k not in scene.past.gone)]))
        if names:
            what = f"{table}.{column}" if column else str(table)
            yield Found(
                f"{what} is dropped, but it is used by {', '.join(names)}",
                f"change or drop what depends on it first, each by name, in the same change; the operation "
                f"{'drop_column' if column else 'drop_table'} does so, and keeps the data for a while",
            )


def _dropped(statement: Statement) -> Iterator[tuple[Table, str | None]]:
    if statement.kind in {"DROP TABLE", "DROP VIEW", "DROP MATERIALIZED VIEW"}:
        yield from ((table, None) for table in statement.tables)
    yield from ((statement.tables[0], c.name) for c in commands(statement, At.AT_DropColumn))


def retype_with_dependants(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find type changes of columns that something is made of: PostgreSQL refuses most of them."""
    for command in commands(statement, At.AT_AlterColumnType):
        table = statement.tables[0]
        if names := scene.users(table, command.name):
            yield Found(
                f"the type of {table}.{command.name} changes, but it is used by {', '.join(names)}; PostgreSQL refuses "
                "to change a type that a view, policy or generated column is made of",
                "use the operation change_type, which makes them anew, or drop them first and create them again, each "
                "by name, in the same change",
            )


def drop_cascade(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find CASCADE: what goes with it is nowhere written, and nothing can bring it back by name."""
    drops = is_a(statement.node, ast.DropStmt) and cascades(statement.node)
    drops = drops or is_a(statement.node, ast.DropOwnedStmt)
    if drops or any(cascades(c) for c in commands(statement, At.AT_DropColumn, At.AT_DropConstraint)):
        yield Found(
            f"{statement.kind} also drops whatever depends on it, unnamed, such as views and foreign keys",
            "leave CASCADE out, and drop what depends on it first, each by name",
        )


def drop_not_null(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find NULL allowed where readers never met it."""
    for command in commands(statement, At.AT_DropNotNull):
        table = statement.tables[0]
        if table in scene.past.created:
            continue
        names = scene.users(table, command.name)
        yield Found(
            f"{table}.{command.name} may hold NULL from now on; readers that do not expect it fail"
            + (f"; made of it are {', '.join(names)}" if names else ""),
            "let every reader cope with NULL first, then use the operation drop_not_null",
            "warning",
        )


def rename_schema(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find schemas renamed: every name in every application is wrong at once."""
    node = statement.node
    if not is_a(node, ast.RenameStmt) or node.renameType != ObjectType.OBJECT_SCHEMA:
        return
    holds = [t for t in scene.catalog.relations if t.schema == node.subname]
    if holds or not scene.catalog.relations:
        yield Found(
            f"schema {node.subname} gets another name, so every statement of an application that names "
            f"{f'{len(holds)} relations' if holds else 'something'} in it fails",
            "create the new schema, move table by table with the operation rename_table, which leaves a view under the "
            "old name until contract",
            "error" if holds else "warning",
        )


def rename_enum_value(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find enum values renamed: applications go on writing and comparing the old one, and fail."""
    node = statement.node
    if is_a(node, ast.AlterEnumStmt) and node.oldVal and node.newVal:
        yield Found(
            f"enum value {node.oldVal!r} becomes {node.newVal!r}: applications that write or compare the old one fail",
            "add the new value (operation enum_add_value), let applications know both, change the rows in batches "
            "(section backfill:), and leave the old value unused",
        )


def change_default(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find defaults changed: applications that list every column in INSERT go on writing the old one."""
    for command in commands(statement, At.AT_ColumnDefault):
        table = statement.tables[0]
        relation = scene.busy(table)
        column = relation.column(command.name) if relation else None
        if column is not None and column.default is not None and command.def_ is not None:
            yield Found(
                f"{table}.{command.name} gets another default than {column.default}; an application that knows the old "
                "one and names every column in INSERT goes on writing it",
                "let applications leave the column out of INSERT first (partial inserts), then change the default",
                "warning",
            )


_TO_SUBSCRIBERS = {
    At.AT_AddColumn: (
        "gets a column that subscribers do not; replication stops at the first row with it",
        "add the column on every subscriber first, then here",
    ),
    At.AT_DropColumn: (
        "loses a column that subscribers keep, and fill with its default from then on",
        "drop it here first, then on the subscribers, where it must not be NOT NULL without a default meanwhile",
    ),
    At.AT_AlterColumnType: (
        "gets a column of another type than on its subscribers; replication stops at a value that does not fit there",
        "change the type on every subscriber first, to one that takes old and new values, then here",
    ),
}


def published_table(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find changes of published tables: logical replication carries rows only, never DDL."""
    for table, (happens, safe) in _changed_shape(statement):
        relation = scene.catalog.get(table)
        if relation is not None and (publications := _publications(relation)):
            yield Found(f"{table} is in {publications} and {happens}", safe, "warning", whole=True)


def _changed_shape(statement: Statement) -> Iterator[tuple[Table, tuple[str, str]]]:
    for command in commands(statement, *_TO_SUBSCRIBERS):
        yield statement.tables[0], _TO_SUBSCRIBERS[command.subtype]
    node = statement.node
    if is_a(node, ast.RenameStmt) and node.renameType in {ObjectType.OBJECT_COLUMN, ObjectType.OBJECT_TABLE}:
        happens = "has a name that subscribers do not know; replication stops at the first row"
        safe = "pause the subscription, rename on both sides, and resume it"
        yield from ((table, (happens, safe)) for table in statement.tables)
    if statement.kind == "DROP TABLE":
        safe = "take it out of the publication and refresh the subscriptions first"
        yield from ((table, ("is dropped; subscribers keep their copy", safe)) for table in statement.tables)


def _publications(relation: Relation) -> str:
    return ", ".join(d for d in relation.dependants if d.startswith("publication "))


RULES = {
    "drop-with-dependants": Rule(drop_with_dependants),
    "retype-with-dependants": Rule(retype_with_dependants),
    "drop-cascade": Rule(drop_cascade),
    "drop-not-null": Rule(drop_not_null),
    "rename-schema": Rule(rename_schema, instead_of=("renaming-object",)),
    "rename-enum-value": Rule(rename_enum_value, instead_of=("renaming-object",)),
    "change-default": Rule(change_default),
    "published-table": Rule(published_table, typed=True),
}
