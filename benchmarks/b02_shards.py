"""B2: fill a new column of a table with two shards, while nobody else is at work.

The table, the expression and the check of what came out are those of B1: each contender starts from the same fresh copy
and ends with the same rows. *Two shards* are two sessions of the engine, as two mapped tasks or the threads of
``schema-change apply --shards 2`` are, from the cut of the table to *step done*, our trigger for new rows on the table.
The limit is one plain ``UPDATE``, run twice in each round; PostgreSQL does not run it in parallel.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bench import Bench
from benchmarks.filling import EXPRESSION, Filling, Run, prepared
from benchmarks.measure import Figure, Goal, Result, noise, speed, stopwatch, take_turns
from schema_change.core.backfill.engine import BackfillSettings, run_backfill
from schema_change.core.journal.journal import Journal

_SHARDS = 2
_PLAIN = f"UPDATE orders SET gross = {EXPRESSION}"


def run(bench: Bench) -> Result:
    """Measure both once per round, and the plain UPDATE a second time."""
    with prepared(bench.database("shards"), bench.rows) as filling:
        seen = _Seen(filling)
        rounds = take_turns(
            {"plain UPDATE": seen.plain, "two shards": seen.shards, "plain again": seen.plain},
            bench.rounds,
            between=filling.copy,
            say=bench.say,
        )
        return Result(
            "B2",
            "Fill a new column with two shards",
            [
                Figure(
                    "speed against the plain UPDATE",
                    speed(rounds, "two shards", "plain UPDATE"),
                    Goal(1.7, at_least=True),
                ),
                noise(rounds, "plain UPDATE", "plain again"),
                Figure("rows of the larger shard against half of all", tuple(seen.larger)),
            ],
            {f"{name} (s)": values for name, values in rounds.items()},
            bench.setting(rows=filling.rows, bytes=filling.one("SELECT pg_relation_size('template')"), shards=_SHARDS),
            ["The goal needs two free cores: one for each shard."],
        )


@dataclass
class _Seen:
    """What came out of the contenders; all of them must make the same of the table."""

    filling: Filling
    results: set[tuple[Any, ...]] = field(default_factory=set)
    larger: list[float] = field(default_factory=list)

    def plain(self) -> float:
        """Fill with one statement."""
        self.filling.add_column()
        return self._timed(lambda: self.filling.session.execute(_PLAIN.encode()))

    def shards(self) -> float:
        """Fill with two sessions."""
        run = self.filling.planned()
        seconds = self._timed(lambda: _fill(self.filling, run))
        shard = "SELECT count(*), max(rows_done) FROM schema_change.backfill WHERE run_id = %s"
        row = self.filling.session.execute(shard, [run.run_id]).fetchone()
        assert row is not None
        assert row[0] == _SHARDS, f"the table was cut into {row[0]} shards: give it more rows"
        self.larger.append(_SHARDS * row[1] / self.filling.rows)
        return seconds

    def _timed(self, work: Callable[[], object]) -> float:
        with stopwatch() as seconds:
            work()
        self.results.add(self.filling.result())
        assert len(self.results) == 1, "the contenders have not made the same of the table"
        return seconds()


def _fill(filling: Filling, run: Run) -> None:
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
