"""PostgreSQL's own grammar (pglast): parse with exact error positions, walk a tree, read its tables and functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pglast import ast, keywords
from pglast.parser import ParseError, deparse_protobuf, parse_sql, parse_sql_protobuf, scan

from schema_change.core.errors import PlanError
from schema_change.core.names import Table, quote

#: A node of the tree. pglast's stubs make every field optional, also those the grammar always fills.
Node = Any

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
_QUOTED_WORDS = keywords.RESERVED_KEYWORDS | keywords.TYPE_FUNC_NAME_KEYWORDS | keywords.COL_NAME_KEYWORDS


class SqlError(PlanError, ValueError):
    """SQL text cannot be used; ``line`` is counted from 1 in the text that was given.

    It is a ValueError too, so that pydantic reports it with the key of the change file.
    """

    def __init__(self, message: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}", hint=hint)
        self.line = line


@dataclass(frozen=True, slots=True)
class Reference:
    """A relation named in a statement; ``location`` is the character at which the name starts."""

    table: Table
    location: int
    qualified: bool
    node: Node


def error_position(text: str, error: ParseError) -> int:
    """Return the character at which a parse failed.

    pglast takes the server's character position for one in bytes, so it is off behind multi-byte text. A second parse
    with every such character replaced by one ASCII letter gives the true position.
    """
    position = error.args[1] if len(error.args) > 1 else None
    if position is None:
        return len(text)
    if text.isascii():
        return int(position)
    try:
        parse_sql(re.sub(r"[^\x00-\x7f]", "x", text))
    except ParseError as ascii_error:
        found = ascii_error.args[1] if len(ascii_error.args) > 1 else None
        return len(text) if found is None else int(found)
    return int(position)


def reason(error: ParseError) -> str:
    """Return the server's own words of a parse error, without pglast's position."""
    return str(error.args[0])


def without_comments(text: str) -> str:
    """Return SQL with every comment replaced by one blank. Raises ParseError for an unterminated string or comment."""
    parts, at = [], 0
    for token in scan(text):
        if token.name in {"SQL_COMMENT", "C_COMMENT"}:
            parts += [text[at : token.start], " "]
            at = token.end + 1
    return "".join([*parts, text[at:]]).strip()


def identifier(name: str) -> str:
    """Return an identifier, quoted when PostgreSQL would quote it."""
    return name if _PLAIN.fullmatch(name) and name not in _QUOTED_WORDS else quote(name)


def is_a(node: Node, *kinds: type[ast.Node]) -> bool:
    """Tell whether a node is of one of these kinds; unlike isinstance, it does not bring the stubs' optional back."""
    return isinstance(node, kinds)


def children(node: Node) -> Iterator[Node]:
    """Yield the direct children of a node, in the order of its fields."""
    for field in node:
        yield from _nodes(getattr(node, field))


def _nodes(value: object) -> Iterator[Node]:
    if isinstance(value, ast.Node):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _nodes(item)


def parse(text: str) -> Node:
    """Return the statements of a text as raw trees. Raises ParseError."""
    return parse_sql(text)


def deparse(text: str) -> str:
    """Return one statement as PostgreSQL's deparser spells it. Raises ParseError."""
    return deparse_protobuf(parse_sql_protobuf(text))


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def references(node: Node, default_schema: str, hidden: frozenset[str] = frozenset()) -> Iterator[Reference]:
    """Yield the relations a tree names; names of common table expressions are not relations where they are visible."""
    if is_a(node, ast.RangeVar):
        qualified = node.schemaname is not None
        if qualified or node.relname not in hidden:
            yield Reference(Table(node.schemaname or default_schema, node.relname), node.location, qualified, node)
        return
    clause = getattr(node, "withClause", None)
    if clause is not None:
        names = [cte.ctename for cte in clause.ctes]
        for number, cte in enumerate(clause.ctes):
            visible = names if clause.recursive else names[:number]
            yield from references(cte.ctequery, default_schema, hidden.union(visible))
        hidden = hidden.union(names)
    for child in children(node):
        if child is not clause:
            yield from references(child, default_schema, hidden)


def tables_of(node: Node, default_schema: str) -> tuple[Table, ...]:
    """Return the relations a tree names, each once, in order of appearance."""
    return tuple(dict.fromkeys(r.table for r in references(node, default_schema)))


def dotted(names: Node) -> tuple[str, ...]:
    """Return a name's parts as the catalog spells them."""
    return tuple(part.sval for part in names)


def function_names(node: Node) -> tuple[str, ...]:
    """Return the functions a tree calls as ``name`` or ``schema.name``; pg_catalog is left out."""
    names = (dotted(n.funcname) for n in walk(node) if is_a(n, ast.FuncCall))
    return tuple(dict.fromkeys(".".join(p for p in parts if p != "pg_catalog") for parts in names))


def bare_function_names(node: Node) -> tuple[str, ...]:
    """Return the functions a tree calls without a schema, so that the search_path decides whose they are."""
    names = (dotted(n.funcname) for n in walk(node) if is_a(n, ast.FuncCall))
    return tuple(dict.fromkeys(parts[0] for parts in names if len(parts) == 1))


def line_of(text: str, position: int) -> int:
    """Return the line, counted from 1, of a character."""
    return text.count("\n", 0, position) + 1
