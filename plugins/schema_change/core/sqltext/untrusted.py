"""Expressions of people who are not trusted with the database: of columns, constants and PostgreSQL's own functions.

They run with the rights of the connection, so they could show their author what is not theirs to see, or call what a
user, or an extension such as tablefunc, has made and runs any SQL. A name without a schema could be one of those:
functions are therefore named in full.
"""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast
from pglast.parser import ParseError

from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.expression import index_keys, parse_expression
from schema_change.core.sqltext.grammar import Node, is_a

_SELECT = "SELECT ("
#: They tell about the server or the session, such as a password in primary_conninfo.
_REFUSED = frozenset({"current_setting", "current_query"})


def own_expression(text: str) -> tuple[str, list[str]]:
    """Return an expression with its functions named in full, and what it must not do. Raises SqlError."""
    clean = parse_expression(text).text
    statement = f"{_SELECT}{clean})"
    node = grammar.parse(statement)[0].stmt
    calls = [n for n in grammar.walk(node) if is_a(n, ast.FuncCall) and len(n.funcname) == 1]
    for at in sorted((call.location for call in calls), reverse=True):
        statement = f"{statement[:at]}pg_catalog.{statement[at:]}"
    return statement[len(_SELECT) : -1], list(dict.fromkeys(_beyond(node)))


def own_index_key(item: str) -> list[str]:
    """Return what an item of an index must not do; nothing for one that is no expression at all."""
    try:
        (key,) = index_keys((item,))
        node = grammar.parse(f"CREATE INDEX ON t ({key.text})")[0].stmt.indexParams
    except (ParseError, ValueError):
        return []  # the name of a column, or refused when it is planned
    return list(dict.fromkeys(_beyond(node[0])))


def _beyond(node: Node) -> Iterator[str]:
    tables = grammar.tables_of(node, "public")
    yield from (f"{table} is read" for table in tables)
    for part in grammar.walk(node):
        if is_a(part, ast.SubLink) and not tables:
            yield "a subquery is run"
        elif is_a(part, ast.FuncCall):
            name = grammar.dotted(part.funcname)
            if len(name) > 1 and name[0] != "pg_catalog":
                yield f"{'.'.join(name)}() is called"
            elif name[-1] in _REFUSED:
                yield f"{name[-1]}() is called"
        elif is_a(part, ast.A_Expr) and len(part.name) > 1 and grammar.dotted(part.name)[0] != "pg_catalog":
            yield f"operator {'.'.join(grammar.dotted(part.name))} is called"
        elif is_a(part, ast.A_Indirection) and any(is_a(step, ast.String, ast.A_Star) for step in part.indirection):
            # (row).name calls the function of that name when the row has no such field.
            yield "a field of a composite value is taken"
