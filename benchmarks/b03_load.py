"""B3: fill a new column while an application reads and writes the table, and see what the application notices.

The load of ``benchmarks.load`` runs at half of what the machine can do. In each turn it works alone first (the quiet
value, of the same run on the same copy of the table), then beside one contender, for a window of a few seconds; the
last turn of ours goes on until the column is filled. All contenders start from the same column and the same trigger,
which our ``migrate`` has made while the load ran, so that rows written meanwhile are right:

- *ours*: the stage ``backfill`` with the defaults of a run;
- *plain UPDATE*: one statement for the whole table, the limit of speed; it is cancelled when its window ends;
- *the runbooks' loop*: ``WHERE id IN (SELECT id … WHERE doubled IS NULL ORDER BY id LIMIT 1000)``, a commit each.

After each turn every acknowledged write of the application must be in the table, and every filled row must hold what
its other columns say; a lost or overwritten write fails the benchmark.
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
from benchmarks.changes import changes, connect, go, planned, table
from benchmarks.measure import Figure, Goal, Result
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError
from schema_change.core.stages.request import Request
from tests import bench as engine

_WARM_S, _QUIET_S, _WORK_S = 1.0, 3.0, 5.0
_CHANGE = {"add_column": {"table": "app", "column": {"name": "doubled", "type": "bigint"}, "fill": "app.value * 2"}}
_LOOP = b"""
UPDATE app SET doubled = value * 2 WHERE id IN (SELECT id FROM app WHERE doubled IS NULL ORDER BY id LIMIT 1000)
"""
_WRONG = b"SELECT count(*) FROM app WHERE doubled <> value * 2"


@dataclass(frozen=True)
class Turn:
    """What the load saw in one turn, first alone, then beside the contender, and the rows filled per second."""

    halves: tuple[load.Window, load.Window]
    quiet: load.Window
    beside: load.Window
    speed: float


#: Fills what it can until it is asked to stop: ``work(run, stop)``.
Filling = Callable[[engine.Run, threading.Event], None]


def run(bench: Bench) -> Result:
    """Measure each contender once per round."""
    target = bench.database("prepared")
    table(target, bench.rows)
    request = planned(changes(bench, target), "001_change", _CHANGE).request
    rate = load.capacity(bench, bench.database("calibrated", template="prepared"), bench.rows) / 2
    bench.say(f"the load: {rate:.0f} transactions a second, half of what {load.CLIENTS} clients can")
    contenders: dict[str, Filling] = {"ours": _ours, "plain UPDATE": _plain, "the loop": _loop}
    turns: dict[str, list[Turn]] = defaultdict(list)
    names = list(contenders)
    for number in range(bench.rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            last = number == bench.rounds - 1 and name == "ours"
            turn = _turn(bench, request, contenders[name], rate, to_the_end=last)
            turns[name].append(turn)
            bench.say(
                f"round {number + 1}/{bench.rounds}: {name} p99 {turn.beside.p99 * 1e3:.1f} ms, quiet"
                f" {turn.quiet.p99 * 1e3:.1f} ms, longest stall {turn.beside.longest_stall * 1e3:.0f} ms,"
                f" {turn.speed:.0f} rows/s"
            )
    return _result(bench, rate, turns)


def _turn(bench: Bench, request: Request, filling: Filling, rate: float, *, to_the_end: bool) -> Turn:
    target = bench.database("turn", template="prepared")
    bench.checkpoint()
    run = engine.Run(replace(request, target=target))
    with load.running(bench, target, bench.rows, rate) as app:
        time.sleep(_WARM_S)
        quiet = time.time()
        time.sleep(_QUIET_S)
        began = time.time()
        go(run, "migrate")
        stop = threading.Event()
        timer = threading.Timer(600 if to_the_end else _WORK_S, stop.set)
        timer.start()
        filling(run, stop)
        ended = time.time()
        timer.cancel()
    with connect(target) as session:
        app.check(session, bench.rows)
        assert _one(session, _WRONG) == 0, "rows were filled with something else than their other columns say"
        filled = _one(session, b"SELECT count(doubled) FROM app WHERE id < 1000000000")
        assert not to_the_end or filled == bench.rows, f"{filled} of {bench.rows} rows were filled"
    middle = quiet + _QUIET_S / 2
    return Turn(
        (app.between(quiet, middle), app.between(middle, began)),
        app.between(quiet, began),
        app.between(began, ended),
        filled / (ended - began),
    )


def _ours(run: engine.Run, stop: threading.Event) -> None:
    """Run the stage; cancel it when the time is over, as ``schema-change cancel`` does."""
    thread = threading.Thread(target=run.try_stage, args=["backfill"])
    thread.start()
    while thread.is_alive() and not stop.is_set():
        thread.join(0.05)
    if thread.is_alive():
        with run.request.target.connect("cancel") as session:
            session.execute(
                "INSERT INTO schema_change.control (run_id, cancelled, changed_by) VALUES (%s, true, 'bench')",
                [run.request.run_id],
            )
        thread.join()
    assert run.error is None or isinstance(run.error, BackfillError), run.error


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


def _one(session: Connection, query: bytes) -> int:
    row = session.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _result(bench: Bench, rate: float, turns: dict[str, list[Turn]]) -> Result:
    def times(name: str) -> tuple[float, ...]:
        return tuple(t.beside.p99 / t.quiet.p99 for t in turns[name])

    figures = [Figure("p99 of the load beside ours, against its quiet value", times("ours"), Goal(1.5))]
    figures += [Figure(f"p99 of the load beside {name}", times(name)) for name in turns if name != "ours"]
    figures.append(
        Figure(
            "A/A: the load's p99 against itself, both halves of its quiet time",
            tuple(t.halves[1].p99 / t.halves[0].p99 for each in turns.values() for t in each),
        )
    )
    for name, each in turns.items():
        figures += [
            Figure(f"throughput of the load beside {name}", tuple(t.beside.rate / t.quiet.rate for t in each)),
            Figure(f"longest stall beside {name}", tuple(t.beside.longest_stall * 1e3 for t in each), unit="ms"),
        ]
        if name != "plain UPDATE":
            figures.append(Figure(f"rows filled by {name}", tuple(t.speed for t in each), unit="/s"))
    raw = {"quiet p99 (s)": [t.quiet.p99 for each in turns.values() for t in each]}
    raw |= {f"p99 beside {name} (s)": [t.beside.p99 for t in each] for name, each in turns.items()}
    raw |= {f"p99.9 beside {name} (s)": [t.beside.latency(0.999) for t in each] for name, each in turns.items()}
    return Result(
        "B3",
        "Fill a new column while the application works",
        figures,
        raw,
        bench.setting(rows=bench.rows, clients=load.CLIENTS, rate=round(rate), window_s=_WORK_S),
        [
            "No write of the application was lost or overwritten: every row was compared after every turn.",
            "The load's rate is half of the closed-loop throughput of its clients, measured at the start.",
        ],
    )
