"""Rows that would not fit the constraints of raw SQL: counted by the pre-check, before anything is touched."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pglast import ast
from pglast.enums import AlterTableType as At
from pglast.enums import ConstrType

from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.model import DataCheck, Step
from schema_change.core.names import Table
from schema_change.core.planning.rules.base import commands
from schema_change.core.recipes import not_null, unique
from schema_change.core.recipes.orphans import Reference
from schema_change.core.sqltext import grammar, locks
from schema_change.core.sqltext.grammar import Node, SqlError, is_a
from schema_change.core.sqltext.statements import Statement, split


@dataclass(frozen=True, slots=True)
class _Script:
    """All of a plan's raw SQL; ``valid`` are the constraints, by table and name, that a VALIDATE follows."""

    catalog: Catalog
    statements: tuple[Statement, ...]
    rewritten: frozenset[Table]
    valid: frozenset[tuple[Table, str]]


def raw_checks(steps: Sequence[Step], catalog: Catalog, typed: Collection[Step] = ()) -> tuple[DataCheck, ...]:
    """Return the checks of raw SQL: no duplicates, no NULLs and no orphans where they are forbidden.

    ``typed`` are the steps of typed operations, which bring their own. Tables are left out whose rows the plan writes,
    or may write: it may make them fit.
    """
    statements = tuple(statement for step in steps if step not in typed for statement in _statements(step))
    if not all(s.known for s in statements):
        return ()
    written = {t for s in statements for t in s.writes} | {s.backfill.table for s in steps if s.backfill}
    valid = {(s.tables[0], c.name) for s in statements for c in commands(s, At.AT_ValidateConstraint)}
    script = _Script(catalog, statements, frozenset(written), frozenset(valid))
    return tuple(dict.fromkeys(check for s in statements for check in _of(s, script)))


def _statements(step: Step) -> Sequence[Statement]:
    try:
        return split("".join(f"{text}\n;\n" for text in step.statements))
    except SqlError:  # the linter reports what cannot be read
        return ()


def _of(statement: Statement, script: _Script) -> Iterator[DataCheck]:
    relation = script.catalog.get(statement.tables[0]) if statement.tables else None
    if relation is None or relation.kind not in {"r", "p"} or relation.table in script.rewritten:
        return
    node = statement.node
    if is_a(node, ast.IndexStmt) and node.unique and node.whereClause is None:
        # Of an expression, the catalog does not tell whether it can be computed in a session of ours.
        names = tuple(p.name for p in node.indexParams if p.name)
        if len(names) == len(node.indexParams):
            yield from _duplicates(relation, names, distinct=not node.nulls_not_distinct)
    for command in commands(statement, At.AT_SetNotNull):
        yield from _nulls(relation, (command.name,))
    schema = next((s.schema for s in statement.settings if s.schema), "public")
    for command in commands(statement, At.AT_AddConstraint):
        yield from _of_constraint(command.def_, relation, script, schema)


def _of_constraint(constraint: Node, relation: Relation, script: _Script, schema: str) -> Iterator[DataCheck]:
    columns = grammar.dotted(constraint.keys or ())
    if constraint.contype in {ConstrType.CONSTR_UNIQUE, ConstrType.CONSTR_PRIMARY} and columns:
        yield from _duplicates(relation, columns, distinct=not constraint.nulls_not_distinct)
    if constraint.contype == ConstrType.CONSTR_PRIMARY:
        index = relation.index(constraint.indexname) if constraint.indexname else None
        yield from _nulls(relation, index.columns if index else columns)
    if constraint.skip_validation and (relation.table, constraint.conname) not in script.valid:
        return
    if constraint.contype == ConstrType.CONSTR_NOTNULL:
        yield from _nulls(relation, columns)
    if constraint.contype == ConstrType.CONSTR_FOREIGN:
        yield from _orphans(constraint, relation, script, schema)


def _duplicates(relation: Relation, columns: tuple[str, ...], *, distinct: bool) -> Iterator[DataCheck]:
    if all(relation.column(c) for c in columns):
        yield unique.duplicates(relation.table, columns, distinct=distinct)


def _nulls(relation: Relation, columns: tuple[str, ...]) -> Iterator[DataCheck]:
    known = (relation.column(c) for c in columns)
    yield from (not_null.null_check(relation.table, c.name, relation.key) for c in known if c and c.nullable)


def _orphans(constraint: Node, relation: Relation, script: _Script, schema: str) -> Iterator[DataCheck]:
    parent = script.catalog.get(locks.relation(constraint.pktable, schema))
    if parent is None or parent.table in script.rewritten:
        return
    columns = grammar.dotted(constraint.fk_attrs)
    primary = next((c.columns for c in parent.constraints if c.type == "p"), ())
    wanted = grammar.dotted(constraint.pk_attrs or ()) or primary
    known = all(map(relation.column, columns)) and all(map(parent.column, wanted)) and len(columns) == len(wanted)
    if known:
        remedy = "the operation add_foreign_key deletes them, sets them to NULL or gives them a row to refer to"
        yield Reference(relation, columns, parent, wanted).check(remedy)
