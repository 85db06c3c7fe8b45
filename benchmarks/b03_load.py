"""B3: fill a new column while an application reads and writes the table, and see what the application notices.

The load of ``benchmarks.load`` runs at half of what the machine can do. In each turn it works alone, then beside one
contender, then alone again, for windows of the same length; what it saw beside the contender is compared with the mean
of both quiet windows of the same turn, on the same copy of the table. All contenders start from the same column and the
same trigger, which our ``migrate`` has made while the load ran, before the window, so that rows written meanwhile are
right:

- *ours*: the stage ``backfill`` with the defaults of a run, cancelled when the window ends; the last turn of ours goes
  on until the column is filled, for the comparison of all rows, and its window is cut like the others;
- *plain UPDATE*: one statement for the whole table, the limit of speed; it is cancelled when its window ends;
- *the runbooks' loop*: ``WHERE id IN (SELECT id … WHERE doubled IS NULL ORDER BY id LIMIT 1000)``, a commit each.

After each turn every acknowledged write of the application must be in the table, every row that it wrote since
``migrate`` must be filled, and every filled row must hold what its other columns say; a lost or overwritten write fails
the benchmark.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import psycopg

from benchmarks import load
from benchmarks.bench import Bench
from benchmarks.changes import capacity, changes, connect, copied, go, planned, table
from benchmarks.measure import Figure, Goal, Result, speed
from schema_change.core.backfill.control import cancel
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError
from schema_change.core.stages.request import Request
from tests import bench as engine

_WARM_S, _WINDOW_S, _TO_THE_END_S = 1.0, 2.0, 90.0
#: Rounds of the others, which have no goal.
_OTHERS_ROUNDS = 3
#: Part of the rows of large tables, so that the last turn comes to its end while others wait for the benchmark.
_PART = 4
#: Connecting, the first looks and plans; of a fill that takes minutes they would be nothing, of this window a third.
_BEGIN_S = 0.5
_CHANGE = {"table": "app", "column": {"name": "doubled", "type": "bigint"}, "fill": "app.value * 2"}
_LOOP = b"""
UPDATE app SET doubled = value * 2 WHERE id IN (SELECT id FROM app WHERE doubled IS NULL ORDER BY id LIMIT 1000)
"""
#: Rows filled with something else, or not filled though they were written since then, or should be all.
_WRONG = b"""
SELECT count(*) FROM app AS a LEFT JOIN written AS w ON a.id = w.id
WHERE a.doubled <> a.value * 2 OR (a.doubled IS NULL AND (w.began >= %(since)s OR %(all)s))
"""
#: Rows filled by the contender: the trigger fills those that the load writes.
_FILLED = b"""
SELECT count(a.doubled) FROM app AS a LEFT JOIN written AS w ON a.id = w.id
WHERE a.id <= %(rows)s AND (w.began IS NULL OR w.began < %(since)s)
"""


@dataclass(frozen=True)
class Turn:
    """What the load saw in one turn, alone before and after, and beside the contender.

    ``filled`` are the rows that the contender filled and not the trigger, ``part`` is that of the table that is filled.
    """

    before: load.Window
    beginning: load.Window
    beside: load.Window
    after: load.Window
    longest_stall: float
    seconds: float
    filled: int
    part: float

    def against_quiet(self, of: Callable[[load.Window], float]) -> float:
        """Return how many times its quiet value, the mean of both windows, something is beside the contender."""
        return of(self.beside) / ((of(self.before) + of(self.after)) / 2)


#: Fills what it can until it is asked to stop: ``work(run, stop)``.
Filling = Callable[[engine.Run, threading.Event], None]


def run(bench: Bench) -> Result:
    """Measure each contender once per round."""
    rows = bench.rows // _PART
    target = bench.database("prepared")
    table(target, rows)
    request = planned(changes(bench, target), "001_change", "add_column", _CHANGE).request
    rate = capacity(bench, "prepared", rows) / 2
    bench.say(f"the load: {rate:.0f} transactions a second, half of what {load.CLIENTS} clients can")
    contenders: dict[str, Filling] = {"ours": _ours, "plain UPDATE": _plain, "the loop": _loop}
    turns: dict[str, list[Turn]] = defaultdict(list)
    names = list(contenders)
    for number in range(bench.latency_rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            if number >= _OTHERS_ROUNDS and name != "ours":
                continue
            last = number == bench.latency_rounds - 1 and name == "ours"
            turn = _turn(bench, rows, request, contenders[name], rate, to_the_end=last)
            assert turn.filled or name == "plain UPDATE", f"{name} has filled nothing"
            turns[name].append(turn)
            bench.say(
                f"round {number + 1}/{bench.latency_rounds}: {name} p99 {turn.beside.p99 * 1e3:.1f} ms, quiet"
                f" {turn.before.p99 * 1e3:.1f} and {turn.after.p99 * 1e3:.1f} ms, longest stall"
                f" {turn.longest_stall * 1e3:.0f} ms, {turn.filled} rows in {turn.seconds:.1f} s"
            )
    return _result(bench, rows, rate, turns)


def _turn(bench: Bench, rows: int, request: Request, filling: Filling, rate: float, *, to_the_end: bool) -> Turn:
    target = copied(bench, "turn", "prepared")
    run = engine.Run(replace(request, target=target))
    with load.running(bench, target, rows, rate) as app:
        time.sleep(_WARM_S)
        before = time.time()
        time.sleep(_WINDOW_S)
        go(run, "migrate")
        began = time.time()
        stop = threading.Event()
        timer = threading.Timer(_TO_THE_END_S if to_the_end else _BEGIN_S + _WINDOW_S, stop.set)
        timer.start()
        filling(run, stop)
        ended = time.time()
        timer.cancel()
        app.settle()
        after = time.time()
        time.sleep(_WINDOW_S)
    with connect(target) as session:
        app.check(session, rows)
        filled = _one(session, _FILLED, rows=rows, since=began)
        held = _one(session, b"SELECT count(doubled) FROM app WHERE id <= %(rows)s", rows=rows)
        complete = to_the_end and not stop.is_set()
        wrong = _one(session, _WRONG, since=began, all=complete)
        assert wrong == 0, f"{wrong} rows are not filled, or with something else than their other columns say"
    return Turn(
        app.between(before, before + _WINDOW_S),
        app.between(began, began + _BEGIN_S),
        app.between(began + _BEGIN_S, min(ended, began + _BEGIN_S + _WINDOW_S)),
        app.between(after, after + _WINDOW_S),
        app.between(began, ended).longest_stall,
        ended - began,
        filled,
        held / rows,
    )


def _ours(run: engine.Run, stop: threading.Event) -> None:
    """Run the stage; cancel it when the time is over, as ``schema-change cancel`` does."""
    thread = threading.Thread(target=run.try_stage, args=["backfill"])
    thread.start()
    while thread.is_alive() and not stop.is_set():
        thread.join(0.05)
    if thread.is_alive():
        with run.request.target.connect("cancel") as session:
            cancel(session, run.request.run_id, "bench")
        thread.join()
    assert run.error is None or (stop.is_set() and isinstance(run.error, BackfillError)), run.error


def _plain(run: engine.Run, stop: threading.Event) -> None:
    with connect(run.request.target) as session:

        def cancel() -> None:
            stop.wait()
            session.cancel_safe()

        watch = threading.Thread(target=cancel)
        watch.start()
        try:
            session.execute("UPDATE app SET doubled = value * 2")
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            stop.set()
            watch.join()


def _loop(run: engine.Run, stop: threading.Event) -> None:
    with connect(run.request.target) as session:
        while not stop.is_set() and session.execute(_LOOP).rowcount:
            pass


def _one(session: Connection, query: bytes, **values: object) -> int:
    row = session.execute(query, values).fetchone()
    assert row is not None
    return int(row[0])


def _result(bench: Bench, rows: int, rate: float, turns: dict[str, list[Turn]]) -> Result:
    def times(name: str) -> tuple[float, ...]:
        return tuple(t.against_quiet(lambda window: window.p99) for t in turns[name])

    last = turns["ours"][-1]
    # Of each row, to compare them as seconds are: a turn that fills more takes longer for its checks.
    each_row = {name: [t.seconds / t.filled for t in turns[name][:_OTHERS_ROUNDS]] for name in ("ours", "the loop")}
    figures = [Figure("p99 of the load beside ours, against its quiet value", times("ours"), Goal(1.5))]
    figures += [Figure(f"p99 of the load beside {name}", times(name)) for name in turns if name != "ours"]
    figures += [
        Figure(
            f"p99 of the load in the first {_BEGIN_S:g} s of ours",
            tuple(2 * t.beginning.p99 / (t.before.p99 + t.after.p99) for t in turns["ours"]),
        ),
        Figure(
            "A/A: the load's quiet p99 after each turn against before",
            tuple(t.after.p99 / t.before.p99 for each in turns.values() for t in each),
        ),
        Figure("rows per second against the loop", speed(each_row, "ours", "the loop"), peer=True, more_is_better=True),
        Figure(
            f"part of the table filled in the turn to the end, at most {_TO_THE_END_S:g} s",
            (last.part,),
            more_is_better=True,
        ),
    ]
    for name, each in turns.items():
        throughput = tuple(t.against_quiet(lambda window: window.rate) for t in each)
        figures += [
            Figure(f"throughput of the load beside {name}", throughput, more_is_better=True),
            Figure(f"longest stall beside {name}", tuple(t.longest_stall * 1e3 for t in each), unit="ms"),
        ]
    raw: dict[str, list[float]] = {}
    for name, each in turns.items():
        raw |= {
            f"p99 before {name} (s)": [t.before.p99 for t in each],
            f"p99 beside {name} (s)": [t.beside.p99 for t in each],
            f"p99 after {name} (s)": [t.after.p99 for t in each],
            f"p99 at the beginning of {name} (s)": [t.beginning.p99 for t in each],
            f"p99.9 beside {name} (s)": [t.beside.latency(0.999) for t in each],
            f"rows per second, {name}": [t.filled / t.seconds for t in each],
        }
    return Result(
        "B3",
        "Fill a new column while the application works",
        figures,
        raw,
        bench.setting(
            rows=rows,
            clients=load.CLIENTS,
            rate=round(rate),
            window_s=_WINDOW_S,
            latency_rounds=bench.latency_rounds,
        ),
        [
            "No write of the application was lost or overwritten: every row was compared after every turn.",
            f"The table has {rows:,} rows: what the application notices does not depend on them.",
            "The load's rate is half of the closed-loop throughput of its clients, measured at the start.",
            f"The window begins {_BEGIN_S:g} s after the contender: one stall of its beginning would be the whole p99.",
            "The quiet window after a contender has the new column's trigger, and the dead rows it left behind.",
            f"The last turn of ours took {last.seconds:.1f} s for {last.part:.1%} of {rows:,} rows.",
        ],
    )
