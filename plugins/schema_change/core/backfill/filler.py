"""Fill one shard batch by batch: checkpointed in the batch's own transaction, throttled, small after trouble."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
from dataclasses import dataclass, field, replace

import psycopg
from psycopg.rows import TupleRow

from schema_change.core import sqlfiles
from schema_change.core.backfill.checkpoint import Checkpoint, Position
from schema_change.core.backfill.courtesy import Courtesy
from schema_change.core.backfill.fill import DATA_ERRORS, Fill, poison_error
from schema_change.core.backfill.keyset import BlockRanges, Bound, Ranges
from schema_change.core.backfill.pace import BatchSize, Meter
from schema_change.core.backfill.retries import Retries
from schema_change.core.backfill.shards import Shards, refuse_failed
from schema_change.core.backfill.throttle import ThrottleSettings, Watcher
from schema_change.core.backfill.turns import Part, Turns, pays
from schema_change.core.database import pipelined
from schema_change.core.errors import BackfillError
from schema_change.core.execution.blockers import Blocker, Watch, describe
from schema_change.core.execution.statements import TRANSIENT, Clock, message_of, statement_failed
from schema_change.core.execution.waiting import Parked, Parking, ThrottleWait
from schema_change.core.model import Batch, NewRows

log = logging.getLogger(__name__)

_MOST_SWEEPS = 10
_DATA_RETRIES = 3
_HEAVY_S = 3_600


@dataclass(frozen=True, slots=True)
class BackfillSettings:
    """How long a batch should take and how large it may get; times in ms, sizes in rows.

    ``lock_timeout_ms`` bounds the wait for a row the application has locked: well below deadlock_timeout, so that
    in a deadlock it is our batch that gives way. ``lock_wait_s`` bounds how long one batch is tried again.
    ``statement_s`` is what one batch's statement may take at least.
    ``shards`` is how many key ranges a large table is cut into, ``shard`` the one this session begins with, from 0.
    """

    target_ms: int = 500
    min_rows: int = 100
    max_rows: int = 50_000
    lock_timeout_ms: int = 100
    lock_wait_s: float = 600
    shards: int = 1
    shard: int = 0
    throttle: ThrottleSettings = field(default_factory=ThrottleSettings)
    statement_s: int = 5

    @property
    def statement_ms(self) -> int:
        """Return the bound of one batch's statement."""
        return max(10 * self.target_ms, 1_000 * self.statement_s)

    def for_heavy_rows(self, batch: Batch) -> BackfillSettings:
        """Return the same for rows each of which stands for work of its own; they may have a reason to wait."""
        throttle = self.throttle
        if batch.wait_for and throttle.sql is None:
            throttle = throttle.model_copy(update={"sql": batch.wait_for})
        return replace(self, min_rows=batch.at_once, max_rows=batch.at_once, statement_s=_HEAVY_S, throttle=throttle)


