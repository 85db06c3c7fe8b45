"""Take a fill back: only rows that still hold the value we wrote; or drain what a batch has moved elsewhere."""

from __future__ import annotations

import logging
import time
from uuid import UUID

import psycopg
from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.backfill.courtesy import Courtesy
from schema_change.core.backfill.keyset import Ranges
from schema_change.core.backfill.pace import BatchSize
from schema_change.core.backfill.retries import Retries
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError
from schema_change.core.execution.blockers import Watch
from schema_change.core.execution.statements import TRANSIENT, Clock, message_of, statement_failed
from schema_change.core.model import Backfill
from schema_change.core.wording import counted

log = logging.getLogger(__name__)

_OURS = "schema_change_ours"


def undo_rows(
    work: Connection,
    side: Connection,
    *,
    run_id: UUID,
    seq: int,
    backfill: Backfill,
    ranges: Ranges,
    size: BatchSize,
    target_ms: int,
    lock_ms: int,
    statement_ms: int,
    wait_s: float,
) -> int:
    """Set the remembered rows back to NULL, or drain them, and forget them, batch by batch; return how many.

    Raises LockNotAvailable naming who keeps rows locked, and BackfillError for any other failure of a batch.
    """
    retries = Retries(f"undo of {backfill.what}", wait_s)
    settings = {"lock_ms": lock_ms, "statement_ms": statement_ms}
    courtesy = Courtesy(side, size, target_ms)
    undone = left_alone = 0
    while True:
        courtesy.look()
        clock, started = Clock(), time.monotonic()
        watch = Watch(side, work.info.backend_pid, lock_ms / 1000 * 0.4)
        try:
            with watch, work.transaction():
                work.execute(sqlfiles.block("queries/backfill", "undo_settings"), settings)
                clock.start(f"undo of {backfill.what}", statement_ms)
                row = work.execute(_batch(backfill, ranges, run_id, seq, size.rows)).fetchone()
        except psycopg.Error as error:
            if isinstance(error, TRANSIENT) or (clock.ran_out(error) and size.rows > 1):
                size.halve()
                retries.pause(error, watch.blockers)
                continue
            if work.closed:
                raise statement_failed(clock.statement, error) from error
            raise BackfillError(
                f"{clock.statement}: {message_of(error)} (SQLSTATE {error.sqlstate})",
                hint="correct what the message says, then undo again; it goes on from the last batch",
            ) from error
        retries.over()
        looked_at, back = row or (0, 0)
        if not looked_at:
            if left_alone:
                log.warning(
                    "undo of %s: %s left alone, others wrote them since", backfill.what, counted(left_alone, "row")
                )
            return undone
        undone += back
        left_alone += looked_at - back
        seconds = time.monotonic() - started
        size.learn(looked_at, seconds)
        courtesy.rest(seconds)


def _batch(backfill: Backfill, ranges: Ranges, run_id: UUID, seq: int, rows: int) -> sql.Composed:
    if backfill.batch is not None and backfill.batch.drain is not None:
        head, tail = backfill.batch.drain
        return sql.SQL("{}{}{}").format(sql.SQL(head), sql.Literal(rows), sql.SQL(tail))
    name = sql.Identifier(backfill.table.name)
    keys = sql.SQL(", ").join(
        sql.SQL("(b.key ->> {})::{} AS {}").format(sql.Literal(place), sql.SQL(c.type), sql.Identifier(f"k{place}"))
        for place, c in enumerate(ranges.columns)
    )
    same_key = sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}").format(name, c.identifier, sql.Identifier(_OURS, f"k{place}"))
        for place, c in enumerate(ranges.columns)
    )
    return sqlfiles.block("queries/backfill", "undo_batch").format(
        table=backfill.table.identifier,
        table_name=name,
        column=sql.Identifier(backfill.column),
        run_id=sql.Literal(run_id),
        seq=sql.Literal(seq),
        rows=sql.Literal(rows),
        keys=keys,
        same_key=same_key,
    )
