"""B1 and B2: fill a new column of a table from an expression, with one worker and with two, nobody else at work.

Each contender starts from the same fresh copy of the table and ends with the same rows, which is checked. Both works
are compared with the same, so that all take turns in the same rounds:

- *ours*: the backfill of the step that ``add_column`` plans, with a run's defaults; its trigger for rows written
  meanwhile is on the table, and the time ends when the journal says *done*;
- *two shards*: the same by two sessions of the engine, as two mapped tasks or the threads of
  ``schema-change apply --shards 2`` are, from the cut of the table to *done*;
- *plain UPDATE*: one statement, the limit of one session, as PostgreSQL does not run it in parallel; run twice in each
  round, which shows the machine's noise;
- *two UPDATEs*: two such statements side by side, each of them on half of the keys: the limit of two sessions;
- *the runbooks' loop*: ``WHERE id IN (SELECT id … WHERE gross IS NULL ORDER BY id LIMIT 1000)``, committed each time,
  without the pauses the runbook makes. It is stopped after a few seconds. Each of its batches reads past all rows that
  are filled already, so that its batches get slower in proportion; the time of the batches it did not get to is taken
  from the straight line through those it did. Once per run it goes to its end on a tenth of the table, and what the
  same part of its batches would have foretold is compared with the time it took;
- *pgroll's algorithm*, as its source has it (github.com/xataio/pgroll, ``pkg/backfill``): a cursor over the key, 1000
  rows that are still marked, ``SET id = id`` on them, and a trigger in plpgsql that computes the column and takes the
  mark away; no pause between batches, which is its default;
- *pgroll without waiting*: the same with ``synchronous_commit = off``, which pgroll does not set: what is left of the
  difference when its commits do not wait for the disk. It takes part in one round only.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bench import Bench
from benchmarks.filling import EXPRESSION, Filling, Run, prepared
from benchmarks.measure import Figure, Goal, Result, Rounds, noise, percentile, ratio, speed, take_turns
from schema_change.core.backfill.engine import BackfillSettings, run_backfill
from schema_change.core.journal.journal import Journal

KEYS = ("B1", "B2")

_SHARDS = 2
_LOOP_S = 4.0
_LOOP_ROWS = 1000
_PLAIN = f"UPDATE public.orders SET gross = {EXPRESSION}"
_LOOP = f"""
UPDATE orders SET gross = {EXPRESSION}
WHERE id IN (SELECT id FROM orders WHERE gross IS NULL ORDER BY id LIMIT {_LOOP_ROWS})
"""
_TARGET_S = BackfillSettings().target_ms / 1000
_NOTES = [
    f"The loop was stopped after {_LOOP_S:g} s, and its seconds to the end extrapolated; see the module.",
    "pgroll and the loop wait for the disk at the commit of each batch, the plain UPDATE at its end.",
    "Our batches do not wait, the end of the step does, within the time measured.",
    "A crash of the server takes back our last batches with the checkpoint that tells of them; they are filled again.",
    "Our batches bypass the trigger for rows written meanwhile, but PostgreSQL locks each row for it.",
    "No list of filled rows is kept: the undo of add_column drops the column.",
    "Autovacuum is off on the table, for everybody.",
]
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


def run(bench: Bench) -> list[Result]:
    """Measure each contender once per round, and the loop to its end once."""
    with prepared(bench, bench.rows) as filling:
        seen = _Seen(filling)
        rounds = take_turns(
            {
                "plain UPDATE": seen.contender("plain UPDATE", filling.add_column, lambda: _plain(filling)),
                "ours": seen.contender("ours", seen.plan, seen.fill),
                "two shards": seen.contender("two shards", seen.plan, seen.fill_in_shards),
                "plain again": seen.contender("plain again", filling.add_column, lambda: _plain(filling)),
                "two UPDATEs": seen.contender("two UPDATEs", filling.add_column, lambda: _plain_in_two(filling)),
                "pgroll": seen.contender("pgroll", lambda: _mark(filling), lambda: _pgroll(filling)),
                "pgroll without waiting": seen.contender(
                    "pgroll without waiting", lambda: _mark(filling, "off"), lambda: _pgroll(filling)
                ),
                "the loop": seen.contender("the loop", filling.add_column, seen.loop, to_the_end=False),
            },
            bench.rounds,
            only={"pgroll without waiting": 1, "two UPDATEs": 3},
            between=filling.copy,
            say=bench.say,
        )
    truth = _foretold(bench, statistics.median(seen.loop_part))
    raw = {f"{name} (s)": values for name, values in rounds.items()}
    return [
        Result(
            "B1",
            "Fill a new column, nobody else at work",
            _figures_of_one(rounds, seen, truth),
            raw,
            bench.setting(**filling.sizes, target_s=_TARGET_S),
            _NOTES,
        ),
        Result(
            "B2",
            "Fill a new column with two shards, nobody else at work",
            _figures_of_two(rounds, seen),
            raw,
            bench.setting(**filling.sizes, shards=_SHARDS),
            [*_NOTES, "The goal needs two free cores: one for each shard."],
        ),
    ]


@dataclass
class _Seen:
    """What is measured besides seconds, one value per round: WAL and growth in bytes, seconds of batches."""

    filling: Filling
    wal: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    growth: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    p99: list[float] = field(default_factory=list)
    larger: list[float] = field(default_factory=list)
    loop_rate: list[float] = field(default_factory=list)
    loop_part: list[float] = field(default_factory=list)
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

    def fill_in_shards(self) -> None:
        """Fill with two sessions of our own."""
        assert self.run is not None
        _in_shards(self.filling, self.run)
        shard = "SELECT count(*), max(rows_done) FROM schema_change.backfill WHERE run_id = %s"
        row = self.filling.session.execute(shard, [self.run.run_id]).fetchone()
        assert row is not None
        assert row[0] == _SHARDS, f"the table was cut into {row[0]} shards: give it more rows"
        self.larger.append(_SHARDS * row[1] / self.filling.rows)

    def loop(self) -> float:
        """Run the loop for some seconds; return the seconds it would take to the end."""
        seconds = _loop(self.filling, _LOOP_S)
        batches = -(-self.filling.rows // _LOOP_ROWS)
        self.loop_rate.append(len(seconds) * _LOOP_ROWS / sum(seconds))
        self.loop_part.append(len(seconds) / batches)
        return _continued(seconds, batches)

    def _position(self) -> float:
        return float(self.filling.one("SELECT pg_current_wal_insert_lsn() - '0/0'"))

    def _size(self) -> float:
        return float(self.filling.one("SELECT pg_total_relation_size('orders')"))


def _loop(filling: Filling, longest_s: float) -> list[float]:
    """Run the loop until its end, or until this time is over; return the seconds of each batch."""
    seconds: list[float] = []
    while sum(seconds) < longest_s:
        started = time.perf_counter()
        if not filling.session.execute(_LOOP.encode()).rowcount:
            break
        seconds.append(time.perf_counter() - started)
    return seconds


def _continued(begun: Sequence[float], batches: int) -> float:
    """Return the seconds of all batches, those that are missing on the straight line through those that are there.

    A line that falls is noise, as a batch never has less to read than the one before: then their mean is taken.
    """
    missing = range(len(begun), batches)
    if not missing:
        return sum(begun)
    slope, start = statistics.linear_regression(range(len(begun)), begun)
    if slope < 0:
        slope, start = 0, statistics.mean(begun)
    return sum(begun) + sum(start + slope * number for number in missing)


def _foretold(bench: Bench, part: float) -> Figure:
    """Run the loop to its end on a tenth of the table; compare what this part of its batches foretells with that."""
    with prepared(bench, bench.rows // 10) as filling:
        filling.add_column()
        seconds = _loop(filling, math.inf)
        filling.result()
    begun = seconds[: max(2, round(part * len(seconds)))]
    return Figure(
        "extrapolation of the loop against the truth, a tenth of the rows",
        (_continued(begun, len(seconds)) / sum(seconds),),
    )


def _plain(filling: Filling) -> None:
    filling.session.execute(_PLAIN.encode())


def _plain_in_two(filling: Filling) -> None:
    half = filling.rows // 2
    with (
        filling.target.connect("one") as one,
        filling.target.connect("two") as two,
        ThreadPoolExecutor(2) as pool,
    ):
        lower = pool.submit(one.execute, f"{_PLAIN} WHERE id <= {half}".encode())
        upper = pool.submit(two.execute, f"{_PLAIN} WHERE id > {half}".encode())
        lower.result()
        upper.result()


def _in_shards(filling: Filling, run: Run) -> None:
    with ThreadPoolExecutor(_SHARDS) as pool:
        rows = {future.result() for future in [pool.submit(_shard, filling, run, n) for n in range(_SHARDS)]}
    Journal(filling.session, run.run_id).set_step(run.seq, "done", rows=max(rows))


def _shard(filling: Filling, run: Run, shard: int) -> int:
    assert run.step.backfill is not None
    with filling.target.connect("work") as work, filling.target.connect("side") as side:
        return run_backfill(
            work,
            side,
            run_id=run.run_id,
            seq=run.seq,
            backfill=run.step.backfill,
            settings=BackfillSettings(shards=_SHARDS, shard=shard),
        )


def _mark(filling: Filling, synchronous_commit: str = "on") -> None:
    filling.session.execute(f"SET synchronous_commit = {synchronous_commit}".encode())
    filling.add_column()
    filling.session.execute("ALTER TABLE orders ADD COLUMN needs_backfill boolean DEFAULT true")
    filling.session.execute(_PGROLL_TRIGGER.encode())


def _pgroll(filling: Filling) -> None:
    after = 0
    while row := filling.session.execute(_PGROLL.encode(), [after]).fetchone():
        (after,) = row


def _figures_of_one(rounds: Rounds, seen: _Seen, truth: Figure) -> list[Figure]:
    rate = [seen.filling.rows / seconds for seconds in rounds["ours"]]
    return [
        Figure("speed against the plain UPDATE", speed(rounds, "ours", "plain UPDATE"), Goal(0.95, at_least=True)),
        Figure(
            "speed against pgroll's algorithm", speed(rounds, "ours", "pgroll"), Goal(1.4, at_least=True), peer=True
        ),
        Figure(
            "speed against the runbooks' loop", speed(rounds, "ours", "the loop"), Goal(15, at_least=True), peer=True
        ),
        Figure("p99 of a batch against its target", tuple(s / _TARGET_S for s in seen.p99), Goal(2)),
        noise(rounds, "plain UPDATE", "plain again"),
        _faster("pgroll's without waiting for the disk", speed(rounds, "ours", "pgroll without waiting")),
        _faster("the loop while it ran", tuple(a / b for a, b in zip(rate, seen.loop_rate, strict=True))),
        truth,
        Figure("WAL written against the plain UPDATE", ratio(seen.wal, "ours", "plain UPDATE")),
        Figure("growth of table and indexes against the plain UPDATE", ratio(seen.growth, "ours", "plain UPDATE")),
    ]


def _figures_of_two(rounds: Rounds, seen: _Seen) -> list[Figure]:
    return [
        Figure("speed against the plain UPDATE", speed(rounds, "two shards", "plain UPDATE"), Goal(1.7, at_least=True)),
        _faster("two plain UPDATEs side by side", speed(rounds, "two shards", "two UPDATEs")),
        Figure("two plain UPDATEs side by side against one", speed(rounds, "two UPDATEs", "plain UPDATE")),
        _faster("pgroll's algorithm", speed(rounds, "two shards", "pgroll")),
        _faster("the runbooks' loop", speed(rounds, "two shards", "the loop")),
        noise(rounds, "plain UPDATE", "plain again"),
        Figure("rows of the larger shard against half of all", tuple(seen.larger)),
    ]


def _faster(peer: str, values: tuple[float, ...]) -> Figure:
    return Figure(f"speed against {peer}", values, peer=True, more_is_better=True)
