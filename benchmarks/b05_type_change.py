"""B5: change the type of a column from integer to bigint while an application reads and writes the table.

Each contender gets a copy of the table, with an index on the column, and the load of ``benchmarks.load`` at half of
what the machine can do, which works alone first, and again afterwards:

- *ours*: ``change_type`` with the defaults of a run: a second column kept in step, filled, indexed and swapped. The
  time is that of migrate, backfill and cutover, after which the column has its new type; with validate and contract,
  which compare every row, drop the old column and vacuum the table, it is shown as *the whole change*. What the
  application notices counts until the end of these;
- *ours at once*: the same with ``give_way: false``, as in a window in which nobody minds;
- *the limit* of any online way: one ``UPDATE`` of a new column and the index on it, built concurrently;
- *the limit in batches*: the same, idle, by ranges of the key with a commit each, as whoever does not want to lock the
  table's rows for the whole time has to do it. Index entries of rows that are dead by then are looked for and removed
  before a page of an index is split (bottom-up deletion), which one statement cannot do: less growth, more time;
- *direct*: ``ALTER TABLE … ALTER COLUMN … TYPE bigint``, during which nobody reads or writes the table.

Ours and the limit are compared without the load as well: ours gives way to the application and the UPDATE does not, so
the difference between the two figures is what being gentle costs.

Afterwards every write of the application must be in the table, and every value of the column must be as before.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks import load
from benchmarks.bench import Bench
from benchmarks.changes import capacity, changes, connect, copied, go, planned, table
from benchmarks.measure import Figure, Goal, Result, noise, ratio, stopwatch
from schema_change.core.database import Target
from schema_change.core.stages.request import Request
from tests import bench as engine

_QUIET_S = 1.5
#: Parts of the rows, beside the load and idle, and rounds: the turns of ours are slow there because they are gentle.
_PART, _IDLE_PART = 16, 2
_ROUNDS, _IDLE_ROUNDS = 3, 2
_BATCH = 100_000
_CHANGE = {"table": "app", "column": "amount", "type": "bigint", "strategy": "expand"}
_INDEX = "CREATE INDEX by_amount ON app (amount)"
_WRONG = """
SELECT count(*) FROM app
WHERE
    {column} IS DISTINCT FROM CASE WHEN id > 1000000000 THEN 7 ELSE id % 100000 END
    OR pg_typeof({column}) <> 'bigint'::regtype
