"""Fill a column batch by batch: checkpointed, resumable, throttled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from schema_change.core.backfill.throttle import ThrottleSettings
from schema_change.core.database import Connection
from schema_change.core.model import Backfill


@dataclass(frozen=True, slots=True)
class BackfillSettings:
    """How long a batch should take and how large it may get; time-outs in ms, sizes in rows."""

    target_ms: int = 500
    min_rows: int = 100
    max_rows: int = 50_000
    lock_timeout_ms: int = 1_000
    throttle: ThrottleSettings = field(default_factory=ThrottleSettings)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a backfill is. ``rate`` is rows per second without throttled time; ``eta_s`` a range, None when unknown."""

    rows_done: int
    rows_estimated: int | None
    rate: float | None
    eta_s: tuple[float, float] | None
    throttled_s: float
    throttle_reason: str | None
    batches: int
    done: bool

    @property
    def fraction(self) -> float | None:
        """Return the part done, 0 to 1, or None when the total is not known."""
        ...


def run_backfill(
    work: Connection,
    side: Connection,
    *,
    run_id: UUID,
    seq: int,
    backfill: Backfill,
    key: tuple[str, ...],
    settings: BackfillSettings = BackfillSettings(),
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> int:
    """Fill the column, from the checkpoint on when there is one; return the rows filled."""
    ...


def remaining(connection: Connection, backfill: Backfill) -> int:
    """Count the rows still pending whose expression is not NULL."""
    ...


def undo_fill(
    work: Connection,
    side: Connection,
    *,
    run_id: UUID,
    seq: int,
    backfill: Backfill,
    key: tuple[str, ...],
    settings: BackfillSettings = BackfillSettings(),
) -> int:
    """Set back to NULL the rows that still hold our value; return how many."""
    ...
