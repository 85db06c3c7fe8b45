"""An index built, or dropped, without blocking writes; what an interrupted build leaves is repaired."""

from __future__ import annotations

from psycopg import sql

from schema_change.core.catalog.model import Catalog, Index
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, short_name
from schema_change.core.recipes import probe, text


def build(table: Table, name: str, definition: str, *, phase: Phase, lasting: bool = True) -> Step:
    """Return the step that runs ``definition``, a CREATE INDEX CONCURRENTLY of that name."""
    index = Table(table.schema, name).quoted
    drop = drop_concurrently(Table(table.schema, name))
    return Step(
        phase=phase,
        title=f"create index {name} on {table}",
        tables=(table,),
        statements=(definition,),
        lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
        transactional=False,
        long=True,
        probe=probe("index_valid", index=index, table=table.quoted),
        taken=probe("name_taken", relation=index),
        repair=(drop,),
        undo=(drop,),
        undo_lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
        undo_transactional=False,
        lasting=lasting,
    )


def drop_concurrently(index: Table) -> str:
    """Return the statement that drops an index, if it is there, without blocking writes."""
    return text(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index.identifier))


def drop(*indexes: Table) -> str:
    """Return the statement that drops indexes, if they are there, under a brief lock that blocks reads and writes."""
    names = sql.SQL(", ").join(index.identifier for index in indexes)
    return text(sql.SQL("DROP INDEX IF EXISTS {}").format(names))


def rebuild(index: Index, schema: str) -> tuple[str, ...]:
    """Return the statements that bring a dropped index back, concurrently, also after an interrupted try."""
    name = Table(schema, index.name)
    # pg_get_indexdef() starts with CREATE INDEX or CREATE UNIQUE INDEX.
    statements = [drop_concurrently(name), index.definition.replace(" INDEX ", " INDEX CONCURRENTLY ", 1)]
    if index.comment is not None:
        comment = sql.SQL("COMMENT ON INDEX {} IS {}").format(name.identifier, sql.Literal(index.comment))
        statements.append(text(comment))
    return tuple(statements)


def is_taken(catalog: Catalog, name: Table) -> bool:
    """Tell whether the schema has a relation or an index of that name."""
    return name in catalog.relations or catalog.has_index(name)


def free_name(catalog: Catalog, table: Table, *parts: str, avoid: frozenset[Table] = frozenset()) -> str:
    """Return a name for an index of a table that nothing in its schema has, made of the table's name and the parts."""
    name, number = short_name(table.name, *parts, "idx"), 0
    while (found := Table(table.schema, name)) in avoid or is_taken(catalog, found):
        number += 1
        name = short_name(table.name, *parts, f"idx{number}")
    return name