"""


@dataclass(frozen=True)
class Turn:
    """How long a contender took, with what ours did afterwards and without, and what the load saw."""

    seconds: float
    whole: float
    seen: Seen | None = None


@dataclass(frozen=True)
class Seen:
    """What the load saw before, beside, and after a contender."""

    before: load.Window
    beside: load.Window
    after: load.Window

    def against_quiet(self, of: Callable[[load.Window], float]) -> float:
        """Return how many times its quiet value, the mean of both windows, something is beside the contender."""
        return of(self.beside) / ((of(self.before) + of(self.after)) / 2)


#: Changes the type, and returns the seconds of what it does afterwards and the column that has the new type.
Contender = Callable[[engine.Run], tuple[float, str]]


def run(bench: Bench) -> Result:
    """Measure each contender once per round, with the load and without."""
    rows = bench.rows // _PART
    rounds = min(bench.rounds, _ROUNDS)
    loaded, idle = _prepared(bench, "loaded", rows), _prepared(bench, "idle", bench.rows // _IDLE_PART)
    rate = capacity(bench, "loaded", rows) / 2
    bench.say(f"the load: {rate:.0f} transactions a second, half of what {load.CLIENTS} clients can")
    turns: dict[str, list[Turn]] = defaultdict(list)
    names = list(_CONTENDERS)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            contender, beside_load = _CONTENDERS[name]
            if number >= _IDLE_ROUNDS and not beside_load:
                continue
            turn = _beside(bench, rows, loaded, contender, rate) if beside_load else _alone(bench, idle, contender)
            turns[name].append(turn)
            stall = f", longest stall {turn.seen.beside.longest_stall * 1e3:.0f} ms" if turn.seen else ""
            bench.say(f"round {number + 1}/{rounds}: {name} {turn.seconds:.1f} s, in all {turn.whole:.1f} s{stall}")
    return _result(bench, rows, rate, turns)


def _prepared(bench: Bench, name: str, rows: int) -> Request:
    """Make a table of that size in a database to be copied; return a run of the change that is planned there."""
    target = bench.database(name)
    table(target, rows, _INDEX)
    return planned(changes(bench, target), "001_change", "change_type", _CHANGE).request


def _alone(bench: Bench, request: Request, contender: Contender) -> Turn:
    target = copied(bench, "turn", "idle")
    bench.checkpoint()
    with stopwatch() as seconds:
        afterwards, column = contender(engine.Run(replace(request, target=target)))
    _check(target, column)
    return Turn(seconds() - afterwards, seconds())


def _beside(bench: Bench, rows: int, request: Request, contender: Contender, rate: float) -> Turn:
    target = copied(bench, "turn", "loaded")
    run = engine.Run(replace(request, target=target))
    with load.running(bench, target, rows, rate) as app:
        time.sleep(1)
        before = time.time()
        time.sleep(_QUIET_S)
        began = time.time()
        afterwards, column = contender(run)
        ended = time.time()
        app.settle()
        after = time.time()
        time.sleep(_QUIET_S)
    _check(target, column)
    with connect(target) as session:
        app.check(session, rows)
    seen = Seen(app.between(before, began), app.between(began, ended), app.between(after, after + _QUIET_S))
    return Turn(ended - began - afterwards, ended - began, seen)


def _check(target: Target, column: str) -> None:
    with connect(target) as session:
        row = session.execute(_WRONG.format(column=column).encode()).fetchone()
        assert row == (0,), f"{row} values of {column} are wrong"


def _ours(run: engine.Run) -> tuple[float, str]:
    go(run, "migrate", "backfill", "cutover")
    with stopwatch() as seconds:
        go(run, "validate", "contract")
    return seconds(), "amount"


def _at_once(run: engine.Run) -> tuple[float, str]:
    change = run.request.change
    assert change is not None
    throttle = change.surroundings.throttle.model_copy(update={"give_way": False})
    surroundings = change.surroundings.model_copy(update={"throttle": throttle})
    run.request = replace(run.request, change=replace(change, surroundings=surroundings))
    return _ours(run)


def _limit(run: engine.Run) -> tuple[float, str]:
    with connect(run.request.target) as session:
        session.execute("ALTER TABLE app ADD COLUMN larger bigint")
        session.execute("ALTER TABLE app ALTER COLUMN larger SET DEFAULT 7")  # what the load inserts
        session.execute("UPDATE app SET larger = amount")
        session.execute("CREATE INDEX CONCURRENTLY ON app (larger)")
    return 0.0, "larger"


def _limit_in_batches(run: engine.Run) -> tuple[float, str]:
    with connect(run.request.target) as session:
        session.execute("ALTER TABLE app ADD COLUMN larger bigint")
        [(last,)] = session.execute("SELECT max(id) FROM app").fetchall()
        for after in range(0, last, _BATCH):
            session.execute("UPDATE app SET larger = amount WHERE id > %s AND id <= %s", [after, after + _BATCH])
        session.execute("CREATE INDEX CONCURRENTLY ON app (larger)")
    return 0.0, "larger"


def _direct(run: engine.Run) -> tuple[float, str]:
    with connect(run.request.target) as session:
        session.execute("ALTER TABLE app ALTER COLUMN amount TYPE bigint")
    return 0.0, "amount"


#: What it does, and whether the load is at work meanwhile.
_CONTENDERS: Mapping[str, tuple[Contender, bool]] = {
    "ours": (_ours, True),
    "ours at once": (_at_once, True),
    "limit": (_limit, True),
    "direct": (_direct, True),
    "ours, idle": (_ours, False),
    "limit, idle": (_limit, False),
    "limit again, idle": (_limit, False),
    "limit in batches, idle": (_limit_in_batches, False),
}


def _result(bench: Bench, rows: int, rate: float, turns: dict[str, list[Turn]]) -> Result:
    seconds = {name: [t.seconds for t in each] for name, each in turns.items()}
    whole = {name: [t.whole for t in each] for name, each in turns.items()}
    seen = {name: [t.seen for t in each if t.seen] for name, each in turns.items() if each[0].seen}
    figures = [
        Figure("ours against the limit, beside the load", ratio(seconds, "ours", "limit"), Goal(1.3), peer=True),
        Figure("ours at once against the limit, beside the load", ratio(seconds, "ours at once", "limit"), peer=True),
        Figure("ours against the limit, idle", ratio(seconds, "ours, idle", "limit, idle"), Goal(1.3), peer=True),
        Figure(
            "ours against the limit in batches, idle", ratio(seconds, "ours, idle", "limit in batches, idle"), peer=True
        ),
        Figure("the limit in batches against the limit, idle", ratio(seconds, "limit in batches, idle", "limit, idle")),
        noise(seconds, "limit, idle", "limit again, idle"),
        Figure("the whole change against the limit, beside the load", ratio(whole, "ours", "limit"), peer=True),
        Figure("the whole change against the limit, idle", ratio(whole, "ours, idle", "limit, idle"), peer=True),
        Figure("longest stall beside ours", _stalls(seen["ours"]), load.STALL, "ms", exact=True),
        Figure("median stall beside ours", tuple(s.beside.median_stall * 1e3 for s in seen["ours"]), Goal(60), "ms"),
        Figure("p99 of the load beside ours", _p99(seen["ours"]), Goal(1.2)),
        Figure(
            "A/A: the load's quiet p99 after each turn against before",
            tuple(s.after.p99 / s.before.p99 for each in seen.values() for s in each),
        ),
    ]
    for name, each in seen.items():
        throughput = tuple(s.against_quiet(lambda window: window.rate) for s in each)
        figures.append(Figure(f"throughput of the load beside {name}", throughput, more_is_better=True))
        if name != "ours":
            figures += [
                Figure(f"longest stall beside {name}", _stalls(each), unit="ms"),
                Figure(f"p99 of the load beside {name}", _p99(each)),
            ]
    figures.append(Figure("direct against the limit", ratio(seconds, "direct", "limit")))
    raw = {f"{name} (s)": values for name, values in seconds.items()}
    raw |= {f"{name}, the whole change (s)": whole[name] for name in ("ours", "ours, idle")}
    raw |= {f"quiet p99 before {name} (s)": [s.before.p99 for s in each] for name, each in seen.items()}
    raw |= {f"p99 beside {name} (s)": [s.beside.p99 for s in each] for name, each in seen.items()}
    return Result(
        "B5",
        "Change a type while the application works",
        figures,
        raw,
        bench.setting(
            rows=bench.rows // _IDLE_PART,
            rows_beside_the_load=rows,
            clients=load.CLIENTS,
            rate=round(rate),
            rounds_of_this=len(turns["ours"]),
        ),
        [
            "No write of the application was lost or overwritten: every row was compared after every turn.",
            (
                f"{bench.rows // _IDLE_PART:,} rows idle and {rows:,} beside the load, where a gentle change of as many"
                f" takes minutes; {len(turns['ours'])} rounds, and {_IDLE_ROUNDS} idle, not 5."
            ),
            "Stalls and the p99 beside ours are those of the whole change, with validate and contract.",
        ],
    )


def _stalls(each: Sequence[Seen]) -> tuple[float, ...]:
    return tuple(s.beside.longest_stall * 1e3 for s in each)


def _p99(each: Sequence[Seen]) -> tuple[float, ...]:
    return tuple(s.against_quiet(lambda window: window.p99) for s in each)
