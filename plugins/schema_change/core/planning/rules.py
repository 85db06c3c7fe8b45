"""Lint rules that need the live catalog or the whole plan, one function each: id, what happens, the safe way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pglast import ast
from pglast.enums import AlterTableType as At

from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.model import Finding, LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.sqltext.grammar import Node, is_a
from schema_change.core.sqltext.statements import Statement

#: Rows above which rewriting a table in place is an error.
REWRITE_ROWS = 10_000
# An empty table and its indexes have a few pages.
_EMPTY_BYTES = 1_000_000


@dataclass
class Scene:
    """Where a statement stands: its step, the catalog, and what earlier statements of the plan have validated."""

    catalog: Catalog
    step: Step
    validated: set[Table] = field(default_factory=set)

    def busy(self, table: Table) -> Relation | None:
        """Return a table that exists already and holds rows; statistics may not know them yet, its size does."""
        relation = self.catalog.get(table)
        return (
            relation
            if relation is not None and (relation.rows > 0 or relation.bytes > _EMPTY_BYTES or relation.kind == "p")
            else None
        )

    def any_busy(self, tables: tuple[Table, ...]) -> Relation | None:
        """Return the first of the tables that holds rows."""
        return next((r for r in map(self.busy, tables) if r is not None), None)


Rule = Callable[[Statement, Scene], Iterator[Finding]]


def dml_without_where(statement: Statement, scene: Scene) -> Iterator[Finding]:
    """Find writes to every row: all are locked and rewritten at once, and the table doubles in size."""
    node = statement.node
    if is_a(node, ast.UpdateStmt, ast.DeleteStmt) and node.whereClause is None and scene.any_busy(statement.writes):
        yield Finding(
            "dml-without-where",
            "error",
            f"{statement.kind} without WHERE touches every row of {statement.writes[0]} in one transaction",
            "say which rows with WHERE; fill a column with the section backfill:, which works in batches",
            statement.text,
        )


def truncate(statement: Statement, scene: Scene) -> Iterator[Finding]:
    """Find TRUNCATE: all rows are gone at once, also for readers of older snapshots."""
    if is_a(statement.node, ast.TruncateStmt) and (relation := scene.any_busy(statement.tables)):
        yield Finding(
            "truncate",
            "error",
            f"TRUNCATE removes all rows of {relation.table} under ACCESS EXCLUSIVE; revert.sql cannot bring them back",
            "rename the table and create a new one; drop the old one in a later change",
            statement.text,
        )


def full_rewrite(statement: Statement, scene: Scene) -> Iterator[Finding]:
    """Find copies of whole tables under ACCESS EXCLUSIVE: nobody reads or writes meanwhile."""
    node = statement.node
    rewrites = statement.kind in {"VACUUM FULL", "CLUSTER"} or (
        is_a(node, ast.AlterTableStmt)
        and any(c.subtype in {At.AT_SetLogged, At.AT_SetUnLogged, At.AT_SetTableSpace} for c in node.cmds)
    )
    busy = scene.any_busy(statement.tables)
    if rewrites and (busy or not statement.tables):
        yield Finding(
            "full-rewrite",
            "error",
            f"{statement.kind} rewrites {busy.table if busy else 'every table'} while nobody can read or write it",
            "use pg_repack (REPACK CONCURRENTLY from PostgreSQL 19), or a maintenance window and a waiver",
            statement.text,
        )


def lock_table(statement: Statement, scene: Scene) -> Iterator[Finding]:
    """Find locks taken by hand: they are held until the end of the transaction."""
    if is_a(statement.node, ast.LockStmt) and statement.lock >= LockMode.SHARE and scene.any_busy(statement.tables):
        yield Finding(
            "lock-table",
            "error",
            f"LOCK TABLE … IN {statement.lock.sql} MODE blocks {statement.lock.blocks} until the step ends",
            "leave it out: the executor takes the lock each statement needs, and bounds it",
            statement.text,
        )


def invalid_index(statement: Statement, scene: Scene) -> Iterator[Finding]:
    """Find IF NOT EXISTS that is content with an index that an interrupted build left invalid."""
    node = statement.node
    if not (is_a(node, ast.IndexStmt) and node.if_not_exists):
        return
    relation = scene.catalog.get(statement.tables[0])
    index = relation.index(node.idxname) if relation else None
    if index is not None and not index.valid:
        yield Finding(
            "invalid-index",
            "error",
            f"index {node.idxname} exists but is invalid, so IF NOT EXISTS would leave it as it is",
            f"DROP INDEX CONCURRENTLY {node.idxname} first",
            statement.text,
        )


def drop_with_dependants(statement: Statement, scene: Scene) -> Iterator[Finding]:
    """Find drops of what is used: the users fail, or are dropped too by CASCADE."""
    for table, column in _dropped(statement):
        relation = scene.catalog.get(table)
        if relation is None:
            continue
        names = list(relation.dependants)
        if column is None:
            others = (r for r in scene.catalog.relations.values() if r.table != table)
            names += [
                f"foreign key {c.name} of {r.table}" for r in others for c in r.constraints if c.references == table
            ]
        if names:
            yield Finding(
                "drop-with-dependants",
                "error",
                f"{table}{f'.{column}' if column else ''} is dropped, but {table} is used by {', '.join(names)}",
                "change or drop what depends on it first, each by name, in the same change",
                statement.text,
            )


def _dropped(statement: Statement) -> Iterator[tuple[Table, str | None]]:
    node = statement.node
    if statement.kind in {"DROP TABLE", "DROP VIEW", "DROP MATERIALIZED VIEW"}:
        yield from ((table, None) for table in statement.tables)
    if is_a(node, ast.AlterTableStmt):
        yield from ((statement.tables[0], c.name) for c in node.cmds if c.subtype == At.AT_DropColumn)


def type_rewrite(statement: Statement, scene: Scene) -> Iterator[Finding]:
    """Find type changes that copy the table under ACCESS EXCLUSIVE and build its indexes again."""
    for command in _commands(statement, At.AT_AlterColumnType):
        relation = scene.busy(statement.tables[0])
        column = relation.column(command.name) if relation else None
        if relation is None or column is None or _widens(column.type, command.def_):
            continue
        yield Finding(
            "type-rewrite",
            "error" if relation.rows > REWRITE_ROWS else "warning",
            f"changing {relation.table}.{column.name} from {column.type} rewrites about {relation.rows} rows "
            "while nobody can read or write them",
            "use the operation change_type: new column, kept in step, backfill, swap",
            statement.text,
        )


def _widens(old: str, definition: Node) -> bool:
    """Tell whether a type change needs no rewrite: text and varchar that do not get shorter."""
    names = [part.sval for part in definition.typeName.names]
    if definition.raw_default is not None or definition.typeName.arrayBounds or not old.startswith("character varying"):
        return False
    if names[-1] == "text":
        return True
    modifiers = definition.typeName.typmods
    limit = old.partition("(")[2].rstrip(")")
    return names[-1] == "varchar" and (not modifiers or (limit.isdigit() and modifiers[0].val.ival >= int(limit)))


def set_not_null(statement: Statement, scene: Scene) -> Iterator[Finding]:
    """Find SET NOT NULL without a validated CHECK: the whole table is read under ACCESS EXCLUSIVE."""
    for command in _commands(statement, At.AT_SetNotNull):
        relation = scene.busy(statement.tables[0])
        if relation is None or relation.table in scene.validated:
            continue
        proven = (c for c in relation.constraints if c.validated and c.type in {"c", "n"})
        if not any(command.name in c.columns and "NOT NULL" in c.definition for c in proven):
            yield Finding(
                "set-not-null",
                "error",
                f"SET NOT NULL reads all of {relation.table} while nobody can read or write it",
                "use the operation set_not_null: CHECK … NOT VALID, VALIDATE, then SET NOT NULL",
                statement.text,
            )


def ddl_with_bulk_dml(statements: list[Statement], scene: Scene) -> Iterator[Finding]:
    """Find rows written behind DDL: its lock is held for as long as they take."""
    if not scene.step.transactional:
        return
    locked = [t for s in statements for t, mode in s.locks.items() if mode >= LockMode.SHARE and scene.busy(t)]
    bulk = [s for s in statements if _is_bulk(s) and scene.any_busy((*s.writes, *s.reads))]
    if locked and bulk:
        yield Finding(
            "ddl-with-bulk-dml",
            "error",
            f"{bulk[0].kind} of many rows runs in the transaction that has locked {locked[0]}",
            "put COMMIT between them (BEGIN … COMMIT blocks are kept apart), or fill with the section backfill:",
            bulk[0].text,
        )


def _is_bulk(statement: Statement) -> bool:
    node = statement.node
    values = is_a(node, ast.InsertStmt) and is_a(node.selectStmt, ast.SelectStmt) and bool(node.selectStmt.valuesLists)
    return is_a(node, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt) and not values


def unanalysable(statement: Statement, scene: Scene) -> Iterator[Finding]:
    """Find statements of which nobody can say before they run what they lock or write."""
    if not statement.known and scene.step.phase is Phase.EXPAND:
        yield Finding(
            "unanalysable",
            "warning",
            f"what {statement.kind} does is known only when it runs; ACCESS EXCLUSIVE is assumed",
            "write plain statements where possible; let a person read this one",
            statement.text,
        )


def _commands(statement: Statement, kind: At) -> Iterator[Node]:
    if is_a(statement.node, ast.AlterTableStmt):
        yield from (c for c in statement.node.cmds if c.subtype == kind)


def note_validated(statement: Statement, scene: Scene) -> None:
    """Remember that a constraint of a table was validated, so that what follows is proven."""
    if any(_commands(statement, At.AT_ValidateConstraint)):
        scene.validated.add(statement.tables[0])


RULES: tuple[Rule, ...] = (
    dml_without_where,
    truncate,
    full_rewrite,
    lock_table,
    invalid_index,
    drop_with_dependants,
    type_rewrite,
    set_not_null,
    unanalysable,
)
