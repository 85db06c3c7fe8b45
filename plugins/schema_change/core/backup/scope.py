"""Which tables' rows a backup holds."""

from __future__ import annotations

from collections.abc import Sequence

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.names import Table


def backup_scope(
    connection: Connection, written: Sequence[Table], read: Sequence[Table], everything: bool = False
) -> tuple[Table, ...]:
    """Return the tables whose rows are dumped: written, read, and their foreign-key parents, transitively.

    Partitions and children follow their parent, views and materialized views lead to the tables they read. Only tables
    that store rows are returned (partitions, not the partitioned table), sorted. Tables that do not exist yet, foreign
    tables, tables of extensions and the registry are left out. With ``everything`` every such table is returned.
    """
    tables = (*written, *read)
    rows = connection.execute(
        sqlfiles.block("queries/backup", "scope"),
        {"everything": everything, "schemas": [t.schema for t in tables], "names": [t.name for t in tables]},
    ).fetchall()
    return tuple(Table(row[0], row[1]) for row in rows)
