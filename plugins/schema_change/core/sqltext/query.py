"""The query of a view: exactly one SELECT without side effects, its tables qualified by schema."""

from __future__ import annotations

from dataclasses import dataclass

from pglast import ast
from pglast.parser import ParseError

from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.expression import Expression, parse_expression
from schema_change.core.sqltext.grammar import Node, SqlError, is_a


@dataclass(frozen=True, slots=True)
class Query:
    """One SELECT: ``text`` without comments, what it reads, and the names of its columns (None where unknown)."""

    text: str
    reads: Expression
    names: tuple[str | None, ...]


def parse_query(text: str) -> Query:
    """Read exactly one query. Raises SqlError (a ValueError) saying where."""
    try:
        clean = grammar.without_comments(text).rstrip("; \t\n")
        statements = grammar.parse(clean)
    except ParseError as error:
        at = grammar.line_of(text, grammar.error_position(text, error))
        raise SqlError(f"query, line {at}: {grammar.reason(error)}", hint="write one SELECT") from error
    if len(statements) != 1 or not is_a(statements[0].stmt, ast.SelectStmt):
        raise SqlError("query: this is not one SELECT", hint="write one SELECT, with CTEs if needed")
    # As a subquery of an expression it is checked, and its tables are qualified, like any other.
    reads = parse_expression(f"({clean})")
    return Query(reads.text[1:-1], reads, _names(statements[0].stmt))


def _names(select: Node) -> tuple[str | None, ...]:
    while select.larg is not None:
        select = select.larg
    if select.valuesLists:
        return tuple(f"column{number}" for number, _ in enumerate(select.valuesLists[0], 1))
    return tuple(target.name or _own_name(target.val) for target in select.targetList or ())


def _own_name(value: Node) -> str | None:
    """Return the name PostgreSQL gives to a column without AS, for columns and calls of functions."""
    if is_a(value, ast.ColumnRef) and is_a(value.fields[-1], ast.String):
        return str(value.fields[-1].sval)
    if is_a(value, ast.FuncCall):
        return grammar.dotted(value.funcname)[-1]
    return _own_name(value.arg) if is_a(value, ast.TypeCast) else None
