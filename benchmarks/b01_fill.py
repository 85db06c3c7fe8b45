"""B1: fill a new column of a table from an expression, with one worker, while nobody else is at work.

Each contender starts from the same fresh copy of the table and ends with the same rows, which is checked:

- *ours*: the backfill of the step that ``add_column`` plans, with a run's defaults; its trigger for rows written
  meanwhile is on the table, and the time ends when the journal says *done*;
- *plain UPDATE*: one statement, the limit; run twice in each round, which shows the machine's noise;
- *the runbooks' loop*: ``WHERE id IN (SELECT id … WHERE gross IS NULL ORDER BY id LIMIT 1000)``, committed each time,
  without the pauses the runbook makes. It is stopped after a few seconds. Each of its batches reads past all rows that
  are filled already, so that its batches get slower in proportion; the time of the batches it did not get to is taken
  from the straight line through those it did;
- *pgroll's algorithm*, as its source has it (github.com/xataio/pgroll, ``pkg/backfill``): a cursor over the key, 1000
  rows that are still marked, ``SET id = id`` on them, and a trigger in plpgsql that computes the column and takes the
  mark away; no pause between batches, which is its default.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bench import Bench
from benchmarks.filling import EXPRESSION, Filling, Run, prepared
from benchmarks.measure import Figure, Goal, Result, Rounds, noise, percentile, ratio, speed, take_turns
from schema_change.core.backfill.engine import BackfillSettings

_LOOP_S = 8.0
_LOOP_ROWS = 1000
_PLAIN = f"UPDATE orders SET gross = {EXPRESSION}"
_LOOP = f"""
UPDATE orders SET gross = {EXPRESSION}
WHERE id IN (SELECT id FROM orders WHERE gross IS NULL ORDER BY id LIMIT {_LOOP_ROWS})
"""
_PGROLL_TRIGGER = f"""
CREATE OR REPLACE FUNCTION compute_gross() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    id public.orders.id%TYPE := NEW.id;
    customer public.orders.customer%TYPE := NEW.customer;
    region public.orders.region%TYPE := NEW.region;
    amount public.orders.amount%TYPE := NEW.amount;
    created_at public.orders.created_at%TYPE := NEW.created_at;
    note public.orders.note%TYPE := NEW.note;
    latest_schema text;
    search_path text;
BEGIN
    SELECT current_setting INTO search_path FROM current_setting('search_path');
    IF search_path != 'public_02_add_gross' THEN
        NEW.gross = {EXPRESSION};
        NEW.needs_backfill = false;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER compute_gross BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION compute_gross()
