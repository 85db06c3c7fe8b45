"""How large the next batch is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_SMOOTHING = 0.4
_KEEP_FROM, _KEEP_TO = 0.85, 1.05


class BatchSize:
    """Follows a target duration: smoothed, clamped, slow to grow near the target, halved at once on a time-out."""

    def __init__(self, rows: int, target_ms: int, min_rows: int, max_rows: int) -> None:
        self.rows = max(1, min(rows, max_rows))
        self._target_s, self._min, self._max = target_ms / 1000, min_rows, max_rows
        self._per_second: float | None = None

    def learn(self, rows: int, seconds: float) -> None:
        """Take in how long a batch of that many rows took; ``rows`` is its size, filled or not."""
        rate = rows / max(seconds, 1e-4)
        self._per_second = rate if self._per_second is None else _SMOOTHING * rate + (1 - _SMOOTHING) * self._per_second
        wanted = self._per_second * self._target_s
        if _KEEP_FROM <= self.rows / wanted <= _KEEP_TO:
            return
        if wanted > self.rows:
            most = self.rows * (2.0 if wanted > 2 * self.rows else 1.2)
            self.rows = min(max(round(min(wanted, most)), self.rows + 1), self._max)
        else:
            # A size that time-outs have brought below the minimum stays there until it grows again.
            self.rows = max(round(max(wanted, self.rows / 2)), min(self._min, self.rows), 1)

    def aim(self, target_ms: int) -> None:
        """Follow another target from now on; a shorter one counts at once, a longer one is grown to.

        Not below the minimum: what a batch costs whatever its size would make it smaller and smaller. How many rows a
        shorter target has time for is not known before the first batch, which then has the fewest.
        """
        shorter, self._target_s = target_ms / 1000 < self._target_s, target_ms / 1000
        least = min(self._min, self.rows)
        if self._per_second is not None:
            self.rows = max(least, min(self.rows, round(self._per_second * self._target_s)))
        elif shorter:
            self.rows = least

    def halve(self) -> None:
        """React to a time-out, a deadlock or a serialization failure; may go below the minimum, down to one row."""
        self.rows = max(1, self.rows // 2)
        self._per_second = None


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
    shard: str = ""
    """Which of the shards this is, such as *shard 2 of 4*; empty when there is only one."""

    @property
    def fraction(self) -> float | None:
        """Return the part done, 0 to 1, or None when the total is not known; 1 only when it is done."""
        if self.done:
            return 1.0
        if not self.rows_estimated:
            return None
        return min(self.rows_done / self.rows_estimated, 0.99)


class Meter:
    """Measures this try's rate and tells the listener about once a second, and at the end."""

    def __init__(self, on_progress: Callable[[Progress], None], every_s: float = 1.0) -> None:
        self._tell, self._every_s = on_progress, every_s
        self._told_at: float | None = None
        self._rows, self._seconds = 0, 0.0
        self._recent: float | None = None

    def batch(self, rows: int, seconds: float) -> None:
        """Take in one batch: rows filled and how long it took."""
        self._rows, self._seconds = self._rows + rows, self._seconds + seconds
        rate = rows / max(seconds, 1e-4)
        self._recent = rate if self._recent is None else _SMOOTHING * rate + (1 - _SMOOTHING) * self._recent

    def report(
        self,
        *,
        rows_done: int,
        rows_estimated: int | None,
        batches: int,
        throttled_ms: int,
        reason: str | None = None,
        done: bool = False,
    ) -> None:
        """Tell the listener, when it is time."""
        now = time.monotonic()
        if not done and self._told_at is not None and now - self._told_at < self._every_s:
            return
        self._told_at = now
        rate = self._rows / self._seconds if self._seconds and self._rows else None
        left = None if rows_estimated is None else max(rows_estimated - rows_done, 0)
        eta = (0.0, 0.0) if done else self._eta(rows_done, left)
        self._tell(Progress(rows_done, rows_estimated, rate, eta, throttled_ms / 1000, reason, batches, done))

    def _eta(self, rows_done: int, left: int | None) -> tuple[float, float] | None:
        """Return the time left between the better and the worse of overall and recent rate; None below 1 %."""
        if left is None or not self._recent or not self._rows or rows_done < 0.01 * (rows_done + left):
            return None
        rates = (self._rows / self._seconds, self._recent)
        return left / max(rates), left / min(rates)
