"""A template of the warehouse as it is, and with a column more, another type, or a column less. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pglast import ast
from pglast.parser import ParseError, scan

from schema_change.core.errors import PlanError
from schema_change.core.names import Table, quote
from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.grammar import Node, is_a

_DATE = "{TARGET_DATE}"
_PLACES = {"{SCHEMA}": "s", "{VIEW_NAME}": "v"}


@dataclass(frozen=True, slots=True)
class Tenant:
    """A schema with the tenant's view, and the types of its columns by name."""

    schema: str
    types: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Template:
    """What ``_wh.mv_templates`` says of a template, and which parts it has; ``rows`` are an estimate.

    ``columns`` are names and types in the order of the query's, ``key`` those of its unique index. ``changing`` is the
    column that a run is changing just now.
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

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """Read a row of the block ``templates``."""
        name, query, indexes, columns, tenants, years, days, rows, key, changing = row
        return cls(
            *(name, query, tuple((n, t) for n, t in columns), indexes or ""),
            *(tuple(Tenant(*t) for t in tenants), tuple(Table(*y) for y in years), days, rows, tuple(key), changing),
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
        targets = self._targets()
        query = (
            f"{self.query[: targets.end].rstrip()},\n    ({expression}) AS {quote(column)}\n{self.query[targets.end :]}"
        )
        indexes = self.indexes
        if index:
            name = "idx_{SCHEMA}_{VIEW_NAME}_" + re.sub(r"\W", "_", column)
            statement = f"CREATE INDEX {name} ON {{SCHEMA}}.{{VIEW_NAME}} ({quote(column)})"
            indexes = ";\n".join([*self._index_statements(), statement]) + ";"
        return replace(self, query=query, columns=(*self.columns, (column, type_)), indexes=indexes)

    def with_type(self, column: str, type_: str, using: str | None) -> Self:
        """Return the template with another type of a column; ``using`` is over the columns of its query."""
        place = self.place_of(column)
        names = ", ".join(quote(name) for name, _ in self.columns)
        value = f"({using or quote(column)})::{type_} AS {quote(column)}"
        selected = ", ".join(value if at == place else quote(name) for at, (name, _) in enumerate(self.columns))
        self._targets()  # refuses what cannot be read
        query = f"SELECT {selected}\nFROM (\n{self.query.strip().rstrip(';')}\n) AS {quote(self.name)} ({names})"
        columns = tuple((n, type_ if n == column else t) for n, t in self.columns)
        return replace(self, query=query, columns=columns)

    def without_column(self, column: str) -> Self:
        """Return the template without a column, and without the indexes made of it."""
        place, targets = self.place_of(column), self._targets()
        if len(self.columns) == 1:
            raise PlanError(f"{column} is the only column of template {self.name}", hint="drop the template instead")
        starts = [*targets.starts, targets.end]
        if place + 1 < len(self.columns):
            query = self.query[: starts[place]] + self.query[starts[place + 1] :]
        else:
            query = f"{self.query[: targets.commas[-1]].rstrip()}\n{self.query[targets.end :]}"
        kept = [s for s in self._index_statements() if column not in _indexed(s)]
        if column in self.key:
            raise PlanError(
                f"{column} is in the unique index of template {self.name}, by which its rows are told apart",
                hint="give the template another unique index first",
            )
        columns = tuple(c for c in self.columns if c[0] != column)
        return replace(self, query=query, columns=columns, indexes=";\n".join(kept) + (";" if kept else ""))

    def indexes_on(self, column: str) -> tuple[str, ...]:
        """Return the index statements that name a column."""
        return tuple(s for s in self._index_statements() if column in _indexed(s))

    def _index_statements(self) -> Iterator[str]:
        for statement in self.indexes.split(";"):
            if statement.strip():
                yield statement.strip()

    def _targets(self) -> _Targets:
        """Find the items of the query's select list. Raises PlanError for a query in which they cannot be told."""
        # Locations count characters then, and the date is one that can be parsed.
        text = re.sub(r"[^\x00-\x7f]", "x", self.query.replace(_DATE, "2000-01-01   "))
        try:
            statements = grammar.parse(text)
            tokens = scan(text)
        except ParseError as error:
            raise _unreadable(self.name, grammar.reason(error)) from error
        if len(statements) != 1 or not is_a(statements[0].stmt, ast.SelectStmt):
            raise _unreadable(self.name, "it is not one SELECT")
        select = statements[0].stmt
        if select.larg is not None or not select.targetList or select.fromClause is None:
            raise _unreadable(self.name, "it is no simple SELECT … FROM …")
        starts = [target.location for target in select.targetList]
        if any(is_a(t.val, ast.ColumnRef) and is_a(t.val.fields[-1], ast.A_Star) for t in select.targetList):
            raise _unreadable(self.name, "it selects *, so its columns cannot be told")
        if len(starts) != len(self.columns):
            raise _unreadable(self.name, f"it selects {len(starts)} columns, and {len(self.columns)} are defined")
        depth, commas = 0, []
        before = ""
        for token in tokens:
            word = text[token.start : token.end + 1].upper()
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(word, 0)
            if token.start > starts[0] and depth == 0:
                if word == "FROM" and before != "DISTINCT":
                    return _Targets(tuple(starts), tuple(commas), token.start)
                if word == ",":
                    commas.append(token.start)
            before = word
        raise _unreadable(self.name, "its FROM was not found")


@dataclass(frozen=True, slots=True)
class _Targets:
    """Where each item of a select list starts, where its commas are, and where FROM follows."""

    starts: tuple[int, ...]
    commas: tuple[int, ...]
    end: int


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
    names = (n for part in (node.indexParams, node.indexIncludingParams or ()) for n in part)
    columns = {n.name for n in names if n.name}
    refs = (n for n in grammar.walk(node) if is_a(n, ast.ColumnRef))
    return columns | {n.fields[-1].sval for n in refs if is_a(n.fields[-1], ast.String)}
