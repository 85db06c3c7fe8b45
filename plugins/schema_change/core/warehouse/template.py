"""A template of the warehouse as it is, and with a column more, another type, or a column less. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pglast import ast
from pglast.parser import ParseError, Token, scan

from schema_change.core.errors import PlanError
from schema_change.core.names import Table, quote
from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.grammar import Node, is_a
from schema_change.core.warehouse.own import Own

_DATE = "{TARGET_DATE}"
_PLACES = {"{SCHEMA}": "s", "{VIEW_NAME}": "v"}


@dataclass(frozen=True, slots=True)
class Tenant:
    """A schema with the tenant's view, and the types of its columns by name; some are ``adapted`` from older parts."""

    schema: str
    types: Mapping[str, str]
    adapted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """What ``_wh.mv_templates`` says of a template, and which parts it has; ``rows`` are an estimate.

    ``columns`` are names and types in the order of the query's, ``key`` those of its unique index. ``changing`` is the
    column that a run is changing just now. ``own`` is there where a warehouse has functions of its own.
    """

    name: str
    query: str
    columns: tuple[tuple[str, str], ...]
    indexes: str = ""
    tenants: tuple[Tenant, ...] = ()
    years: tuple[Table, ...] = ()
    days: int = 0
    rows: int = 0
    key: tuple[str, ...] = ()
    changing: str | None = None
    own: Own | None = None

    @classmethod
    def from_row(cls, row: Sequence[Any], own: Own | None = None) -> Self:
        """Read a row of the block ``templates``."""
        name, query, indexes, columns, tenants, years, days, rows, key, changing = row
        return cls(
            name=name,
            query=query,
            columns=tuple((n, t) for n, t in columns),
            indexes=indexes or "",
            tenants=tuple(Tenant(schema, types, tuple(adapted)) for schema, types, adapted in tenants),
            years=tuple(Table(*y) for y in years),
            days=days,
            rows=rows,
            key=tuple(key),
            changing=changing,
            own=own,
        )

    @property
    def definitions(self) -> str:
        """Return the columns as ``column_definitions`` has them."""
        return ",\n".join(f"{grammar.identifier(name)} {type_}" for name, type_ in self.columns)

    @property
    def view(self) -> Table:
        """Return the public view."""
        return Table("public", self.name)

    def place_of(self, column: str) -> int:
        """Return where a column is, from 0. Raises PlanError naming those there are."""
        names = [name for name, _ in self.columns]
        if column not in names:
            raise PlanError(f"template {self.name} has no column {column}", hint=f"its columns are {', '.join(names)}")
        return names.index(column)

    def with_column(self, column: str, type_: str, expression: str, *, index: bool) -> Self:
        """Return the template with a column more, the last one, which the source computes by an expression."""
        if any(name == column for name, _ in self.columns):
            raise PlanError(f"template {self.name} already has a column {column}", hint="choose another name")
        selected = self._selected()
        last, rest = selected.items[-1].end, self.query[selected.end :]
        # A comment behind the last item must not swallow the comma.
        head = f"{self.query[:last]},{self.query[last : selected.end].rstrip()}"
        indexes = self.indexes
        if index:
            name = "idx_{SCHEMA}_{VIEW_NAME}_" + re.sub(r"\W", "_", column)
            statement = f"CREATE INDEX {name} ON {{SCHEMA}}.{{VIEW_NAME}} ({quote(column)})"
            indexes = _joined((*self._index_statements(), statement))
        return replace(
            self,
            query=f"{head}\n    ({expression}) AS {quote(column)}\n{rest}",
            columns=(*self.columns, (column, type_)),
            indexes=indexes,
        )

    def with_type(self, column: str, type_: str, using: str | None) -> Self:
        """Return the template with another type of a column; ``using`` is over the columns of its query."""
        place, selected = self.place_of(column), self._selected()
        item = selected.items[place]
        if using is None and not selected.is_grouped:
            value = f"({self.query[item.start : item.value_end]})::{type_} AS {quote(column)}"
            query = f"{self.query[: item.start]}{value}{self.query[item.end :]}"
        else:
            value = f"({using or quote(column)})::{type_} AS {quote(column)}"
            names = (quote(name) for name, _ in self.columns)
            query = self._around(selected, (value if at == place else name for at, name in enumerate(names)))
        columns = tuple((n, type_ if n == column else t) for n, t in self.columns)
        return replace(self, query=query, columns=columns)

    def without_column(self, column: str) -> Self:
        """Return the template without a column, and without the indexes made of it."""
        place, selected = self.place_of(column), self._selected()
        if len(self.columns) == 1:
            raise PlanError(f"{column} is the only column of template {self.name}", hint="drop the template instead")
        if column in self.key:
            raise PlanError(
                f"{column} is in the unique index of template {self.name}, by which its rows are told apart",
                hint="give the template another unique index first",
            )
        columns = tuple(c for c in self.columns if c[0] != column)
        start = selected.items[place].start
        if selected.is_grouped:
            # It may be what the rows are grouped or told apart by, or be counted in GROUP BY 2.
            query = self._around(selected, (quote(name) for name, _ in columns))
        elif place + 1 < len(self.columns):
            query = self.query[:start] + self.query[selected.items[place + 1].start :]
        else:
            comma = selected.commas[-1]
            head = f"{self.query[:comma]}{self.query[comma + 1 : start]}".rstrip()
            query = f"{head}\n{self.query[selected.end :]}"
        kept = tuple(s for s in self._index_statements() if column not in _indexed(s))
        return replace(self, query=query, columns=columns, indexes=_joined(kept))

    def indexes_on(self, column: str) -> tuple[str, ...]:
        """Return the index statements that name a column."""
        return tuple(s for s in self._index_statements() if column in _indexed(s))

    def _index_statements(self) -> Iterator[str]:
        text = grammar.without_comments(self.indexes)
        start = 0
        for end in (*(t.start for t in scan(text) if text[t.start] == ";"), len(text)):
            if statement := text[start:end].strip():
                yield statement
            start = end + 1

    def _around(self, selected: _Selected, values: Iterable[str]) -> str:
        """Return a query of values over the rows of the template's own, whose columns have their names there."""
        names = ", ".join(quote(name) for name, _ in self.columns)
        query = self.query[: selected.stop].strip()
        return f"SELECT {', '.join(values)}\nFROM (\n{query}\n) AS {quote(self.name)} ({names})"

    def _selected(self) -> _Selected:
        """Find the items of the query's select list. Raises PlanError for a query in which they cannot be told."""
        # Locations count characters then, and the date is one that can be parsed.
        text = re.sub(r"[^\x00-\x7f]", "x", self.query.replace(_DATE, "2000-01-01   "))
        try:
            statements = grammar.parse(text)
        except ParseError as error:
            raise _unreadable(self.name, grammar.reason(error)) from error
        if len(statements) != 1 or not is_a(statements[0].stmt, ast.SelectStmt):
            raise _unreadable(self.name, "it is not one SELECT")
        select = statements[0].stmt
        if select.larg is not None or not select.targetList or select.fromClause is None:
            raise _unreadable(self.name, "it is no simple SELECT … FROM …")
        targets = select.targetList
        if any(is_a(t.val, ast.ColumnRef) and is_a(t.val.fields[-1], ast.A_Star) for t in targets):
            raise _unreadable(self.name, "it selects *, so its columns cannot be told")
        if len(targets) != len(self.columns):
            raise _unreadable(self.name, f"it selects {len(targets)} columns, and {len(self.columns)} are defined")
        is_grouped = any((select.distinctClause, select.groupClause, select.sortClause))
        tokens = [t for t in scan(text) if t.name not in {"SQL_COMMENT", "C_COMMENT"}]
        stop = next((t.start for t in tokens if text[t.start] == ";"), len(text))
        lists = _taken_apart(text, [t for t in tokens if t.start >= targets[0].location])
        items = tuple(_item(text, tokens, t.name is not None) for (tokens, _), t in zip(lists, targets, strict=True))
        ends = [end for _, end in lists]
        return _Selected(items, tuple(ends[:-1]), ends[-1], is_grouped=is_grouped, stop=stop)


