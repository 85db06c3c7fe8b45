"""A view that readers use: it reads one table, and from cutover on another, under the same names and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pglast import ast
from psycopg import sql

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.recipes import grants, probe, raw, text
from schema_change.core.recipes import view as view_recipe
from schema_change.core.recipes.index import is_taken
from schema_change.core.sqltext import grammar

_COMMA = sql.SQL(", ")
_NOT_PLAIN = (
    *("whereClause", "groupClause", "havingClause", "distinctClause", "limitCount", "limitOffset", "withClause"),
    *("windowClause", "sortClause", "larg", "valuesLists"),
)


@dataclass(frozen=True, slots=True)
class Switch:
    """The view as it is afterwards, the step that creates it, unless it is there, and the one that switches it."""

    relation: Relation
    query: str
    switch: Step
    create: Step | None = None


def switch(
    catalog: Catalog, view: Table, *, old: Relation, new: Relation, up: Mapping[str, str], down: Mapping[str, str]
) -> Switch:
    """Return how the view is switched from the old table to the new one.

    ``up`` are expressions over an old row by column of the new table, ``down`` over a new row by column of the old one.
    A view that is there must be nothing but columns of the old table. Raises PlanError when it is more, or when the new
    table has no value for a column of it.
    """
    known = catalog.get(view)
    if known is None:
        return _made(catalog, view, old, new, up)
    query = _query(new.table, [(c.name, _value(known, c, new, down)) for c in _plain_columns(known, old)])
    before = (known.definition or "").strip().rstrip(";")
    return Switch(replace(known, definition=query), query, _step(known, before, query, known.options))


def after(catalog: Catalog, switched: Switch, new: Relation) -> Catalog:
    """Return the catalog in which the view reads the new table."""
    catalog = catalog.with_relation(new)
    query = view_recipe.query_of(catalog, switched.query)
    return view_recipe.with_uses(catalog, switched.relation.table, query).with_relation(switched.relation)


def _made(catalog: Catalog, view: Table, old: Relation, new: Relation, up: Mapping[str, str]) -> Switch:
    """Return a view with the columns of the new table, made of the old one until the switch."""
    if is_taken(catalog, view):
        raise PlanError(f"there is already an index {view}", hint="choose another name for the view")
    values = [(c.name, _cast(up.get(c.name, c.default or "NULL"), c.type)) for c in new.columns]
    before = _query(old.table, values)
    query = _query(new.table, [(c.name, sql.Identifier(new.table.name, c.name)) for c in new.columns])
    relation = Relation(view, "v", new.owner, columns=new.columns, definition=query, grants=new.grants)
    owner = sql.SQL("ALTER VIEW {} OWNER TO {}").format(view.identifier, sql.Identifier(new.owner))
    create = Step(
        phase=Phase.EXPAND,
        title=f"create view {view} of {old.table}",
        tables=(old.table,),
        statements=(view_recipe.create_or_replace(view, before), text(owner), *grants.to_others(relation)),
        lock=LockMode.ACCESS_SHARE,
        probe=probe("name_taken", relation=view.quoted),
        undo=(text(sql.SQL("DROP VIEW IF EXISTS {}").format(view.identifier)),),
        undo_lock=LockMode.ACCESS_SHARE,
    )
    return Switch(relation, query, _step(relation, before, query, ()), create)


def _step(view: Relation, before: str, query: str, options: tuple[str, ...]) -> Step:
    return Step(
        phase=Phase.CUTOVER,
        title=f"let view {view.table} read the new version",
        tables=(view.table,),
        statements=(view_recipe.create_or_replace(view.table, query, options),),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("name_taken", relation=view.table.quoted),
        undo=(view_recipe.create_or_replace(view.table, before, options),),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )


def _query(table: Table, values: Sequence[tuple[str, sql.Composable]]) -> str:
    listed = _COMMA.join(sql.SQL("{} AS {}").format(value, sql.Identifier(name)) for name, value in values)
    return text(sql.SQL("SELECT {} FROM {}").format(listed, table.identifier))


def _cast(expression: str, type_: str) -> sql.Composed:
    return sql.SQL("({})::{}").format(raw(expression), raw(type_))


def _value(view: Relation, column: Column, new: Relation, down: Mapping[str, str]) -> sql.Composable:
    same = new.column(column.name)
    if same is not None and same.type == column.type:
        return sql.Identifier(new.table.name, column.name)
    if column.name in down:
        return _cast(down[column.name], column.type)
    raise PlanError(
        f"view {view.table} has a column {column.name} {column.type}, for which the new version has no value",
        hint=f"add down: {{{column.name}: <expression over the new row>}}, or let the new version have that column",
    )


def _plain_columns(view: Relation, old: Relation) -> tuple[Column, ...]:
    """Return the columns of a view that only reads columns of the old table under their own names."""
    node: grammar.Node = grammar.parse(view.definition or "SELECT")[0].stmt
    plain = (
        view.kind == "v"
        and grammar.is_a(node, ast.SelectStmt)
        and set(grammar.tables_of(node, "public")) == {old.table}
        and not any(getattr(node, clause, None) for clause in _NOT_PLAIN)
        and grammar.is_a(node.fromClause[0], ast.RangeVar)
        and all(
            grammar.is_a(t.val, ast.ColumnRef) and t.val.fields[-1].sval == c.name
            for t, c in zip(node.targetList, view.columns, strict=True)
        )
    )
    if not plain:
        raise PlanError(
            f"{view.table} is not a view of columns of {old.table} alone",
            hint="name another view; replace this one with replace_view in a later change",
        )
    return view.columns
