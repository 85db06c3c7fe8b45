from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from schema_change.core.backfill.engine import BackfillSettings, Progress, run_backfill, undo_fill
from schema_change.core.backfill.throttle import ThrottleSettings
from schema_change.core.database import Connection, Target
from schema_change.core.model import Backfill
from schema_change.core.names import Table

NUMBERS = Table("public", "numbers")
SMALL = BackfillSettings(min_rows=10, max_rows=10, throttle=ThrottleSettings(interval_s=0.02))


def doubled(**changes: Any) -> Backfill:
    """Fill c of table numbers with twice the id."""
    parts: dict[str, Any] = {
        "table": NUMBERS,
        "column": "c",
        "expression": "numbers.id * 2",
        "pending": "c IS NULL",
        "key": ("id",),
    }
    return Backfill(**{**parts, **changes})


@dataclass
class Filling:
    """One backfill step of one run, and the sessions it runs on."""

    target: Target
    connection: Connection
    run_id: UUID
    work: Connection
    side: Connection
    seen: list[Progress] = field(default_factory=list)

    def run(
        self,
        backfill: Backfill,
        settings: BackfillSettings = SMALL,
        on_progress: Callable[[Progress], None] | None = None,
        seq: int = 1,
    ) -> int:
        return run_backfill(
            self.work,
            self.side,
            run_id=self.run_id,
            seq=seq,
            backfill=backfill,
            settings=settings,
            on_progress=on_progress or self.seen.append,
        )

    def undo(self, backfill: Backfill) -> int:
        return undo_fill(self.work, self.side, run_id=self.run_id, seq=1, backfill=backfill, settings=SMALL)

    def reconnect(self) -> None:
        self.work.close()
        self.work = self.target.connect("work")

    def one(self, query: str) -> Any:
        row = self.connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def control(self, **values: object) -> None:
        self.connection.execute(
            "INSERT INTO schema_change.control (run_id, paused, cancelled, rows_per_second, changed_by)"
            " VALUES (%s, %s, %s, %s, 'ann') ON CONFLICT (run_id) DO UPDATE SET paused = excluded.paused,"
            " cancelled = excluded.cancelled, rows_per_second = excluded.rows_per_second",
            [self.run_id, values.get("paused", False), values.get("cancelled", False), values.get("rows_per_second")],
        )