"""
_PGROLL = """
WITH batch AS (
    SELECT id FROM orders WHERE needs_backfill = true AND id > %s ORDER BY id LIMIT 1000 FOR NO KEY UPDATE
), updated AS (
    UPDATE orders SET id = orders.id FROM batch WHERE orders.id = batch.id RETURNING orders.id
)
SELECT last_value(id) OVER () FROM updated
"""


def run(bench: Bench) -> Result:
    """Measure each contender once per round."""
    with prepared(bench.database("filling"), bench.rows) as filling:
        seen = _Seen(filling)
        rounds = take_turns(
            {
                "plain UPDATE": seen.contender("plain UPDATE", filling.add_column, lambda: _plain(filling)),
                "ours": seen.contender("ours", seen.plan, seen.fill),
                "plain again": seen.contender("plain again", filling.add_column, lambda: _plain(filling)),
                "pgroll": seen.contender("pgroll", lambda: _mark(filling), lambda: _pgroll(filling)),
                "the loop": seen.contender("the loop", filling.add_column, seen.loop, to_the_end=False),
            },
            bench.rounds,
            between=filling.copy,
            say=bench.say,
        )
        return _result(bench, filling, rounds, seen)


@dataclass
class _Seen:
    """What is measured besides seconds, one value per round: WAL and growth in bytes, seconds of batches."""

    filling: Filling
    wal: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    growth: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    p99: list[float] = field(default_factory=list)
    in_the_box: list[float] = field(default_factory=list)
    results: set[tuple[Any, ...]] = field(default_factory=set)
    run: Run | None = None

    def contender(
        self, name: str, prepare: Callable[[], object], work: Callable[[], float | None], *, to_the_end: bool = True
    ) -> Callable[[], float]:
        """Return what runs a contender once, returns its seconds, and checks what it has made of the table."""

        def turn() -> float:
            prepare()
            wal, size = self._position(), self._size()
            started = time.perf_counter()
            own = work()
            seconds = time.perf_counter() - started if own is None else own
            if to_the_end:
                self.wal[name].append(self._position() - wal)
                self.growth[name].append(self._size() - size)
                self.results.add(self.filling.result())
                assert len(self.results) == 1, f"{name} has made something else of the table than the others"
            return seconds

        return turn

    def plan(self) -> None:
        """Prepare our own run."""
        self.run = self.filling.planned()

    def fill(self) -> None:
        """Fill as our own run does."""
        assert self.run is not None
        self.p99.append(percentile(self.run.fill(self.filling.target), 0.99))

    def loop(self) -> float:
        """Run the loop for some seconds; return the seconds it would take to the end."""
        seconds: list[float] = []
        while sum(seconds) < _LOOP_S:
            started = time.perf_counter()
            if not self.filling.session.execute(_LOOP.encode()).rowcount:
                break
            seconds.append(time.perf_counter() - started)
        self.in_the_box.append(len(seconds) * _LOOP_ROWS / sum(seconds))
        return sum(seconds) + sum(_continued(seconds, -(-self.filling.rows // _LOOP_ROWS) - len(seconds)))

    def _position(self) -> float:
        return float(self.filling.one("SELECT pg_current_wal_insert_lsn() - '0/0'"))

    def _size(self) -> float:
        return float(self.filling.one("SELECT pg_total_relation_size('orders')"))


def _continued(values: Sequence[float], more: int) -> list[float]:
    """Return the values that would follow on the straight line through those that are there."""
    slope, start = statistics.linear_regression(range(len(values)), values)
    return [start + slope * number for number in range(len(values), len(values) + more)]


def _plain(filling: Filling) -> None:
    filling.session.execute(_PLAIN.encode())


def _mark(filling: Filling) -> None:
    filling.add_column()
    filling.session.execute("ALTER TABLE orders ADD COLUMN needs_backfill boolean DEFAULT true")
    filling.session.execute(_PGROLL_TRIGGER.encode())


def _pgroll(filling: Filling) -> None:
    after = 0
    while row := filling.session.execute(_PGROLL.encode(), [after]).fetchone():
        (after,) = row


def _result(bench: Bench, filling: Filling, rounds: Rounds, seen: _Seen) -> Result:
    target_s = BackfillSettings().target_ms / 1000
    figures = [
        Figure("speed against the plain UPDATE", speed(rounds, "ours", "plain UPDATE"), Goal(0.95, at_least=True)),
        Figure("speed against pgroll's algorithm", speed(rounds, "ours", "pgroll"), Goal(1.4, at_least=True)),
        Figure("speed against the runbooks' loop", speed(rounds, "ours", "the loop"), Goal(15, at_least=True)),
        Figure("p99 of a batch against its target", tuple(s / target_s for s in seen.p99), Goal(2)),
        noise(rounds, "plain UPDATE", "plain again"),
        Figure("WAL written against the plain UPDATE", ratio(seen.wal, "ours", "plain UPDATE")),
        Figure("growth of table and indexes against the plain UPDATE", ratio(seen.growth, "ours", "plain UPDATE")),
        Figure(
            "speed against the loop while it ran",
            tuple(filling.rows / s / rate for s, rate in zip(rounds["ours"], seen.in_the_box, strict=True)),
        ),
    ]
    return Result(
        "B1",
        "Fill a new column, nobody else at work",
        figures,
        {f"{name} (s)": values for name, values in rounds.items()},
        bench.setting(rows=filling.rows, bytes=filling.one("SELECT pg_relation_size('template')"), target_s=target_s),
        [
            f"The loop was stopped after {_LOOP_S:g} s, and its seconds to the end extrapolated; see the module.",
            "Our batches bypass the trigger for rows written meanwhile, but PostgreSQL locks each row for it.",
            "Batches are committed asynchronously, the end of the step synchronously, within the time measured.",
            "Autovacuum is off on the table, for everybody.",
        ],
    )
