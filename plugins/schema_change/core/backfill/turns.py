"""Every other row first, the rest once that is committed: a row can then stay in its page, and out of the indexes.

An update puts the row's new version into the same page when there is room (a heap-only tuple: no index is touched);
in a full page there is none, so a plain ``UPDATE`` of a whole table moves every row, doubles the table and adds an
entry to each index for every row. The rows of the first turn move; the room they leave is reclaimed by whoever reads
the page next (page pruning), and the rows of the second turn stay. That is half the growth, fewer index entries and
less WAL. While a transaction older than the first turn is open nothing can be reclaimed: that costs a second look at
the rows, no more. So the first turn keeps a batch ahead of the second.

See https://www.postgresql.org/docs/current/storage-hot.html.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from schema_change.core import sqlfiles
from schema_change.core.backfill.checkpoint import Position
from schema_change.core.backfill.keyset import Bound, Ranges, size
from schema_change.core.database import Connection
from schema_change.core.model import Backfill

_FROM_BYTES = 8 * 1024 * 1024
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one batch: a range, of about so many rows; only every other one when it has a turn, 0 or 1."""

    after: Bound | None
    end: Bound
    rows: int
    turn: int | None = None

    def behind(self, position: Position) -> Position:
        """Return the position once this part is done."""
        if self.turn == 0:
            return replace(position, ahead=self.end)
        return replace(position, after=self.end, ahead=None if position.ahead == self.end else position.ahead)


class Turns:
    """Says which rows come next. Knows the ends of the ranges between the turns, so that they are counted once."""

    def __init__(self, ranges: Ranges, *, two: bool) -> None:
        self._ranges, self._two = ranges, two
        self._ends: deque[tuple[Bound, int]] = deque()

    def next(self, work: Connection, position: Position, upper: Bound, rows: int) -> Part:
        """Return the next part, to fill about that many rows."""
        if not self._two or position.sweep:
            return Part(position.after, self._ranges.end_of_batch(work, position.after, upper, rows), rows)
        # Nothing is known of the way between the turns after a failure, or in a later try: the second catches up.
        if position.ahead is None or (position.ahead != upper and 0 < len(self._ends) < _AHEAD):
            ahead = position.ahead or position.after
            return Part(ahead, self._ranges.end_of_batch(work, ahead, upper, 2 * rows), rows, 0)
        if self._ends:
            end, rows = self._ends[0]
        else:
            end = self._ranges.end_of_batch(work, position.after, position.ahead, 2 * rows)
        return Part(position.after, end, rows, 1)

    def done(self, part: Part) -> None:
        """Take note that a part was committed."""
        if part.turn == 0:
            self._ends.append((part.end, part.rows))
        elif self._ends:
            self._ends.popleft()

    def forget(self) -> None:
        """Count anew what the next part is: something went wrong, so it will be a smaller one."""
        self._ends.clear()


def pays(connection: Connection, backfill: Backfill, ranges: Ranges) -> bool:
    """Tell whether two turns are better than one: most rows of a large table are written, none into an index."""
    if backfill.batch or backfill.remember or ranges.every_other(0) is None:
        return False
    if size(connection, backfill.table)[0] < _FROM_BYTES:
        return False
    row = connection.execute(
        sqlfiles.block("queries/backfill", "is_indexed"),
        {"schema": backfill.table.schema, "table": backfill.table.name, "column": backfill.column},
    ).fetchone()
    return row is not None and not row[0]
