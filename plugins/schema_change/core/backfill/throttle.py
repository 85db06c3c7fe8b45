"""Reasons to pause a backfill: one sample of the server, a small function for each signal, and two asked elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError
from schema_change.core.execution.statements import message_of
from schema_change.core.names import Table
from schema_change.core.surroundings.models import Metric, Throttle
from schema_change.core.surroundings.prometheus import ask
from schema_change.core.wording import sized

_MB = 1 << 20


class ThrottleSettings(Throttle):
    """The limits of the change file, and how often (s) to look.

    A backfill goes on below 80 % of a limit, so that it does not flap. Dead rows matter from ``dead_rows`` on only: a
    small table is vacuumed in no time. Dead rows and growth make it wait for autovacuum, so only when that is due: a
    table does not shrink by waiting.
    """

    interval_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look at the server found; None where the server does not tell us.

    Rows are estimates of the statistics, sizes are in bytes. ``wal_bytes`` is the WAL written since the cluster was
    made; ``slot`` the replication slot that holds back most of it.
    """

    paused: bool
    cancelled: bool
    changed_by: str | None
    rows_per_second: int | None
    replica_lag_s: float | None
    lock_waiters: int
    oldest_transaction_s: float | None
    dead_rows: int
    live_rows: int
    vacuum_due: bool
    wraparound: bool
    bytes_before: int | None
    bytes: int | None
    wal_bytes: int
    beside: bool
    """Another session fills a shard of the same backfill just now."""
    slot: str | None
    slot_bytes: float | None
    failed: str | None
    """Why a shard of the backfill has failed for good meanwhile."""

    def refuse_cancelled(self, what: str) -> None:
        """Raise BackfillError when somebody cancelled the backfill."""
        if self.cancelled:
            raise BackfillError(
                f"the backfill of {what} was cancelled by {self.changed_by}",
                hint="the run is rolled back; to go on instead, schema-change resume it and run the task again",
            )


Signal = Callable[[Sample, Throttle, float], str | None]
"""``(sample, settings, slack) -> reason``; slack is 1 while running and 0.8 while paused."""


def _paused(sample: Sample, _settings: Throttle, _slack: float) -> str | None:
    return f"paused by {sample.changed_by}" if sample.paused else None


def _replica_lag(sample: Sample, settings: Throttle, slack: float) -> str | None:
    if sample.replica_lag_s is None or sample.replica_lag_s <= settings.replica_lag_s * slack:
        return None
    return f"a replica is {sample.replica_lag_s:.1f} s behind (limit {settings.replica_lag_s:g} s)"


def _slot(sample: Sample, settings: Throttle, slack: float) -> str | None:
    if sample.slot_bytes is None or sample.slot_bytes <= settings.slot_wal_mb * _MB * slack:
        return None
    return (
        f"replication slot {sample.slot} holds back {sized(sample.slot_bytes)} of WAL"
        f" (limit {sized(settings.slot_wal_mb * _MB)})"
    )


def _lock_waiters(sample: Sample, settings: Throttle, _slack: float) -> str | None:
    if sample.lock_waiters < settings.lock_waiters:
        return None
    return f"{sample.lock_waiters} session(s) wait for a lock on the table"


def _wraparound(sample: Sample, _settings: Throttle, _slack: float) -> str | None:
    return "autovacuum is preventing transaction id wraparound on the table" if sample.wraparound else None


def _vacuum_behind(sample: Sample, settings: Throttle, slack: float) -> str | None:
    """Wait for autovacuum, where it is about to come."""
    limit = max(settings.dead_rows, settings.dead_rows_ratio * sample.live_rows) * slack
    if not sample.vacuum_due or sample.dead_rows < limit:
        return None
    return f"{sample.dead_rows} dead rows wait for autovacuum (limit {limit:.0f})"


def _growth(sample: Sample, settings: Throttle, slack: float) -> str | None:
    """Wait until autovacuum has made room in the table for the next rows."""
    if not sample.vacuum_due or sample.bytes is None or sample.bytes_before is None:
        return None
    grown = sample.bytes - sample.bytes_before
    limit = max(settings.growth_mb * _MB, settings.growth_ratio * sample.bytes_before)
    if grown <= limit * slack:
        return None
    return f"the table has grown by {sized(grown)} (limit {sized(limit)}) and waits for autovacuum"


def _vacuum_held_back(sample: Sample, settings: Throttle, slack: float) -> str | None:
    """Wait for the transaction that keeps dead rows from being vacuumed, once they are many."""
    age = sample.oldest_transaction_s
    if age is None or age < settings.long_transaction_s or sample.dead_rows < settings.dead_rows * slack:
        return None
    return f"a transaction open for {age:.0f} s keeps {sample.dead_rows} dead rows from being vacuumed"


SIGNALS: tuple[Signal, ...] = (
    _paused,
    _replica_lag,
    _slot,
    _lock_waiters,
    _wraparound,
    _vacuum_behind,
    _growth,
    _vacuum_held_back,
)


