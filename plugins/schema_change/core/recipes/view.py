"""Views: their query read and checked, and the statements that make and replace them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from psycopg import sql

from schema_change.core.catalog.model import Catalog, Relation, Use
from schema_change.core.errors import PlanError
from schema_change.core.names import Table
from schema_change.core.operations.base import expression_of
from schema_change.core.recipes import raw, text
from schema_change.core.recipes.dependents import shown
from schema_change.core.sqltext.query import Query, parse_query


def query_of(catalog: Catalog, query: str) -> Query:
    """Read the query of a change file; raise PlanError when it is refused or reads what does not exist."""
    try:
        parsed = parse_query(query)
    except ValueError as error:
        raise PlanError(f"query: {error}", hint="write one SELECT, without side effects") from error
    expression_of(catalog, lambda _: parsed.reads, query, "query")
    own = {"pg_catalog", "information_schema"}
    if unknown := [str(t) for t in parsed.reads.tables if t.schema not in own and catalog.get(t) is None]:
        raise PlanError(
            f"query: there is no table or view {', '.join(unknown)}",
            hint="names without a schema mean public; a table made by this change comes first in the list",
        )
    return parsed


def create(view: Table, query: str, options: Iterable[str] = (), *, materialized: bool = False) -> str:
    """Return CREATE VIEW; ``options`` are ``name=value``, as the catalog has them."""
    return _create(sql.SQL("CREATE MATERIALIZED VIEW" if materialized else "CREATE VIEW"), view, query, options)


def create_or_replace(view: Table, query: str, options: Iterable[str] = ()) -> str:
    """Return CREATE OR REPLACE VIEW, which keeps everything but the query and the options."""
    return _create(sql.SQL("CREATE OR REPLACE VIEW"), view, query, options)


def _create(head: sql.SQL, view: Table, query: str, options: Iterable[str]) -> str:
    pairs = [option.partition("=") for option in options]
    listed = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(n), sql.Literal(v)) for n, _, v in pairs)
    return text(
        sql.SQL("{} {}{} AS\n{}").format(
            head, view.identifier, sql.SQL(" WITH ({})").format(listed) if pairs else sql.SQL(""), raw(query)
        )
    )


def drop(relation: Relation) -> str:
    """Return the statement that drops a view or materialized view, if it is there; never what depends on it."""
    kind = sql.SQL("MATERIALIZED VIEW" if relation.kind == "m" else "VIEW")
    return text(sql.SQL("DROP {} IF EXISTS {}").format(kind, relation.table.identifier))


def comment_on(view: Table, comment: str | None, *, materialized: bool = False) -> str:
    """Return the statement that sets or removes the comment on a view."""
    kind = sql.SQL("MATERIALIZED VIEW" if materialized else "VIEW")
    return text(sql.SQL("COMMENT ON {} {} IS {}").format(kind, view.identifier, sql.Literal(comment)))


def with_uses(catalog: Catalog, view: Table, query: Query | None, kind: str = "view") -> Catalog:
    """Return the catalog with the tables a view reads as its query says; without a query, with none of them."""
    name = shown(view)
    reads = query.reads if query else None
    for relation in tuple(catalog.relations.values()):
        uses = tuple(u for u in relation.uses if not (u.kind == kind and u.name == name))
        if reads and relation.table in reads.tables:
            everything = any("*" in parts for parts in reads.names)
            columns = tuple(c.name for c in relation.columns if everything or c.name in reads.columns)
            uses = (*uses, Use(kind, name, columns))
        if uses != relation.uses:
            dependants = {d for d in relation.dependants if d != f"{kind} {name}"}
            dependants |= {str(u) for u in uses if u.name == name}
            catalog = catalog.with_relation(replace(relation, uses=uses, dependants=tuple(sorted(dependants))))
    return catalog
