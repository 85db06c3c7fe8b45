"""What is kept: the rows of ``schema_change.retired``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import ConfigurationError
from schema_change.core.journal import registry
from schema_change.core.model import Retired
from schema_change.core.names import Table
from schema_change.core.recipes.rows import HOME


@dataclass(frozen=True, slots=True)
class KeptData:
    """A row of ``schema_change.retired`` with the run that dropped the data; ``there`` tells whether it is there."""

    id: int
    run_id: UUID
    change: str
    run_status: str
    kind: str
    table_schema: str
    table_name: str
    column_name: str
    kept_name: str
    key_columns: list[str]
    definition: Mapping[str, Any]
    retired_at: datetime
    purge_after: datetime
    purged_at: datetime | None
    recovered_at: datetime | None
    there: bool
    bytes: int

    @property
    def table(self) -> Table:
        """Return the table whose data it is."""
        return Table(self.table_schema, self.table_name)

    @property
    def kept(self) -> Table:
        """Return the table that has the data."""
        return Table(HOME, self.kept_name)

    @property
    def what(self) -> str:
        """Return what was dropped, such as *column public.t.c*."""
        return Retired(self.kind, self.table, self.kept, self.column_name, definition=self.definition).what

    @property
    def state(self) -> str:
        """Return where the data is, in words."""
        if self.purged_at is not None:
            return f"purged {self.purged_at:%Y-%m-%d}"
        if self.recovered_at is not None:
            return f"recovered {self.recovered_at:%Y-%m-%d}" + ("" if self.there else ", nothing is kept any more")
        return f"kept until {self.purge_after:%Y-%m-%d}"


def all_kept(connection: Connection) -> list[KeptData]:
    """Return everything that was ever kept in this database, oldest first."""
    if not registry.is_installed(connection):
        return []
    with connection.cursor(row_factory=class_row(KeptData)) as cursor:
        return cursor.execute(sqlfiles.block("queries/retention", "kept_data")).fetchall()


def find_kept(connection: Connection, number: int) -> KeptData:
    """Return kept data by its id. Raises ConfigurationError when there is none."""
    found = next((k for k in all_kept(connection) if k.id == number), None)
    if found is None:
        raise ConfigurationError(
            f"nothing with the id {number} was ever kept in database {connection.info.dbname}",
            hint="schema-change retired lists what is kept",
        )
    return found
