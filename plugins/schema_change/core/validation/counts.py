"""Counts for the report of a change: how what it has changed is distributed. They decide nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.execution.statements import message_of
from schema_change.core.model import Tally

#: Lines of one table, so that a report stays one that is read.
_MOST_ROWS = 500


@dataclass(frozen=True, slots=True)
class Counts:
    """A table of the report: plain JSON values in ``rows``, or why there is none; ``more`` tells that it is cut off."""

    title: str
    notes: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    more: bool = False
    error: str | None = None


def take_counts(connection: Connection, tallies: Sequence[Tally]) -> list[Counts]:
    """Run each query in a read-only transaction of at most 60 seconds."""
    return [_take(connection, tally) for tally in tallies]


def _take(connection: Connection, tally: Tally) -> Counts:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sqlfiles.block("queries/surroundings", "read_only"))
            connection.execute(sqlfiles.block("queries/surroundings", "query_settings"))
            cursor = connection.execute(tally.query.encode())
            columns = tuple(column.name.replace("_", " ") for column in cursor.description or ())
            rows = cursor.fetchmany(_MOST_ROWS + 1)
    except psycopg.Error as error:
        if connection.closed:
            raise
        return Counts(tally.title, tally.notes, error=message_of(error))
    return Counts(tally.title, tally.notes, columns, tuple(rows[:_MOST_ROWS]), len(rows) > _MOST_ROWS)
