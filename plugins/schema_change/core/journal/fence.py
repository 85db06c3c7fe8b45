"""The fence: a session lock on the working connection, so that two tries of one run are never at work together.

The lock lives and dies with the server process that does the work. When a killed task's statement is still running,
its process still holds the lock, and the next try waits for it instead of working beside it. The shards of a backfill
share the fence: together they keep every other stage out, and a lock for each shard keeps them apart.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from uuid import UUID

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import OwnershipError


def try_fence(connection: Connection, run_id: UUID, *, shared: bool = False) -> bool:
    """Take the fence if it is free, or share it with those who share it too."""
    block = sqlfiles.block("queries/journal", "try_fence_shared" if shared else "try_fence")
    row = connection.execute(block, {"run_id": str(run_id)}).fetchone()
    return bool(row and row[0])


def release_fence(connection: Connection, run_id: UUID, *, shared: bool = False) -> None:
    """Give the fence back; a closed session has given it back already."""
    if not connection.closed:
        block = sqlfiles.block("queries/journal", "release_fence_shared" if shared else "release_fence")
        connection.execute(block, {"run_id": str(run_id)})


def take_fence(connection: Connection, run_id: UUID, wait_s: float = 60, *, shared: bool = False) -> None:
    """Take the fence of a run. Raises OwnershipError when another try is still at work after ``wait_s`` seconds."""
    deadline = time.monotonic() + wait_s
    while not try_fence(connection, run_id, shared=shared):
        if time.monotonic() > deadline:
            raise OwnershipError(
                f"another task of run {run_id} is still at work in this database",
                hint="wait for it; its session is in pg_stat_activity with application_name schema_change:…",
            )
        time.sleep(0.2)


@contextlib.contextmanager
def fenced(connection: Connection, run_id: UUID, wait_s: float = 60, *, shared: bool = False) -> Iterator[None]:
    """Hold the fence of a run, taken as :func:`take_fence` does."""
    take_fence(connection, run_id, wait_s, shared=shared)
    try:
        yield
    finally:
        release_fence(connection, run_id, shared=shared)
