"""A column's default: for rows inserted from now on only, so nothing but the catalog changes."""

from __future__ import annotations

import re

from psycopg import sql

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.names import Table
from schema_change.core.operations.base import column_of, expression_of
from schema_change.core.recipes import raw, text
from schema_change.core.sqltext.expression import parse_expression
from schema_change.core.sqltext.grammar import identifier

_NEXTVAL = re.compile(r"nextval\(\s*'(?P<name>(?:[^']|'')+)'\s*(?:::\s*(?:pg_catalog\.)?regclass\s*)?\)", re.IGNORECASE)


_NULL = re.compile(r"\(?\s*NULL\s*\)?(?:\s*::.+)?|CAST\s*\(\s*NULL\s+AS\b.+", re.IGNORECASE | re.DOTALL)


def statement(table: Table, column: str, default: str | None) -> str:
    """Return the statement that gives a column a default, or takes it away with None."""
    change = sql.SQL("SET DEFAULT {}").format(raw(default)) if default is not None else sql.SQL("DROP DEFAULT")
    return text(sql.SQL("ALTER TABLE {} ALTER COLUMN {} {}").format(table.identifier, sql.Identifier(column), change))


def parsed(catalog: Catalog, default: str) -> str:
    """Return a default of a change file, safe to embed.

    It may read no column and no table; ``nextval('a_sequence')`` is the one call with an effect that is let through.
    Raises PlanError.
    """
    if match := _NEXTVAL.fullmatch(default.strip()):
        return _nextval(catalog, match["name"].replace("''", "'"))
    if _NULL.fullmatch(default.strip()):
        raise PlanError("default: NULL is what a column without a default gets", hint="use drop_default")
    expression = expression_of(catalog, parse_expression, default, "default")
    if expression.columns or expression.tables:
        raise PlanError(
            f"default: {default.strip()} reads {', '.join((*expression.columns, *map(str, expression.tables)))}",
            hint="a default knows no row; use a constant or a function, or a generated column",
        )
    return expression.text


def defaultable(catalog: Catalog, relation: Relation, name: str) -> Column:
    """Return a column whose default may be changed, and given back exactly; else raise PlanError."""
    column = column_of(relation, name)
    if column.identity or column.generated:
        what = "an identity" if column.identity else "a generated"
        raise PlanError(f"{relation.table}.{name} is {what} column, which has no default", hint="remove the operation")
    differing = [r.table for r in catalog.below(relation.table) if column_of(r, name).default != column.default]
    if differing:
        raise PlanError(
            f"{', '.join(map(str, differing))} below {relation.table} has another default for {name}, which would be "
            "lost",
            hint="give these tables the default of their parent first, each with set_default or drop_default",
        )
    return column


def _nextval(catalog: Catalog, name: str) -> str:
    sequence = Table.parse(name)
    known = f"sequence {'.'.join(map(identifier, (sequence.schema, sequence.name)))}"
    if known not in catalog.objects:
        raise PlanError(f"default: there is no sequence {sequence}", hint="create the sequence first")
    return text(sql.SQL("nextval({}::regclass)").format(sql.Literal(sequence.quoted)))
