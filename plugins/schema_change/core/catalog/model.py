"""The canonical picture of a catalog: no OIDs, no attnums, no sequence positions, nothing of our own schema."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, ItemsView, Iterable, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Self

from schema_change.core.names import Table
from schema_change.core.warehouse.template import Template


@dataclass(frozen=True, slots=True)
class Column:
    """A column in rank order; ``type`` is format_type()'s spelling, ``default`` pg_get_expr()'s."""

    name: str
    type: str
    nullable: bool = True
    default: str | None = None
    generated: str = ""
    """``s`` stored or ``v`` virtual generated column; its expression is in ``default``."""
    identity: str = ""
    collation: str | None = None
    comment: str | None = None
    grants: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """What differs from the type's default: storage, compression, statistics target, n_distinct …"""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint; ``type`` is pg_constraint.contype, ``definition`` pg_get_constraintdef()'s text.

    NOT NULL is the column's ``nullable``; only one that is not validated yet (PostgreSQL 18) is listed here, as ``n``.
    """

    name: str
    type: str
    definition: str
    columns: tuple[str, ...] = ()
    validated: bool = True
    references: Table | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """An index; ``definition`` is pg_get_indexdef()'s text, ``columns`` the key columns that are plain columns."""

    name: str
    definition: str
    columns: tuple[str, ...] = ()
    unique: bool = False
    primary: bool = False
    valid: bool = True
    comment: str | None = None
    clustered: bool = False
    """The table's rows were last ordered by this index (CLUSTER ON)."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user's trigger; ``enabled`` is pg_trigger.tgenabled."""

    name: str
    definition: str
    enabled: str = "O"
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """Something made of a relation: a view, a function, a policy, an index, a trigger and so on.

    ``name`` is qualified and quoted as PostgreSQL shows it (``f of public.t`` for a foreign key, ``p on public.t``
    for a policy; indexes, constraints and triggers of the relation itself have their bare name). ``columns`` are the
    relation's columns it is made of; none means the whole relation, or that PostgreSQL does not tell.
    """

    kind: str
    name: str
    columns: tuple[str, ...] = ()

    def touches(self, column: str) -> bool:
        """Tell whether it may be made of the column."""
        return not self.columns or column in self.columns

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


#: Kinds of Use that are parts of the relation itself, and go where it goes.
OWN_PARTS = frozenset({"index", "constraint", "trigger", "statistics", "rule"})


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, partitioned table, view, materialized view or foreign table.

    ``kind`` is pg_class.relkind, ``persistence`` relpersistence. ``definition`` is a view's query. ``dependants``
    names the views, functions, policies, foreign keys, generated columns and publications that use it. ``options`` are
    storage parameters, and server and options of a foreign table. ``replica_identity`` is empty (the primary key),
    ``nothing``, ``full`` or ``index <name>``. ``rows``, ``bytes`` and ``writes`` are estimates from
    statistics for pricing and are not part of the fingerprint.
    """

    table: Table
    kind: str
    owner: str
    persistence: str = "p"
    columns: tuple[Column, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    indexes: tuple[Index, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    policies: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    row_security: bool = False
    force_row_security: bool = False
    options: tuple[str, ...] = ()
    replica_identity: str = ""
    inherits: tuple[Table, ...] = ()
    partition_of: Table | None = None
    partition_bound: str | None = None
    partition_key: str | None = None
    definition: str | None = None
    comment: str | None = None
    grants: tuple[str, ...] = ()
    dependants: tuple[str, ...] = ()
    uses: tuple[Use, ...] = field(default=(), metadata={"estimate": True})
    """What is made of its columns, own parts too; not in the fingerprint, which has the things themselves."""
    rows: int = field(default=0, metadata={"estimate": True})
    bytes: int = field(default=0, metadata={"estimate": True})
    writes: int = field(default=0, metadata={"estimate": True})

    def column(self, name: str) -> Column | None:
        """Return the column of that name, or None."""
        return next((c for c in self.columns if c.name == name), None)

    def index(self, name: str) -> Index | None:
        """Return the index of that name, or None."""
        return next((i for i in self.indexes if i.name == name), None)

    @property
    def key(self) -> tuple[str, ...]:
        """Return the columns that identify a row: the primary key, else a valid unique index on NOT NULL columns."""
        candidates = sorted(
            (i for i in self.indexes if i.unique and i.valid and i.columns), key=lambda i: not i.primary
        )
        for index in candidates:
            plain = " WHERE " not in index.definition and "(" not in index.definition.split("(", 1)[1]
            columns = [self.column(c) for c in index.columns]
            if index.primary or (plain and all(c is not None and not c.nullable for c in columns)):
                return index.columns
        return ()

    def users_of(self, column: str) -> tuple[Use, ...]:
        """Return what is made of a column, other than the relation's own parts."""
        return tuple(u for u in self.uses if u.kind not in OWN_PARTS and u.touches(column))

    def parts_of(self, column: str, kind: str) -> frozenset[str]:
        """Return the names of the relation's own parts of a kind (index, constraint, trigger …) made of a column."""
        return frozenset(u.name for u in self.uses if u.kind == kind and column in u.columns)

    def without_column(self, name: str) -> Self:
        """Return the relation without a column."""
        return replace(self, columns=tuple(c for c in self.columns if c.name != name))

    def with_column(self, column: Column) -> Self:
        """Return the relation with a column added, or replaced by name."""
        if self.column(column.name) is None:
            return replace(self, columns=(*self.columns, column))
        return replace(self, columns=tuple(column if c.name == column.name else c for c in self.columns))


class Unread(Exception):
    """A relation was looked at that was not read; without a table, all of them. The reader's caller reads more."""

    def __init__(self, table: Table | None = None) -> None:
        super().__init__(f"{table or 'the whole catalog'} was not read")
        self.table = table


@dataclass(frozen=True, slots=True, eq=False)
class PartlyRead(Mapping[Table, Relation]):
    """All relations by name, of which only some were read: to look at another one, or at all, raises Unread.

    ``indexes`` gives the table of each index of the ``unread`` ones. What refers to a relation was read as well, but
    for those ``beside`` the ones that were asked for.
    """

    read: Mapping[Table, Relation]
    unread: frozenset[Table]
    indexes: Mapping[Table, Table]
    beside: frozenset[Table]

    def __getitem__(self, table: Table) -> Relation:
        if table in self.unread:
            raise Unread(table)
        return self.read[table]

    def __contains__(self, table: object) -> bool:
        return table in self.read or table in self.unread

    def __iter__(self) -> Iterator[Table]:
        yield from self.read
        yield from self.unread

    def __len__(self) -> int:
        return len(self.read) + len(self.unread)

    def values(self) -> ValuesView[Relation]:
        """Raise Unread: somebody wants to see them all."""
        raise Unread

    def items(self) -> ItemsView[Table, Relation]:
        """Raise Unread: somebody wants to see them all."""
        raise Unread


@dataclass(frozen=True, slots=True)
class Catalog:
    """The relations of a database by name, and its other objects.

    ``objects`` maps ``kind name`` (function, enum, domain, sequence, schema, …) to the object's definition.
    """

    server_version: int
    relations: Mapping[Table, Relation]
    objects: Mapping[str, str] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()
    templates: Mapping[str, Template] | None = None
    """Templates of the warehouse by name, where an operation asks for them; not part of the snapshot."""

    def get(self, table: Table) -> Relation | None:
        """Return a relation, or None."""
        return self.relations.get(table)

    @property
    def read(self) -> Mapping[Table, Relation]:
        """Return the relations that were read; a plan changes no other."""
        return self.relations.read if isinstance(self.relations, PartlyRead) else self.relations

    def around(self, table: Table) -> Iterable[Relation]:
        """Return relations among which are all whose definition names a table (family, views, keys)."""
        known = self.relations
        if isinstance(known, PartlyRead) and (table in known.unread or table in known.beside):
            raise Unread(table)
        return self.read.values()

    def has_index(self, name: Table) -> bool:
        """Tell whether a relation has an index of that name."""
        unread = self.relations.indexes if isinstance(self.relations, PartlyRead) else ()
        return name in unread or self.owner_of(name) is not None

    def owner_of(self, index: Table) -> Relation | None:
        """Return the relation of an index, or None."""
        found = (r for r in self.read.values() if r.table.schema == index.schema and r.index(index.name))
        owner = next(found, None)
        if owner is None and isinstance(self.relations, PartlyRead) and index in self.relations.indexes:
            raise Unread(self.relations.indexes[index])
        return owner

    def below(self, table: Table) -> tuple[Relation, ...]:
        """Return the partitions of a table, or the tables that inherit from it, and those below them."""
        found: dict[Table, Relation] = {}
        for relation in self.around(table):
            if relation.partition_of == table or table in relation.inherits:
                found |= {r.table: r for r in (relation, *self.below(relation.table))}
        return tuple(found.values())

    def with_relation(self, relation: Relation) -> Catalog:
        """Return the catalog with a relation added or replaced; planning uses it to look one operation ahead."""
        return self._with({**self.read, relation.table: relation})

    def without(self, table: Table) -> Catalog:
        """Return the catalog without a relation."""
        return self._with({t: r for t, r in self.read.items() if t != table})

    def _with(self, read: Mapping[Table, Relation]) -> Catalog:
        known = self.relations
        return replace(self, relations=replace(known, read=read) if isinstance(known, PartlyRead) else read)

    def restricted(self, scope: Collection[Table]) -> Catalog:
        """Return only the relations of a plan's scope; an empty scope means everything, extensions and objects too."""
        if not scope:
            return self
        relations = {t: r for t in scope if (r := self.relations.get(t)) is not None}
        return replace(self, relations=relations, objects={}, extensions=())

    def to_json(self) -> dict[str, Any]:
        """Return the canonical snapshot as JSON data, without estimates; a relation's key contains a dot."""
        return {str(table): _json(relation) for table, relation in sorted(self.relations.items())} | {
            "extensions": sorted(self.extensions),
            "objects": dict(sorted(self.objects.items())),
            "server_version": self.server_version // 10000,
        }

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of the canonical snapshot; comparable within one major version."""
        return fingerprint_of(self.to_json())


def fingerprint_of(snapshot: Mapping[str, Any]) -> str:
    """Return the fingerprint of a snapshot as :meth:`Catalog.to_json` gives it."""
    text = json.dumps(snapshot, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _json(value: Any) -> Any:
    """Return a part of a snapshot as JSON would give it back: lists for tuples, and no estimates."""
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    if isinstance(value, (Relation, Column, Constraint, Index, Trigger, Table)):
        return {name: _json(getattr(value, name)) for name in _fields(type(value))}  # type: ignore[arg-type] # a class is hashable
    return value


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind) if not f.metadata.get("estimate"))
