"""Fill a column, shard by shard, and take a fill back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from uuid import UUID

import psycopg

from schema_change.core import sqlfiles
from schema_change.core.backfill.fill import remaining
from schema_change.core.backfill.filler import BackfillSettings, Filler
from schema_change.core.backfill.keyset import ranges_of, size
from schema_change.core.backfill.pace import BatchSize, Meter, Progress
from schema_change.core.backfill.retries import Retries
from schema_change.core.backfill.shards import Shards
from schema_change.core.backfill.throttle import Watcher
from schema_change.core.backfill.undo import undo_rows
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError
from schema_change.core.execution.statements import statement_failed
from schema_change.core.execution.waiting import Parking
from schema_change.core.model import Backfill

__all__ = ["BackfillSettings", "Progress", "remaining", "run_backfill", "undo_fill"]

_FIRST_ROWS = 1_000
_COUNT_EXACTLY_BYTES = 64 * 1024 * 1024


def run_backfill(
    work: Connection,
    side: Connection,
    *,
    run_id: UUID,
    seq: int,
    backfill: Backfill,
    settings: BackfillSettings | None = None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    parking: Parking | None = None,
) -> int:
    """Fill the column, from the checkpoint on when there is one; return the rows filled, earlier tries included.

    It ends when every shard is done, also those that other sessions fill: one that nobody fills is taken over.
    Batches run on ``work``; the throttle looks, and pauses are recorded, on ``side``. Both are autocommit sessions.
    Raises BackfillError naming the row that cannot be filled, or when the run was cancelled, and LockNotAvailable
    naming who keeps rows locked; Parked when a long wait is for others to see through. Whatever it raises, the
    checkpoint is right and a later call goes on from it.
    """
    if backfill.remember and not backfill.key:
        raise BackfillError(
            f"{backfill.table} has no key, so the rows filled cannot be remembered",
            hint="add a primary key to the table first",
        )
    chosen, parking = settings or BackfillSettings(), parking or Parking()
    if backfill.batch is not None and backfill.batch.at_once:
        chosen = chosen.for_heavy_rows(backfill.batch)
    with _lost_connections_named(f"fill {backfill.what}"):
        ranges = ranges_of(work, backfill.table, backfill.key)
        waited_since = parking.earlier.since if parking.earlier else None
        shards = Shards(work, side, run_id, seq, backfill, chosen.shard, waited_since)
        shards.cut(
            ranges,
            wanted=chosen.shards,
            least_rows=chosen.max_rows,
            batch_rows=max(chosen.min_rows, min(_FIRST_ROWS, chosen.max_rows)),
            estimate=lambda: _estimate(work, backfill),
            retries=Retries(f"fill {backfill.what}", chosen.lock_wait_s),
        )
        count = len(shards.all())
        pid = work.info.backend_pid
        watcher = Watcher(run_id, seq, backfill.table, chosen.throttle, work_pid=pid, since=shards.since)

        def tell(name: str, progress: Progress) -> None:
            on_progress(replace(progress, shard=name) if count > 1 else progress)

        def waiting() -> None:
            rows = sum(shard.rows for shard in shards.all())
            reason = "other sessions fill the shards that are left"
            on_progress(Progress(rows, None, None, None, 0, reason, 0, done=False))

        while shard := shards.take(waiting):
            meter = Meter(partial(tell, f"shard {shard.number + 1} of {count}"))
            with shards.held(shard):
                Filler(
                    shards,
                    shard.number,
                    ranges=ranges,
                    settings=chosen,
                    meter=meter,
                    watcher=watcher,
                    parking=parking,
                ).run()
            parking.over()
        return sum(shard.rows for shard in shards.all())


def undo_fill(
    work: Connection,
    side: Connection,
    *,
    run_id: UUID,
    seq: int,
    backfill: Backfill,
    settings: BackfillSettings | None = None,
) -> int:
    """Set back to NULL the remembered rows that still hold our value, or drain a batch's, in batches; return how many.

    It forgets the checkpoint afterwards, so that the backfill can run anew. Without ``remember`` and ``drain`` it only
    does that.
    A later call goes on where an interrupted one stopped.
    """
    chosen = settings or BackfillSettings()
    with _lost_connections_named(f"undo of {backfill.what}"):
        rows = 0
        if backfill.remember or (backfill.batch and backfill.batch.drain):
            rows = undo_rows(
                work,
                side,
                run_id=run_id,
                seq=seq,
                backfill=backfill,
                ranges=ranges_of(work, backfill.table, backfill.key),
                size=BatchSize(_FIRST_ROWS, chosen.target_ms, chosen.min_rows, chosen.max_rows),
                target_ms=chosen.target_ms,
                lock_ms=chosen.lock_timeout_ms,
                statement_ms=chosen.statement_ms,
                wait_s=chosen.lock_wait_s,
            )
        work.execute(sqlfiles.block("queries/backfill", "delete_checkpoint"), {"run_id": run_id, "seq": seq})
        return rows


@contextlib.contextmanager
def _lost_connections_named(what: str) -> Iterator[None]:
    """Make errors of our own tree of what the driver raises between batches."""
    try:
        yield
    except psycopg.Error as error:
        raise statement_failed(what, error) from error


def _estimate(work: Connection, backfill: Backfill) -> int | None:
    """Return how many rows are to be filled: counted in a small table, from statistics in a large one."""
    bytes_, _, rows = size(work, backfill.table)
    if bytes_ > _COUNT_EXACTLY_BYTES:
        return rows
    return remaining(work, replace(backfill, expression="true"))
