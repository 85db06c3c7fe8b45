"""B6: kill a fill at half its rows and resume it, against starting over.

The fill is B1's, on a quarter of its rows. It runs in a process of its own, which is killed (SIGKILL) as soon as its
checkpoint says that half of the rows are done; then another process goes on. The seconds of that one are compared with
those of a process that fills everything; each counts its own seconds, from connecting to the journal's *done*.
A batch of so small a table is a tenth of it, so that it is never killed at half exactly, but some rows later: the value
is corrected to half of the rows, *ratio × 0.5 / rows left*, and the ratio as it was is shown beside it.

Nothing may be done twice: the rows of all committed batches, which the checkpoint adds up in their transactions, must
be exactly those of the table, and every row must be filled. The server's own count of updates may be higher by the
batch that was under way, which was rolled back.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe

from benchmarks.bench import Bench
from benchmarks.filling import Filling, Run, prepared
from benchmarks.measure import Figure, Goal, Result, noise, ratio, take_turns
from schema_change.core.backfill.engine import BackfillSettings
from schema_change.core.database import Target

_DONE = "SELECT coalesce(sum(rows_done), 0) FROM schema_change.backfill WHERE run_id = '{run.run_id}'"
_OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('schema_change:work', 'schema_change:side')"
_UPDATES = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'orders'"
_NEW = multiprocessing.get_context("spawn")


def run(bench: Bench) -> Result:
    """Measure a resumed and two full fills per round."""
    left: list[float] = []
    with prepared(bench, bench.rows // 4) as filling:
        rounds = take_turns(
            {
                "starting over": lambda: _full(filling),
                "resume": lambda: _resumed(filling, left.append),
                "starting over again": lambda: _full(filling),
            },
            bench.rounds,
            between=filling.copy,
            say=bench.say,
        )
    found = ratio(rounds, "resume", "starting over")
    return Result(
        "B6",
        "Resume after SIGKILL at 50 %",
        [
            Figure(
                "seconds of the resumed fill against starting over, corrected to half of the rows",
                tuple(value * 0.5 / part for value, part in zip(found, left, strict=True)),
                Goal(0.55),
            ),
            Figure("seconds of the resumed fill against starting over, as it was", found),
            noise(rounds, "starting over", "starting over again"),
            Figure("rows left when it was resumed, against all", tuple(left)),
        ],
        {f"{name} (s)": values for name, values in rounds.items()},
        bench.setting(**filling.sizes),
        ["After every turn each row was filled, by batches that had committed exactly as many rows as there are."],
    )


def _full(filling: Filling) -> float:
    planned = filling.planned()
    seconds = _Process(filling.target, planned).seconds()
    _check(filling, planned)
    return seconds


def _resumed(filling: Filling, say_left: Callable[[float], None]) -> float:
    planned = filling.planned()
    done = _DONE.format(run=planned)
    process = _Process(filling.target, planned)
    while filling.one(done) < filling.rows / 2:
        assert process.alive, "the fill ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    _wait_until_gone(filling)
    say_left(1 - int(filling.one(done)) / filling.rows)
    seconds = _Process(filling.target, planned).seconds()
    _check(filling, planned)
    return seconds


class _Process:
    """A process that fills; it tells how many seconds it took."""

    def __init__(self, target: Target, run: Run) -> None:
        self._told, telling = _NEW.Pipe(duplex=False)
        # Daemonic, so that it ends with us whatever happens.
        self._process = _NEW.Process(target=_fill, args=(target, run, telling), daemon=True)
        self._process.start()
        telling.close()

    @property
    def alive(self) -> bool:
        """Tell whether it still runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """Kill it at once."""
        self._process.kill()
        self._process.join()

    def seconds(self) -> float:
        """Wait for its end, and return its seconds."""
        seconds: float = self._told.recv()
        self._process.join()
        return seconds


def _fill(target: Target, run: Run, telling: Pipe) -> None:
    started = time.perf_counter()
    run.fill(target)
    telling.send(time.perf_counter() - started)


def _wait_until_gone(filling: Filling) -> None:
    """Wait until the server has noticed that the process is gone: its last batch is over, one way or the other."""
    while filling.one(_OURS):
        time.sleep(0.005)


def _check(filling: Filling, run: Run) -> None:
    filling.result()
    committed = filling.one(_DONE.format(run=run))
    assert committed == filling.rows, f"batches have filled {committed} rows of a table of {filling.rows}"
    _wait_until_gone(filling)
    more = filling.one(_UPDATES) - filling.rows
    # Of every other row of a range there may be one more than half of it.
    assert 0 <= more <= BackfillSettings().max_rows + 1, f"the server counts {more} more updates than rows"
