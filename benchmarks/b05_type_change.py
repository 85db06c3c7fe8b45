"""B5: change the type of a column from integer to bigint while an application reads and writes the table.

Each contender gets a copy of the table, with an index on the column, and the load of ``benchmarks.load`` at half of
what the machine can do, which works alone first:

- *ours*: ``change_type`` with the defaults of a run: a second column kept in step, filled, indexed and swapped. The
  time is that of migrate, backfill and cutover, after which the column has its new type; validate and contract, which
  compare every row, drop the old column and vacuum the table, are shown apart;
- *the limit* of any online way: one ``UPDATE`` of a new column and the index on it, built concurrently;
- *direct*: ``ALTER TABLE … ALTER COLUMN … TYPE bigint``, during which nobody reads or writes the table.

The first two are compared without the load as well: ours gives way to the application and the UPDATE does not, so the
difference between the two figures is what being gentle costs.

Afterwards every write of the application must be in the table, and every value of the column must be as before.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from benchmarks import load
from benchmarks.bench import Bench
from benchmarks.changes import changes, connect, go, planned, table
from benchmarks.measure import Figure, Goal, Result, noise, ratio, stopwatch
from schema_change.core.database import Target
from schema_change.core.stages.request import Request
from tests import bench as engine

_QUIET_S = 2.0
#: Part of the rows of large tables: six turns in each round, of which two are slow because they are gentle.
_PART = 4
_CHANGE = {"change_type": {"table": "app", "column": "amount", "type": "bigint", "strategy": "expand"}}
_INDEX = "CREATE INDEX by_amount ON app (amount)"
_WRONG = """
SELECT count(*) FROM app
WHERE
    {column} IS DISTINCT FROM CASE WHEN id > 1000000000 THEN 7 ELSE id % 100000 END
    OR pg_typeof({column}) <> 'bigint'::regtype
"""


@dataclass(frozen=True)
class Turn:
    """How long a contender took, and what the load saw; ``after_s`` is what ours did afterwards."""

    seconds: float
    after_s: float = 0.0
    quiet: load.Window | None = None
    beside: load.Window | None = None


#: Changes the type, and returns the seconds of what it does afterwards and the column that has the new type.
Contender = Callable[[engine.Run], tuple[float, str]]


def run(bench: Bench) -> Result:
    """Measure each contender once per round, with the load and without."""
    rows = bench.rows // _PART
    target = bench.database("prepared")
    table(target, rows, _INDEX)
    request = planned(changes(bench, target), "001_change", _CHANGE).request
    rate = load.capacity(bench, bench.database("calibrated", template="prepared"), rows) / 2
    bench.say(f"the load: {rate:.0f} transactions a second, half of what {load.CLIENTS} clients can")
    turns: dict[str, list[Turn]] = defaultdict(list)
    names = list(_CONTENDERS)
    for number in range(bench.rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            turn = _turn(bench, rows, request, *_CONTENDERS[name], rate=rate)
            turns[name].append(turn)
            stall = f", longest stall {turn.beside.longest_stall * 1e3:.0f} ms" if turn.beside else ""
            bench.say(f"round {number + 1}/{bench.rounds}: {name} {turn.seconds:.1f} s{stall}")
    return _result(bench, rows, rate, turns)


def _turn(bench: Bench, rows: int, request: Request, contender: Contender, loaded: bool, *, rate: float) -> Turn:
    target = bench.database("turn", template="prepared")
    bench.checkpoint()
    run = engine.Run(replace(request, target=target))
    if not loaded:
        with stopwatch() as seconds:
            after, column = contender(run)
        _check(target, column)
        return Turn(seconds() - after, after)
    with load.running(bench, target, rows, rate) as app:
        time.sleep(1)
        quiet = time.time()
        time.sleep(_QUIET_S)
        began = time.time()
        after, column = contender(run)
        ended = time.time()
    _check(target, column)
    with connect(target) as session:
        app.check(session, rows)
    return Turn(ended - began - after, after, app.between(quiet, began), app.between(began, ended - after))


def _check(target: Target, column: str) -> None:
    with connect(target) as session:
        row = session.execute(_WRONG.format(column=column).encode()).fetchone()
        assert row == (0,), f"{row} values of {column} are wrong"


def _ours(run: engine.Run) -> tuple[float, str]:
    go(run, "migrate", "backfill", "cutover")
    with stopwatch() as seconds:
        go(run, "validate", "contract")
    return seconds(), "amount"


def _limit(run: engine.Run) -> tuple[float, str]:
    with connect(run.request.target) as session:
        session.execute("ALTER TABLE app ADD COLUMN larger bigint")
        session.execute("ALTER TABLE app ALTER COLUMN larger SET DEFAULT 7")  # what the load inserts
        session.execute("UPDATE app SET larger = amount")
        session.execute("CREATE INDEX CONCURRENTLY ON app (larger)")
    return 0.0, "larger"


def _direct(run: engine.Run) -> tuple[float, str]:
    with connect(run.request.target) as session:
        session.execute("ALTER TABLE app ALTER COLUMN amount TYPE bigint")
    return 0.0, "amount"


#: What it does, and whether the load is at work meanwhile.
_CONTENDERS: Mapping[str, tuple[Contender, bool]] = {
    "ours": (_ours, True),
    "limit": (_limit, True),
    "direct": (_direct, True),
    "ours, idle": (_ours, False),
    "limit, idle": (_limit, False),
    "limit again, idle": (_limit, False),
}


def _result(bench: Bench, rows: int, rate: float, turns: dict[str, list[Turn]]) -> Result:
    seconds = {name: [t.seconds for t in each] for name, each in turns.items()}
    windows = {
        name: [(t.quiet, t.beside) for t in each if t.quiet and t.beside]
        for name, each in turns.items()
        if each[0].quiet
    }
    figures = [
        Figure("ours against the limit, beside the load", ratio(seconds, "ours", "limit"), Goal(1.3)),
        Figure("ours against the limit, idle", ratio(seconds, "ours, idle", "limit, idle"), Goal(1.3)),
        noise(seconds, "limit, idle", "limit again, idle"),
        Figure("longest stall beside ours", (max(b.longest_stall * 1e3 for _, b in windows["ours"]),), Goal(100), "ms"),
    ]
    for name, each in windows.items():
        figures += [
            Figure(f"longest stall beside {name}", tuple(b.longest_stall * 1e3 for _, b in each), unit="ms"),
            Figure(f"p99 of the load beside {name}", tuple(b.p99 / q.p99 for q, b in each)),
            Figure(f"throughput of the load beside {name}", tuple(b.rate / q.rate for q, b in each)),
        ]
    figures.append(Figure("direct against the limit", ratio(seconds, "direct", "limit")))
    after = {"validate and contract of ours": [t.after_s for t in turns["ours"]]}
    return Result(
        "B5",
        "Change a type while the application works",
        figures,
        {**seconds, **after},
        bench.setting(rows=rows, clients=load.CLIENTS, rate=round(rate)),
        ["No write of the application was lost or overwritten: every row was compared after every turn."],
    )
