"""What an operation is: a pydantic model that plans itself, purely, against a catalog."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import DataCheck, Expectation, Phase, Reading, Retired, Step, Tally
from schema_change.core.names import Table
from schema_change.core.sqltext.expression import Expression
from schema_change.core.sqltext.grammar import identifier

_Parsed = TypeVar("_Parsed")
_Text = TypeVar("_Text")


@dataclass(frozen=True, slots=True)
class Planned:
    """What one operation contributes to a plan; ``catalog`` is the shape after it, for the operations that follow."""

    catalog: Catalog
    steps: tuple[Step, ...]
    expectations: tuple[Expectation, ...] = ()
    data_checks: tuple[DataCheck, ...] = ()
    written: tuple[Table, ...] = ()
    read: tuple[Table, ...] = ()
    filled: frozenset[tuple[Table, str]] = frozenset()
    """Columns whose values, or whose final shape, are there only after the backfill or from cutover on."""
    data_migration: bool = False
    """Data that exists is changed or moved, so the owner of the data has a say."""
    notices: tuple[str, ...] = ()
    touched: tuple[Table, ...] = ()
    """Relations whose catalog entries change though no row of theirs does: views, the other end of a foreign key."""
    whole: bool = False
    """What else changes is no relation (an enum, an extension), so that the fingerprint covers the whole database."""
    one_way: tuple[str, ...] = ()
    """Why a rollback after cutover could not give everything back."""
    retired: tuple[Retired, ...] = ()
    readings: tuple[Reading, ...] = ()
    """Queries whose cost is compared, beside the sentinels of the change's file."""
    tallies: tuple[Tally, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanContext:
    """What an operation may know besides the catalog: its change, and which columns earlier operations fill."""

    version: str
    filled: frozenset[tuple[Table, str]] = frozenset()
    live: Catalog | None = None
    """The catalog of the database itself, without what earlier operations of the change do to it."""
    steps: tuple[Step, ...] = ()
    """What earlier operations of the change do."""

    def left_for_contract(self, table: Table) -> tuple[str, ...]:
        """Return what earlier operations still do in contract with a table under its present name."""
        return tuple(s.title for s in self.steps if s.phase is Phase.CONTRACT and table in s.tables)

    def has_rows_of(self, table: Table, columns: Iterable[str]) -> bool:
        """Tell whether the columns exist already and are not filled by this change, so that rows can be counted."""
        relation = self.live.get(table) if self.live else None
        known = self.live is None or (relation is not None and all(relation.column(c) for c in columns))
        return known and not any((table, c) in self.filled for c in columns)

    def phase_for(self, table: Table, columns: tuple[str, ...]) -> Phase:
        """Return cutover for what needs columns that this change fills, else expand."""
        return Phase.CUTOVER if any((table, c) in self.filled for c in columns) else Phase.EXPAND


class Operation(BaseModel, ABC):
    """One typed item of a change. A new operation is one file in this package that subclasses this.

    The class docstring is its documentation in the JSON Schema; ``kind`` is the key in the change file. ``example`` is
    what a new change file starts with, where the required keys alone would not do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    example: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    of_templates: ClassVar[bool] = False
    """It changes a template of the warehouse, so ``catalog.templates`` are read for it."""

    @abstractmethod
    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps against this catalog. Pure. Raises PlanError, with a remedy, when it does not fit."""


def checked(parse: Callable[[_Text], _Parsed], fragment: _Text, key: str) -> _Parsed:
    """Parse a type or an expression of a change file; raise PlanError naming the key when it is refused."""
    try:
        return parse(fragment)
    except ValueError as error:
        raise PlanError(
            f"{key}: {error}", hint="write one PostgreSQL expression or type, without side effects"
        ) from error


def expression_of(catalog: Catalog, parse: Callable[[str], Expression], fragment: str, key: str) -> Expression:
    """Parse an expression of a change file whose functions mean the same to everybody; else raise PlanError."""
    expression = checked(parse, fragment, key)
    refuse_shadowed(catalog, expression.bare_functions, key)
    _refuse_attributes(catalog, expression, key)
    return expression


def _refuse_attributes(catalog: Catalog, expression: Expression, key: str) -> None:
    """Raise PlanError for ``row.name`` where no table has such a column: it calls the function of that name."""
    for row, name in (parts[-2:] for parts in expression.names if len(parts) > 1):
        signatures = (f"{identifier(t.schema)}.{identifier(t.name)}" for t in catalog.relations)
        found = any(f"function public.{identifier(name)}({signature})" in catalog.objects for signature in signatures)
        if found and not any(relation.column(name) for relation in catalog.relations.values()):
            raise PlanError(
                f"{key}: {row}.{name} calls the function public.{name} for the row",
                hint="write the name of a column, or the call of the function as such",
            )


def refuse_shadowed(catalog: Catalog, names: Iterable[str], key: str) -> None:
    """Raise PlanError for a function called without a schema when public has one of that name.

    It would win over PostgreSQL's own where its arguments fit better, and anybody may have made it.
    """
    for name in names:
        starts = tuple(f"{kind} public.{identifier(name)}(" for kind in ("function", "aggregate"))
        if any(known.startswith(starts) for known in catalog.objects):
            raise PlanError(
                f"{key}: {name}() may be PostgreSQL's own function or that of schema public",
                hint=f"write pg_catalog.{name}(…) or public.{name}(…)",
            )


def column_of(relation: Relation, name: str) -> Column:
    """Return a column of a table by name, or raise PlanError naming those it has."""
    column = relation.column(name)
    if column is None:
        raise PlanError(
            f"{relation.table} has no column {name}",
            hint=f"its columns are {', '.join(c.name for c in relation.columns)}",
        )
    return column


def table_of(catalog: Catalog, name: str, *, partitions: bool = False) -> Relation:
    """Return an ordinary table by its name in the change file, or raise PlanError with the remedy.

    ``partitions`` lets partitioned tables and partitions through, for operations that know how to treat them.
    """
    table = Table.parse(name)
    relation = catalog.get(table)
    if relation is None:
        raise PlanError(
            f"table {table} does not exist in this database",
            hint=f"known here: {', '.join(sorted(map(str, catalog.relations))[:10]) or 'no table'}",
        )
    kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
    if relation.kind in kinds:
        raise PlanError(f"{table} is {kinds[relation.kind]}, not a table", hint="name the table that holds the rows")
    if not partitions and (relation.kind == "p" or relation.partition_of):
        raise PlanError(
            f"{table} is partitioned; this operation does not handle partitions yet",
            hint="use a raw change (deploy.sql, revert.sql, verify.sql)",
        )
    if relation.persistence != "p":
        raise PlanError(
            f"{table} is unlogged or temporary; a crash would lose its rows and our work",
            hint=f"ALTER TABLE {table.quoted} SET LOGGED first",
        )
    return relation
