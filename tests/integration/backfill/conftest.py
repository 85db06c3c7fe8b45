from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from schema_change.core import sqlfiles
from schema_change.core.backfill.engine import BackfillSettings, Progress, run_backfill, undo_fill
from schema_change.core.backfill.throttle import ThrottleSettings
from schema_change.core.database import Connection, Target
from schema_change.core.journal import registry
from schema_change.core.model import Backfill

SMALL = BackfillSettings(min_rows=10, max_rows=10, throttle=ThrottleSettings(interval_s=0.02))


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
    ) -> int:
        return run_backfill(
            self.work,
            self.side,
            run_id=self.run_id,
            seq=1,
            backfill=backfill,
            key=backfill.key,
            settings=settings,
            on_progress=on_progress or self.seen.append,
        )

    def undo(self, backfill: Backfill) -> int:
        return undo_fill(
            self.work, self.side, run_id=self.run_id, seq=1, backfill=backfill, key=backfill.key, settings=SMALL
        )

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


@pytest.fixture
def filling(target: Target, connection: Connection) -> Iterator[Filling]:
    registry.install(connection)
    run_id = uuid4()
    texts = ("change_version", "change_name", "description", "checksum", "parent_checksum", "checksum_algorithm")
    connection.execute(
        sqlfiles.block("queries/journal", "insert_run"),
        dict.fromkeys((*texts, "files_sha256", "conn_id", "requested_by", "requested_from", "fingerprint_before"), "x")
        | {"run_id": run_id, "options": Jsonb({}), "change": Jsonb({}), "risk": "low", "plan": Jsonb({})}
        | {"catalog_before": Jsonb({})},
    )
    connection.execute(
        sqlfiles.block("queries/journal", "insert_steps"),
        {"run_id": run_id, "steps": Jsonb([{"phase": "backfill", "title": "fill"}])},
    )
    with target.connect("side") as side:
        prepared = Filling(target, connection, run_id, target.connect("work"), side)
        yield prepared
        prepared.work.close()
