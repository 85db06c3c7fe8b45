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
_BATCH_MS, _REST = 2, 2.0
#: Seconds for which others are taken to be at work once they were seen.
_SEEN_S = 0.1


class Courtesy:
    """Keeps the batches of one session short, with rests between them, while sessions of others are at work."""

    def __init__(self, side: Connection, size: BatchSize, target_ms: int, *, wanted: bool = True) -> None:
        self._side, self._size, self._target_ms, self._wanted = side, size, target_ms, wanted
        self.others = 0
        self._look_at = 0.0

    def look(self) -> None:
        """Count the sessions of others in this database that ran something within a second; set the size by it."""
        if not self._wanted or (self.others and time.monotonic() < self._look_at):
            return
        self._look_at = time.monotonic() + _SEEN_S
        row = self._side.execute(sqlfiles.block("queries/backfill", "others_at_work")).fetchone()
        self.others = row[0] if row else 0
        self._size.aim(min(_BATCH_MS, self._target_ms) if self.others else self._target_ms)

    def rest(self, seconds: float) -> None:
        """Rest behind a batch that took that long."""
        if self.others:
            time.sleep(seconds * _REST)