@dataclass(frozen=True, slots=True)
class _Item:
    """Where an item of a select list starts, where its value ends, and where the name behind that does."""

    start: int
    value_end: int
    end: int


@dataclass(frozen=True, slots=True)
class _Selected:
    """The items of a select list, where the commas between them are, and where FROM follows.

    ``is_grouped`` tells that a change of one item could change which rows there are; ``stop`` is the statement's end.
    """

    items: tuple[_Item, ...]
    commas: tuple[int, ...]
    end: int
    is_grouped: bool
    stop: int


def _taken_apart(text: str, tokens: Iterable[Token]) -> list[tuple[list[Token], int]]:
    """Return the tokens of each item of a select list, and where the comma or the FROM behind it is."""
    found: list[tuple[list[Token], int]] = []
    item: list[Token] = []
    depth, before = 0, ""
    for token in tokens:
        word = text[token.start : token.end + 1].upper()
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(word, 0)
        is_from = word == "FROM" and before != "DISTINCT"
        if depth == 0 and (word == "," or is_from):
            found.append((item, token.start))
            item = []
            if is_from:
                break
        else:
            item.append(token)
        before = word
    return found


def _item(text: str, tokens: Sequence[Token], is_named: bool) -> _Item:
    value = tokens[:-1] if is_named else tokens
    if is_named and text[value[-1].start : value[-1].end + 1].upper() == "AS":
        value = value[:-1]
    return _Item(tokens[0].start, value[-1].end + 1, tokens[-1].end + 1)


def _joined(statements: Sequence[str]) -> str:
    return "".join(f"{statement};\n" for statement in statements).rstrip()


def _unreadable(name: str, why: str) -> PlanError:
    return PlanError(
        f"the query of template {name} cannot be changed: {why}",
        hint="write it as one SELECT with each column by itself, or change the template by hand",
    )


def _indexed(statement: str) -> set[str]:
    for place, name in _PLACES.items():
        statement = statement.replace(place, name)
    try:
        node: Node = grammar.parse(statement)[0].stmt
    except ParseError as error:
        raise PlanError(f"{statement}: {grammar.reason(error)}", hint="correct the template's indexes") from error
    if not is_a(node, ast.IndexStmt):
        raise PlanError(f"{statement} makes no index", hint="correct the template's indexes")
    names = (n for part in (node.indexParams, node.indexIncludingParams or ()) for n in part)
    columns = {n.name for n in names if n.name}
    refs = (n for n in grammar.walk(node) if is_a(n, ast.ColumnRef))
    return columns | {n.fields[-1].sval for n in refs if is_a(n.fields[-1], ast.String)}
