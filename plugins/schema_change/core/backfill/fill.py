"""The statements of a backfill: fill a range, count what is left, find the row that cannot be filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg import errors, sql

from schema_change.core import sqlfiles
from schema_change.core.backfill.keyset import Bound, Ranges
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError
from schema_change.core.model import Backfill

#: Errors that come from the data of some row, and not from the statement or the server.
DATA_ERRORS = (psycopg.DataError, psycopg.IntegrityError, errors.RaiseException)


@dataclass(frozen=True, slots=True)
class Fill:
    """One backfill's statements, composed from its expressions and the ranges of its table."""

    backfill: Backfill
    ranges: Ranges
    run_id: UUID
    seq: int

    def pending(self, after: Bound | None, upto: Bound, *, with_value: bool, turn: int | None = None) -> sql.Composed:
        """Return the predicate of the rows to fill; ``with_value`` leaves out those whose right answer is NULL."""
        parts: list[sql.Composable] = [self.ranges.within(after, upto), _bracketed(self.backfill.pending)]
        if turn is not None and (half := self.ranges.every_other(turn)):
            parts.append(half)
        if with_value:
            parts.append(sql.SQL("{} IS NOT NULL").format(_bracketed(self.backfill.expression)))
        return sql.SQL(" AND ").join(parts)

    def run(
        self, work: Connection, after: Bound | None, upto: Bound, *, with_value: bool, turn: int | None = None
    ) -> int:
        """Fill one range, or the rows of one turn; return the rows updated. Part of the batch's transaction."""
        if (batch := self.backfill.batch) is not None:
            predicate = self.pending(after, upto, with_value=False)
            return _rows(work, sql.SQL("{}{}{}").format(sql.SQL(batch.head), predicate, sql.SQL(batch.tail)))
        names = {
            "table": self.ranges.table.identifier,
            "column": sql.Identifier(self.backfill.column),
            "expression": sql.SQL(self.backfill.expression),
            "predicate": self.pending(after, upto, with_value=with_value, turn=turn),
        }
        if not self.backfill.remember:
            return _rows(work, sqlfiles.block("queries/backfill", "fill").format(**names))
        row = work.execute(
            sqlfiles.block("queries/backfill", "fill_and_remember").format(
                **names,
                key=self.ranges.texts,
                table_name=sql.Identifier(self.ranges.table.name),
                run_id=sql.Literal(self.run_id),
                seq=sql.Literal(self.seq),
            )
        ).fetchone()
        return int(row[0]) if row else 0

    def poison(
        self, work: Connection, after: Bound | None, upto: Bound, prepare: Callable[[], object], *, with_value: bool
    ) -> tuple[Bound, psycopg.Error] | None:
        """Halve a failing range until one row is left; return its key and its error.

        Every try is rolled back. ``prepare`` sets up each transaction. None when no half fails by itself.
        """

        def failure(low: Bound | None, high: Bound) -> psycopg.Error | None:
            try:
                with work.transaction(force_rollback=True):
                    prepare()
                    self.run(work, low, high, with_value=with_value)
                    work.execute(sqlfiles.block("queries/backfill", "check_constraints_now"))
            except DATA_ERRORS as error:
                return error
            return None

        def halves(low: Bound | None, high: Bound) -> tuple[int, Bound | None]:
            """Return how many rows are pending in a range, and the key of the one in the middle."""
            with work.transaction(force_rollback=True):
                prepare()
                inside = self.pending(low, high, with_value=False)
                rows = self.ranges.count(work, inside)
                return rows, self.ranges.nth(work, inside, max(rows // 2, 1))

        rows, middle = halves(after, upto)
        while rows > 1 and middle is not None:
            if failure(after, middle):
                upto = middle
            else:
                after = middle
            rows, middle = halves(after, upto)
        error = failure(after, upto)
        return (middle, error) if middle and error else None


def poison_error(fill: Fill, key: Bound, error: psycopg.Error) -> BackfillError:
    """Return the error that names the row; the server's detail is left out, it shows other columns' values."""
    return BackfillError(
        f"{fill.backfill.what}: the row with {fill.ranges.show(key)} cannot be {fill.backfill.verb}: "
        f"{error.diag.message_primary} (SQLSTATE {error.sqlstate}); nothing of its batch was committed",
        hint="correct that row or the fill expression, then run this again; it goes on from the last batch",
    )


def remaining(connection: Connection, backfill: Backfill) -> int:
    """Count the rows still pending whose expression is not NULL; NULL can be a right answer."""
    predicate = sql.SQL("{} AND {} IS NOT NULL").format(_bracketed(backfill.pending), _bracketed(backfill.expression))
    block = sqlfiles.block("queries/backfill", "count")
    with connection.transaction():
        connection.execute(sqlfiles.block("queries/backfill", "first_settings"))
        row = connection.execute(block.format(table=backfill.table.identifier, predicate=predicate)).fetchone()
    return int(row[0]) if row else 0


def _rows(work: Connection, statement: sql.Composed) -> int:
    """Run a statement and return how many rows it wrote."""
    with work.pipeline():  # in the pipeline of a batch, its answer is waited for here
        cursor = work.execute(statement)
    return cursor.rowcount


def _bracketed(expression: str) -> sql.Composed:
    # On lines of its own, so that a comment at its end swallows nothing of ours.
    return sql.SQL("(\n{}\n)").format(sql.SQL(expression))