def reason_to_pause(sample: Sample, settings: Throttle, *, already_paused: bool) -> str | None:
    """Return what in a sample speaks against going on right now, or None."""
    slack = 0.8 if already_paused else 1.0
    reasons = [reason for signal in SIGNALS if (reason := signal(sample, settings, slack))]
    return "; ".join(reasons) or None


class WalPace:
    """How far the WAL written is ahead of its limit, in seconds.

    What batches wrote too fast is waited for, so that the average keeps to the limit; those of other shards count like
    our own, so every shard has the same debt. What the application writes while nothing is filled keeps a backfill
    paused while it is above the limit, but is not added: nobody waits for it afterwards.
    """

    def __init__(self, mb_per_s: float | None, ahead_s: float = 0.0) -> None:
        self._limit = mb_per_s
        self._seen: tuple[float, int, bool] | None = None
        self.ahead_s = ahead_s

    def reason(self, wal_bytes: int, now: float, *, paused: bool, beside: bool = False) -> str | None:
        """Take in the position of the WAL at a time (s); return why to pause, or None.

        ``paused`` tells whether we have filled nothing since the last look, ``beside`` whether another shard fills now.
        """
        before, self._seen = self._seen, (now, wal_bytes, beside)
        if self._limit is None:
            return None
        if before is None or now <= before[0]:
            return self._ahead() if self.ahead_s else None
        seconds, written_mb = now - before[0], (wal_bytes - before[1]) / _MB
        ahead_s = self.ahead_s + written_mb / self._limit - seconds
        nobody_filled = paused and not (beside or before[2])
        self.ahead_s = max(0.0, min(ahead_s, self.ahead_s) if nobody_filled else ahead_s)
        return f"{written_mb / seconds:.1f} MB of WAL per second, {self._ahead()}" if self.ahead_s else None

    def _ahead(self) -> str:
        return f"{self.ahead_s:.1f} s ahead of the limit of {self._limit:g} MB/s"


class Watcher:
    """Looks at the server on behalf of one backfill, and remembers what has to be compared between looks.

    ``work_pid`` is the session that fills; None when there is none, because the backfill is parked. A shard that has
    failed counts from ``since`` on. Sessions that fill other shards are no reason to pause.
    """

    def __init__(
        self,
        run_id: UUID,
        seq: int,
        table: Table,
        settings: Throttle,
        *,
        work_pid: int | None = None,
        since: datetime | None = None,
        wal_ahead_s: float = 0.0,
    ) -> None:
        self._settings, self._work_pid = settings, work_pid
        self._words = {
            "run_id": run_id,
            "seq": seq,
            "schema": table.schema,
            "table": table.name,
            "work_pid": work_pid or 0,
            "since": since,
        }
        self._wal = WalPace(settings.wal_mb_per_s, wal_ahead_s)
        self.sample: Sample | None = None

    @property
    def wal_ahead_s(self) -> float:
        """Return how far the WAL is ahead of its limit, in seconds."""
        return self._wal.ahead_s

    def reason(self, side: Connection, *, paused: bool) -> str | None:
        """Look once; return why the backfill should not go on right now, or None.

        ``sample`` is what was seen; None when the table is gone. Raises ConfigurationError when a variable that the
        metric names is not set.
        """
        try:
            row = side.execute(sqlfiles.block("queries/backfill", "sample"), self._words).fetchone()
        except psycopg.errors.LockNotAvailable:
            # Somebody locked the table while its size was looked up.
            return "the table is locked"
        self.sample = sample = Sample(*row) if row else None
        if sample is None:
            return None
        if sample.bytes_before is None and sample.bytes is not None and self._work_pid is not None:
            side.execute(sqlfiles.block("queries/backfill", "note_size"), {**self._words, "bytes": sample.bytes})
        reasons = [
            reason_to_pause(sample, self._settings, already_paused=paused),
            self._wal.reason(sample.wal_bytes, time.monotonic(), paused=paused, beside=sample.beside),
            _condition(side, self._settings.sql) if self._settings.sql else None,
            ask_metric(self._settings.prometheus) if self._settings.prometheus else None,
        ]
        return "; ".join(filter(None, reasons)) or None


def ask_condition(connection: Connection, query: str) -> str | None:
    """Ask the change's own SQL, read-only and for a second at most; return why to pause, or None.

    Raises psycopg's errors.
    """
    with connection.transaction():
        connection.execute(sqlfiles.block("queries/backfill", "condition_settings"))
        row = connection.execute(query.encode()).fetchone()
    found = row[0] if row else None
    if isinstance(found, bool | str | None):
        return "throttle.sql says so" if found is True else found or None
    return f"throttle.sql gives {found!r}; expected a boolean, or a text"


def ask_metric(metric: Metric) -> str | None:
    """Ask Prometheus; return why to pause, or None. Raises ConfigurationError when a variable it names is not set."""
    answer = ask(metric)
    return None if answer.ok else f"prometheus {metric.query}: {answer.message}"


def _condition(side: Connection, query: str) -> str | None:
    """Ask the change's own SQL; that it cannot be asked is a reason too."""
    try:
        return ask_condition(side, query)
    except psycopg.Error as error:
        if side.closed or side.broken:
            raise
        return f"throttle.sql cannot be asked: {message_of(error)}"
