"""Reasons to pause a backfill: one sample of the server, and a small function for each signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.names import Table


@dataclass(frozen=True, slots=True)
class ThrottleSettings:
    """Limits above which a backfill pauses. It goes on below 80 % of them, so that it does not flap.

    Dead rows matter from ``dead_rows`` on only: a small table is vacuumed in no time.
    """

    interval_s: float = 1.0
    replica_lag_s: float = 5.0
    lock_waiters: int = 1
    long_transaction_s: float = 600.0
    dead_rows: int = 1_000_000
    dead_rows_ratio: float = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look at the server found; None where the server does not tell us."""

    paused: bool
    cancelled: bool
    changed_by: str | None
    rows_per_second: int | None
    replica_lag_s: float | None
    lock_waiters: int
    oldest_transaction_s: float | None
    dead_rows: int
    live_rows: int
    autovacuum: bool
    wraparound: bool
    failed: str | None
    """Why a shard of the backfill has failed for good meanwhile."""


def take_sample(side: Connection, run_id: UUID, seq: int, table: Table, since: datetime) -> Sample | None:
    """Look at the server once, in one query; None when the table is gone.

    Sessions that fill shards of the same backfill are no reason to pause; the speed limit is divided among them.
    """
    row = side.execute(
        sqlfiles.block("queries/backfill", "sample"),
        {"run_id": run_id, "seq": seq, "schema": table.schema, "table": table.name, "since": since},
    ).fetchone()
    return Sample(*row) if row else None


Signal = Callable[[Sample, ThrottleSettings, float], str | None]
"""``(sample, settings, slack) -> reason``; slack is 1 while running and 0.8 while paused."""


def _paused(sample: Sample, _settings: ThrottleSettings, _slack: float) -> str | None:
    return f"paused by {sample.changed_by}" if sample.paused else None


def _replica_lag(sample: Sample, settings: ThrottleSettings, slack: float) -> str | None:
    if sample.replica_lag_s is None or sample.replica_lag_s <= settings.replica_lag_s * slack:
        return None
    return f"a replica is {sample.replica_lag_s:.1f} s behind (limit {settings.replica_lag_s:g} s)"


def _lock_waiters(sample: Sample, settings: ThrottleSettings, _slack: float) -> str | None:
    if sample.lock_waiters < settings.lock_waiters:
        return None
    return f"{sample.lock_waiters} session(s) wait for a lock on the table"


def _wraparound(sample: Sample, _settings: ThrottleSettings, _slack: float) -> str | None:
    return "autovacuum is preventing transaction id wraparound on the table" if sample.wraparound else None


def _vacuum_behind(sample: Sample, settings: ThrottleSettings, slack: float) -> str | None:
    """Wait for autovacuum, where there is one."""
    limit = max(settings.dead_rows, settings.dead_rows_ratio * sample.live_rows) * slack
    if not sample.autovacuum or sample.dead_rows < limit:
        return None
    return f"{sample.dead_rows} dead rows wait for autovacuum (limit {limit:.0f})"


def _vacuum_held_back(sample: Sample, settings: ThrottleSettings, slack: float) -> str | None:
    """Wait for the transaction that keeps dead rows from being vacuumed, once they are many."""
    age = sample.oldest_transaction_s
    if age is None or age < settings.long_transaction_s or sample.dead_rows < settings.dead_rows * slack:
        return None
    return f"a transaction open for {age:.0f} s keeps {sample.dead_rows} dead rows from being vacuumed"


SIGNALS: tuple[Signal, ...] = (_paused, _replica_lag, _lock_waiters, _wraparound, _vacuum_behind, _vacuum_held_back)


def reason_to_pause(sample: Sample, settings: ThrottleSettings, *, already_paused: bool) -> str | None:
    """Return why the backfill should not go on right now, or None."""
    slack = 0.8 if already_paused else 1.0
    reasons = [reason for signal in SIGNALS if (reason := signal(sample, settings, slack))]
    return "; ".join(reasons) or None
