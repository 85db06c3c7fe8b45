"""Rules about scripts: what they leave as it is, what nobody can say of them, and what is hard to live with."""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast
from pglast.enums import AlterTableType as At

from schema_change.core.planning.rules.base import Found, Rule, Scene, commands, new_columns, type_name
from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.grammar import is_a
from schema_change.core.sqltext.statements import PUBLIC, Statement

_WIDE = 3


def invalid_index(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find statements content with an index that an interrupted build left invalid."""
    node = statement.node
    if is_a(node, ast.IndexStmt) and node.if_not_exists:
        name, what = node.idxname, "IF NOT EXISTS would leave it as it is"
    else:
        name = next((c.def_.indexname for c in commands(statement, At.AT_AddConstraint) if c.def_.indexname), None)
        what = "PostgreSQL refuses to make a constraint of it"
    relation = scene.catalog.get(statement.tables[0]) if name else None
    index = relation.index(name) if relation else None
    if index is not None and not index.valid and name not in scene.past.indexes:
        yield Found(
            f"index {name} exists but is invalid (an interrupted build), so {what}",
            f"DROP INDEX CONCURRENTLY {name} first, and build it again; the operation create_index does so",
        )


def unanalysable(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find statements of which nobody can say before they run what they lock or write."""
    if not statement.known:
        yield Found(
            f"what {statement.kind} does is known only when it runs; ACCESS EXCLUSIVE is assumed",
            "write plain statements where possible; let a person read this one",
            "warning",
        )


def unqualified_name(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find names without a schema where the script does not say which one it means."""
    if statement is not scene.statements[0]:
        return
    if bare := list(dict.fromkeys(n for s in scene.statements for n in _bare(s))):
        yield Found(
            f"{', '.join(bare)} without a schema: looked for in public here, but along the search_path in psql",
            f"write public.{bare[0]}",
            "warning",
            whole=True,
        )


def _bare(statement: Statement) -> Iterator[str]:
    """Yield the names without a schema, unless the script has set a search_path of its own."""
    node = statement.node
    if any(s.name == PUBLIC.name and s.schema != PUBLIC.schema for s in statement.settings):
        return
    yield from (r.table.name for r in grammar.references(node, "public") if _may_be_public(r))
    if is_a(node, ast.DropStmt) and (statement.tables or statement.indexes):
        yield from (item[0].sval for item in node.objects if isinstance(item, tuple) and len(item) == 1)


def _may_be_public(reference: grammar.Reference) -> bool:
    # Names that begin with pg_ are the system's.
    return not reference.qualified and not reference.table.name.startswith("pg_")


def ignore_comment(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find comments that would silence squawk; a waiver says why, and is on record."""
    if "squawk-ignore" in statement.text:
        yield Found(
            "a comment asks to ignore findings; comments have no effect here",
            "remove it; what is meant goes into the change file, with a reason: waivers: {<rule>: <reason>}",
            "warning",
        )


def json_column(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find json: it has no equality, so DISTINCT, GROUP BY and UNION over the table fail."""
    for column in new_columns(statement):
        if type_name(column) == "json":
            yield Found(
                f"column {column.colname} is json, which has no equality: SELECT DISTINCT and GROUP BY fail on it",
                "type: jsonb",
                "warning",
            )


def wide_index(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find non-unique indexes of many columns: the last ones seldom narrow a search, and every write pays."""
    node = statement.node
    if is_a(node, ast.IndexStmt) and not node.unique and len(node.indexParams) > _WIDE:
        yield Found(
            f"index {node.idxname or ''} has {len(node.indexParams)} key columns; the last ones seldom help a search, "
            "and every write keeps them up to date",
            f"index the {_WIDE} most selective columns; put others behind INCLUDE when they are only read",
            "warning",
        )


def separate_default(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find a constant default set apart from its new column: rows that exist already stay NULL."""
    table = statement.tables[0] if statement.tables else None
    added = {
        d.colname for s in scene.statements if s.tables[:1] == (table,) for d in new_columns(s) if not _has_default(d)
    }
    for command in commands(statement, At.AT_ColumnDefault):
        if command.name in added and command.def_ is not None and table not in scene.past.created:
            yield Found(
                f"the default of new column {command.name} is set in a statement of its own: rows that exist already "
                "stay NULL",
                "ADD COLUMN … DEFAULT … in one statement (operation add_column): a constant fills all rows without "
                "writing any; a volatile default needs a backfill",
                "warning",
            )


def _has_default(column: ast.ColumnDef) -> bool:
    return column.raw_default is not None or any(c.raw_expr is not None for c in column.constraints or ())


RULES = {
    "invalid-index": Rule(invalid_index),
    "unanalysable": Rule(unanalysable),
    "unqualified-name": Rule(unqualified_name),
    "ignore-comment": Rule(ignore_comment),
    "json-column": Rule(json_column, typed=True),
    "wide-index": Rule(wide_index, typed=True),
    "separate-default": Rule(separate_default),
}
