"""Where a backfill is, as committed together with its batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import UUID

from psycopg.types.json import Jsonb

from schema_change.core import sqlfiles
from schema_change.core.backfill.keyset import Bound
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError


@dataclass(frozen=True, slots=True)
class Position:
    """Which pass over the table this is, how many rows it filled so far, and the bound behind us.

    Up to ``ahead``, when there is one, every other row is filled already.
    """

    sweep: int
    filled: int
    after: Bound | None
    ahead: Bound | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote."""
        return cls(data["sweep"], data["filled"], _bound(data["after"]), _bound(data["ahead"]))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"sweep": self.sweep, "filled": self.filled, "after": self.after, "ahead": self.ahead}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One row of ``schema_change.backfill``: a shard, from ``lower`` (excluded) to ``upper``."""

    shard: int
    key: tuple[str, ...]
    lower: Bound | None
    upper: Bound | None
    position: Position
    batch_rows: int
    rows_done: int
    rows_estimated: int | None
    batches: int
    throttled_ms: int
    done: bool
    is_last: bool
    """No shard has larger keys."""

    @classmethod
    def load(cls, connection: Connection, run_id: UUID, seq: int, shard: int) -> Self:
        """Return the recorded checkpoint. Raises BackfillError when it is gone."""
        row = connection.execute(
            sqlfiles.block("queries/backfill", "get_checkpoint"), {"run_id": run_id, "seq": seq, "shard": shard}
        ).fetchone()
        if row is None:
            raise BackfillError("the backfill's checkpoint is gone", hint="roll this run back and start a new one")
        key, lower, upper, position, batch_rows, rows_done, rows_estimated, batches, throttled_ms, status, is_last = row
        return cls(
            shard=shard,
            key=tuple(key),
            lower=_bound(lower),
            upper=_bound(upper),
            position=Position.from_json(position),
            batch_rows=batch_rows,
            rows_done=rows_done,
            rows_estimated=rows_estimated,
            batches=batches,
            throttled_ms=throttled_ms,
            done=status == "done",
            is_last=is_last,
        )

    def advance(self, connection: Connection, run_id: UUID, seq: int, rows: int) -> Checkpoint:
        """Record one batch of that many filled rows; part of the batch's own transaction."""
        connection.execute(
            sqlfiles.block("queries/backfill", "advance"),
            {
                "run_id": run_id,
                "seq": seq,
                "shard": self.shard,
                "upper": _json(self.upper),
                "cursor": Jsonb(self.position.to_json()),
                "batch_rows": self.batch_rows,
                "rows": rows,
                "status": "done" if self.done else "running",
            },
        )
        return replace(self, rows_done=self.rows_done + rows, batches=self.batches + 1)


def _bound(data: Sequence[str] | None) -> Bound | None:
    return None if data is None else tuple(data)


def _json(bound: Bound | None) -> Jsonb | None:
    return None if bound is None else Jsonb(list(bound))
