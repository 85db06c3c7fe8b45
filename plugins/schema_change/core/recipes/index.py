"""An index built, or dropped, without blocking writes; what an interrupted build leaves is repaired."""

from __future__ import annotations

from psycopg import sql

from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table
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
