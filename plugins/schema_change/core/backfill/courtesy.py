"""Giving way to the application: while others are at work batches are short, and each is followed by a rest.

A row of a batch stays locked until the batch commits, and who wants to write it waits so long; so do, in the end, those
who wait for a free connection. The part of the rows that is locked and the time for which it is grow with the batch:
half the time is a quarter of the waiting. The rest lets the processors and the disk catch up with the application.
"""

from __future__ import annotations

import time

from schema_change.core import sqlfiles
from schema_change.core.backfill.pace import BatchSize
from schema_change.core.database import Connection

#: How long (ms) a batch takes while others are at work, and how many times as long the rest behind it is.
_BATCH_MS, _REST = 25, 1.0


class Courtesy:
    """Knows, from one look before each batch, whether sessions of others are at work on the server."""

    def __init__(self, side: Connection) -> None:
        self._side = side
        self.others = 0

    def look(self) -> None:
        """Count the sessions of others that have run something within the last second."""
        row = self._side.execute(sqlfiles.block("queries/backfill", "others_at_work")).fetchone()
        self.others = row[0] if row else 0

    def rows(self, size: BatchSize) -> int:
        """Return how many rows the next batch should have."""
        return min(size.rows, size.within(_BATCH_MS)) if self.others else size.rows

    def rest(self, seconds: float) -> None:
        """Rest behind a batch that took that long."""
        if self.others:
            time.sleep(seconds * _REST)