class Filler:
    """One try of one shard."""

    def __init__(
        self,
        shards: Shards,
        shard: int,
        *,
        ranges: Ranges,
        settings: BackfillSettings,
        meter: Meter,
        watcher: Watcher,
        parking: Parking,
    ) -> None:
        self.shards, self.shard, self.ranges, self.settings, self.meter = shards, shard, ranges, settings, meter
        self.work, self.side, self.run_id, self.seq = shards.work, shards.side, shards.run_id, shards.seq
        self.backfill = shards.backfill
        self._watcher, self._parking = watcher, parking
        self._retries = Retries(f"fill {self.backfill.what}", settings.lock_wait_s, parking, (self.run_id, self.seq))
        self.fill = Fill(self.backfill, ranges, self.run_id, self.seq)
        self.keyless = isinstance(ranges, BlockRanges)
        self.turns = Turns(ranges, two=pays(self.work, self.backfill, ranges))
        self.checkpoint = self._load()
        self.size = BatchSize(self.checkpoint.batch_rows, settings.target_ms, settings.min_rows, settings.max_rows)
        self.courtesy = Courtesy(self.side, self.size, settings.target_ms, wanted=settings.throttle.give_way)
        self.rows_per_second: int | None = None
        self._pause = f"backfill of {self.backfill.what} pauses"
        if earlier := parking.waited_before(self._pause):
            self._record_pause(None, round(earlier * 1000))
        self._sampled_at: float | None = None

    def run(self) -> None:
        """Run batch after batch until every range of the shard is behind us."""
        while not self.checkpoint.done:
            self._throttle()
            self.courtesy.look()
            started = time.monotonic()
            before = self.checkpoint.rows_done
            if self._batch():
                rows = self.checkpoint.rows_done - before
                self.courtesy.rest(time.monotonic() - started)
                self._keep_speed_limit(rows, started)
                self.meter.batch(rows, time.monotonic() - started)
                self._report()
        self._report(done=True)

    def _load(self) -> Checkpoint:
        found = Checkpoint.load(self.work, self.run_id, self.seq, self.shard)
        if found.key != self.backfill.key:
            raise BackfillError(
                f"the backfill of {self.backfill.what} was begun along another key",
                hint="roll this run back and plan again",
            )
        return found

    def _batch(self) -> bool:
        """Run one batch; False when it has to be tried again."""
        clock = Clock()
        upper, part = self.checkpoint.upper, None
        watch = Watch(self.side, self.work.info.backend_pid, self.settings.lock_timeout_ms / 1000 * 0.4)
        try:
            # A short batch should cost little more than its rows: three answers are waited for, not seven, and a thread
            # looks who is in the way only once somebody was.
            with watch if self._retries.begun else contextlib.nullcontext(), pipelined(self.work):
                begun = self._begin(clock)
                if upper is not None:
                    clock.start("find the end of the batch", self.settings.statement_ms)
                    part = self.turns.next(self.work, self.checkpoint.position, upper, self._rows_wanted())
                if not self._is_still_ours(begun):
                    return False
                # From here on rows are locked; what came before is the same for a batch of any size.
                started = time.monotonic()
                next_checkpoint = self._fill_part(clock, part)
        except psycopg.Error as error:
            self.turns.forget()
            self._failed(error, clock, watch.blockers, part)
            return False
        self._retries.over()
        self.checkpoint = next_checkpoint
        if part is not None:
            self.turns.done(part)
            if part.end != upper:
                self.size.learn(part.rows, time.monotonic() - started)
        return True

    def _begin(self, clock: Clock) -> psycopg.Cursor[TupleRow]:
        """Set up the batch's transaction and lock our checkpoint; the answer is not waited for."""
        clock.start("the backfill's checkpoint")
        return self.work.execute(
            sqlfiles.block("queries/backfill", "begin_batch"),
            {
                "run_id": self.run_id,
                "seq": self.seq,
                "shard": self.shard,
                "lock_ms": self.settings.lock_timeout_ms,
                "statement_ms": self.settings.statement_ms,
            },
        )

    def _is_still_ours(self, begun: psycopg.Cursor[TupleRow]) -> bool:
        """Tell whether the checkpoint had not moved under us; if it had, read it anew.

        That happens when an earlier try was killed here while the server still finished its last batch.
        """
        row = begun.fetchone()
        if row is not None and Position.from_json(row[0]) == self.checkpoint.position:
            return True
        self.checkpoint = self._load()
        self.turns.forget()
        return False

    def _fill_part(self, clock: Clock, part: Part | None) -> Checkpoint:
        """Fill a part, and record it; None is an empty table."""
        position = self.checkpoint.position
        filled = 0
        if part is not None:
            clock.start(f"fill {self.backfill.what}", self.settings.statement_ms)
            filled = self.fill.run(self.work, part.after, part.end, with_value=self._with_value, turn=part.turn)
            position = replace(part.behind(position), filled=position.filled + filled)
        clock.start("the backfill's checkpoint")
        following = replace(self.checkpoint, batch_rows=self.size.rows)
        if part is None or position.after == self.checkpoint.upper:
            following = self._end_of_pass(following, position)
        else:
            following = replace(following, position=position)
        return following.advance(self.work, self.run_id, self.seq, filled)

    def _end_of_pass(self, checkpoint: Checkpoint, position: Position) -> Checkpoint:
        """Return the checkpoint after a whole pass: done, or at the start of another sweep."""
        sweeps = self.keyless or self.backfill.new_rows is NewRows.SWEEP
        if not sweeps or (position.sweep and not position.filled):
            return replace(checkpoint, position=position, done=True)
        if position.sweep >= _MOST_SWEEPS:
            log.warning(
                "%s: rows still came in during sweep %s; cutover tells whether any is left",
                self.backfill.what,
                position.sweep,
            )
            return replace(checkpoint, position=position, done=True)
        upper = (checkpoint.is_last and self.ranges.last(self.work)) or checkpoint.upper
        start = self.ranges.first() if checkpoint.lower is None else checkpoint.lower
        return replace(checkpoint, upper=upper, position=Position(position.sweep + 1, 0, start))

    @property
    def _with_value(self) -> bool:
        """Tell whether rows whose right answer is NULL are left alone.

        The first pass along a key writes them like any other, which evaluates the expression once. Blocks and sweeps
        would find them pending again and again.
        """
        return self.keyless or self.checkpoint.position.sweep > 0

    def _rows_wanted(self) -> int:
        """Return the batch's size; with a speed limit a batch has at most a quarter of a second's rows."""
        if self.rows_per_second is None:
            return self.size.rows
        return max(1, min(self.size.rows, self.rows_per_second // 4))

    def _failed(self, error: psycopg.Error, clock: Clock, blockers: tuple[Blocker, ...], part: Part | None) -> None:
        """Make the next try smaller when trying again can help; else raise."""
        if isinstance(error, TRANSIENT):
            if self.settings.min_rows < self.settings.max_rows:
                self.size.halve()
            self._report(reason=f"rows are locked by {describe(blockers)}")
            self._retries.pause(error, blockers)
        elif clock.ran_out(error):
            if self._rows_wanted() == 1:
                raise BackfillError(
                    f"filling {self.backfill.what} takes longer than "
                    f"{self.settings.statement_ms / 1000:g} s for a single step",
                    hint="look at the plan of the fill expression; an index may be missing",
                ) from error
            self.size.halve()
        elif isinstance(error, DATA_ERRORS) and part is not None:
            self._poisoned(error, part.after, part.end)
        elif self.work.closed:
            raise statement_failed(clock.statement, error) from error
        else:
            raise BackfillError(
                f"{clock.statement}: {message_of(error)} (SQLSTATE {error.sqlstate})",
                hint="correct what the message says, then run this again; it goes on from the last batch",
            ) from error

    def _poisoned(self, error: psycopg.Error, after: Bound | None, end: Bound) -> None:
        """Find the row that cannot be filled and raise; return when it cannot be found, to try again."""
        try:
            found = self.fill.poison(self.work, after, end, lambda: self._begin(Clock()), with_value=self._with_value)
        except TRANSIENT as busy:
            self._retries.pause(busy, ())
            return
        if found is not None:
            raise poison_error(self.fill, *found) from found[1]
        self._retries.data += 1
        if self._retries.data >= _DATA_RETRIES:
            raise BackfillError(
                f"{self.backfill.what}: the batch up to {self.ranges.show(end)} cannot be "
                f"filled, though each of its rows can: {message_of(error)} (SQLSTATE {error.sqlstate})",
                hint="the rows contradict each other (a unique constraint?); correct the fill expression",
            ) from error

    def _throttle(self) -> None:
        """Look about every second whether to go on; wait while there is a reason not to. Raises when cancelled."""
        interval = self.settings.throttle.interval_s
        if self._sampled_at is not None and time.monotonic() - self._sampled_at < interval:
            return
        reason, since = self._reason(paused=False), time.monotonic()
        while reason is not None:
            started = time.monotonic()
            self._record_pause(reason, 0)
            self._report(reason=reason)
            if self._parking.is_due(started - since):
                raise Parked(self._wait(reason))
            time.sleep(interval)
            self._record_pause(reason, round((time.monotonic() - started) * 1000))
            reason = self._reason(paused=True)

    def _reason(self, *, paused: bool) -> str | None:
        reason = self._watcher.reason(self.side, paused=paused)
        self._sampled_at = time.monotonic()
        if sample := self._watcher.sample:
            sample.refuse_cancelled(self.backfill.what)
            refuse_failed(self.backfill.what, sample.failed)
            self.rows_per_second = sample.rows_per_second
        return reason

    def _wait(self, reason: str) -> ThrottleWait:
        return ThrottleWait(
            what=self._pause,
            reason=reason,
            since=dt.datetime.now(dt.UTC),
            run_id=self.run_id,
            seq=self.seq,
            table=self.backfill.table,
            throttle=self.settings.throttle,
            wal_ahead_s=self._watcher.wal_ahead_s,
        )

    def _record_pause(self, reason: str | None, ms: int) -> None:
        self.side.execute(
            sqlfiles.block("queries/backfill", "throttled"),
            {"run_id": self.run_id, "seq": self.seq, "shard": self.shard, "reason": reason, "ms": ms},
        )
        self.checkpoint = replace(self.checkpoint, throttled_ms=self.checkpoint.throttled_ms + ms)

    def _keep_speed_limit(self, rows: int, started: float) -> None:
        if self.rows_per_second:
            time.sleep(max(0.0, rows / self.rows_per_second - (time.monotonic() - started)))

    def _report(self, *, reason: str | None = None, done: bool = False) -> None:
        now = self.checkpoint
        self.meter.report(
            rows_done=now.rows_done,
            rows_estimated=now.rows_estimated,
            batches=now.batches,
            throttled_ms=now.throttled_ms,
            reason=reason,
            done=done,
        )
