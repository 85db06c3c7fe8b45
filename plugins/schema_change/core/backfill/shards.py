"""Cut a backfill into shards, key ranges that several sessions fill side by side, and share them out.

A shard belongs to whoever holds its lock, a session lock on the working connection: a shard whose session is gone is
free at once, and anybody who has nothing left to do goes on with it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from itertools import pairwise
from uuid import UUID

from psycopg.types.json import Jsonb

from schema_change.core import sqlfiles
from schema_change.core.backfill.checkpoint import Position
from schema_change.core.backfill.keyset import Bound, Ranges
from schema_change.core.backfill.retries import Retries
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError, SchemaChangeError
from schema_change.core.execution.statements import TRANSIENT
from schema_change.core.model import Backfill

#: How long a session that waits for others sleeps before it looks again.
_LOOK_AGAIN_S = 0.5


class ShardStopped(BackfillError):
    """Another shard has failed for good, so filling this one further would be in vain."""


def refuse_failed(what: str, failed: str | None) -> None:
    """Raise ShardStopped when another shard has failed."""
    if failed is not None:
        raise ShardStopped(
            f"the fill of {what} was ended, because another shard failed: {failed}",
            hint="correct what that shard's error says, then run this again; every shard goes on from its last batch",
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard as it is recorded; ``failed`` for good at any time, with ``error`` since this session began."""

    number: int
    done: bool
    failed: bool
    error: str | None
    rows: int


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards of one backfill, as one session sees them.

    ``first`` is the one it begins with. What failed before ``since`` may be corrected by now; what failed later ends
    this session too. It is when the session began, or when the wait began that ended the try before it.
    """

    work: Connection
    side: Connection
    run_id: UUID
    seq: int
    backfill: Backfill
    first: int = 0
    waited_since: InitVar[datetime | None] = None
    since: datetime = field(init=False)

    def __post_init__(self, waited_since: datetime | None) -> None:
        """Ask for the server's clock unless an earlier try goes on."""
        row = self.side.execute("SELECT coalesce(%s, clock_timestamp())", [waited_since]).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM gives one row
        object.__setattr__(self, "since", row[0])

    def cut(
        self,
        ranges: Ranges,
        *,
        wanted: int,
        least_rows: int,
        batch_rows: int,
        estimate: Callable[[], int | None],
        retries: Retries,
    ) -> None:
        """Record where every shard starts and ends, once: a later try, or another session, finds the same cut.

        A table that is locked just now is tried again.
        """
        while not self.all():
            try:
                cuts = ranges.cuts(self.work, wanted, least_rows) if self.backfill.divisible and wanted > 1 else []
                last = ranges.last(self.work)
                self._record(ranges, [None] if last is None else [*cuts, last], batch_rows, estimate())
            except TRANSIENT as error:
                retries.pause(error, ())

    def _record(self, ranges: Ranges, ends: list[Bound | None], batch_rows: int, rows: int | None) -> None:
        shards = [
            {
                "lower": lower,
                "upper": upper,
                "position": Position(0, 0, ranges.first() if lower is None else lower).to_json(),
                "rows": None if rows is None else (rows * (number + 1)) // len(ends) - rows * number // len(ends),
            }
            for number, (lower, upper) in enumerate(pairwise((None, *ends)))
        ]
        place = {"run_id": self.run_id, "seq": self.seq}
        with self.work.transaction():
            self.work.execute(sqlfiles.block("queries/journal", "lock_step"), place)
            self.work.execute(
                sqlfiles.block("queries/backfill", "insert_shards"),
                {**place, "key": list(self.backfill.key), "batch_rows": batch_rows, "shards": Jsonb(shards)},
            )

    def all(self) -> list[Shard]:
        """Return the shards in the order of the key; none before they are cut."""
        rows = self.side.execute(
            sqlfiles.block("queries/backfill", "get_shards"),
            {"run_id": self.run_id, "seq": self.seq, "since": self.since},
        )
        return [Shard(*row) for row in rows]

    def take(self, waiting: Callable[[], object]) -> Shard | None:
        """Return a shard to fill, locked; wait while others have all that is left, and return None at the end.

        One that failed for good comes first: while its cause is there, filling others is in vain. ``waiting`` is called
        when it begins to wait. Raises ShardStopped when a shard has failed for good.
        """
        waits = False
        while left := [shard for shard in self.all() if not shard.done]:
            refuse_failed(self.backfill.what, next((shard.error for shard in left if shard.error), None))
            for shard in sorted(left, key=lambda s: (not s.failed, s.number < self.first, s.number)):
                if self._ask("try_shard", shard.number):
                    return shard
            if not waits:
                waiting()
                waits = True
            time.sleep(_LOOK_AGAIN_S)
        return None

    @contextlib.contextmanager
    def held(self, shard: Shard) -> Iterator[None]:
        """Give a shard back at the end; record why it failed when trying again cannot help, for the others to read."""
        try:
            yield
        except SchemaChangeError as error:
            if not (error.retryable or isinstance(error, ShardStopped) or self.side.closed):
                self.side.execute(
                    sqlfiles.block("queries/backfill", "shard_failed"),
                    {"run_id": self.run_id, "seq": self.seq, "shard": shard.number, "error": error.message},
                )
            raise
        finally:
            if not self.work.closed:
                self._ask("release_shard", shard.number)

    def _ask(self, name: str, shard: int) -> bool:
        block = sqlfiles.block("queries/backfill", name)
        row = self.work.execute(block, {"run_id": self.run_id, "seq": self.seq, "shard": shard}).fetchone()
        return bool(row and row[0])
