"""How large a table is, its partitions and the tables that inherit from it counted with it."""

from __future__ import annotations

from collections.abc import Iterator

from schema_change.core.catalog.model import Catalog, Relation

#: Above either, a table is not written anew in place: nobody could read or write it meanwhile.
SMALL_ROWS, SMALL_BYTES = 10_000, 32 << 20


def rows(catalog: Catalog, relation: Relation) -> int:
    """Return the estimated rows of a table and of what is below it."""
    return sum(max(r.rows, 0) for r in _holding(catalog, relation))


def is_small(catalog: Catalog, relation: Relation) -> bool:
    """Tell whether a table may be written anew, or read as a whole, under a lock that stops everybody."""
    bytes_ = sum(r.bytes for r in _holding(catalog, relation))
    return rows(catalog, relation) <= SMALL_ROWS and bytes_ <= SMALL_BYTES


def _holding(catalog: Catalog, relation: Relation) -> Iterator[Relation]:
    """Yield what holds the rows; a partitioned table's figures are those of its partitions, which would count twice."""
    return (r for r in (relation, *catalog.below(relation.table)) if r.kind != "p")
