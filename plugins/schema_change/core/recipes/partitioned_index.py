"""An index of a partitioned table without blocking writes: empty on the parent, built on each partition, attached.

``CREATE INDEX CONCURRENTLY`` knows no partitioned table. The index of the parent is valid once that of its last
partition is attached; a partition made meanwhile gets its index from PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.recipes import index, probe, text
from schema_change.core.sqltext.grammar import parse

Define = Callable[[Table, str, str], str]
"""Returns the definition of an index: of a table, by a name, with CONCURRENTLY or ONLY."""


def steps(
    catalog: Catalog, root: Relation, name: str, parts: tuple[str, ...], define: Define, *, phase: Phase
) -> tuple[Step, ...]:
    """Return the steps; ``parts`` are what the names of the partitions' indexes are made of, behind the partition's."""
    below = catalog.below(root.table)
    if foreign := [str(r.table) for r in below if r.kind == "f"]:
        raise PlanError(
            f"{', '.join(foreign)} of {root.table} is a foreign table, which cannot be indexed from here",
            hint="create the index on each of the other partitions, an operation each",
        )
    names = _names(catalog, root, name, parts)
    upper = [r for r in (root, *below) if r.kind == "p"]
    indexes = {table: Table(table.schema, found) for table, found in names.items()}
    builds = [
        index.build(
            r.table, names[r.table], define(r.table, names[r.table], "CONCURRENTLY"), phase=phase, lasting=False
        )
        for r in below
        if r.kind != "p"
    ]
    begin = _begin(root.table, {indexes[r.table]: define(r.table, names[r.table], "ONLY") for r in upper}, phase)
    if not below:
        return (begin,)
    parents = {indexes[r.table]: indexes[r.partition_of] for r in below if r.partition_of}
    return (begin, *builds, _attach(root.table, indexes[root.table], parents, phase))


def key_columns(relation: Relation) -> tuple[str, ...] | None:
    """Return the columns a table is partitioned by; None when an expression is among them."""
    (create,) = parse(f"CREATE TABLE t (x integer) PARTITION BY {relation.partition_key}")
    names = tuple(item.name for item in create.stmt.partspec.partParams)
    return None if None in names else names


def _names(catalog: Catalog, root: Relation, name: str, parts: tuple[str, ...]) -> dict[Table, str]:
    names = {root.table: name}
    for relation in catalog.below(root.table):
        taken = frozenset(Table(table.schema, found) for table, found in names.items())
        names[relation.table] = index.free_name(catalog, relation.table, *parts, avoid=taken)
    return names


def _begin(root: Table, definitions: dict[Table, str], phase: Phase) -> Step:
    first = next(iter(definitions))
    return Step(
        phase=phase,
        title=f"create index {first.name} on {root}, without its partitions",
        tables=(root,),
        statements=tuple(definitions.values()),
        lock=LockMode.SHARE,
        probe=probe("name_taken", relation=first.quoted),
        undo=(index.drop(*definitions),),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )


def _attach(root: Table, whole: Table, parents: dict[Table, Table], phase: Phase) -> Step:
    attach = sql.SQL("ALTER INDEX {} ATTACH PARTITION {}")
    return Step(
        phase=phase,
        title=f"attach the indexes of the partitions of {root}",
        tables=(root,),
        statements=tuple(text(attach.format(up.identifier, one.identifier)) for one, up in parents.items()),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("index_valid", index=whole.quoted, table=root.quoted),
        # What is attached can be dropped with the parent's index only.
        undo=(index.drop(whole),),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )
