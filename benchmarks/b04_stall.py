"""B4: how long the application stands still because of our locks, for every operation, and how others do.

The load of ``benchmarks.load`` runs all the time, at half of what the machine can do. Somebody else's transaction is
open on the table, has read and written it, and does nothing: the case in which a careless ``ALTER TABLE`` stops
everybody. An operation's stages (migrate, cutover, contract) each meet such a transaction, which has just begun.
A stall is a wait of a session of the load for a lock, by the server's clock (see ``benchmarks.load``), at any time from
the planning of an operation to its end, also while it fills, validates or is rolled back. The p99 is that of the time
from the beginning of the transaction to its end, for the long one until the statement is through (within a second, a
stall of a few milliseconds would be the whole p99); the quiet one is taken before and after each operation.

For the long transaction, and for an autovacuum of the table that has just begun, ours is compared with

- *naive*: ``ALTER TABLE app ADD COLUMN …`` and nothing else;
- *runbook*: ``SET LOCAL lock_timeout = '5s'``; when it fails, a person tries again after a second;
- *pgroll*: attempts of 500 ms, its default, and between them its pauses: random, up to 1 s, 2 s, 4 s … 60 s.

Contenders that are not through five seconds after the transaction has ended are stopped and count as that. Ours meets
both in every round; the others, whose stalls are what they are set to, and all operations once, for the time they take.
Of all operations the worst counts.
"""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks import load
from benchmarks.bench import Bench
from benchmarks.changes import (
    OPERATIONS,
    ROLLED_BACK,
    SURROUNDINGS,
    capacity,
    connect,
    go,
    naive,
    pgroll,
    planned,
    runbook,
    table,
)
from benchmarks.measure import Figure, Goal, Result
from benchmarks.scene import Scene, Seen, Wait, as_one, blocked, on_stage
from schema_change.core.database import Connection, Target
from tests import bench as engine

_HOLD_S, _LONG_S, _GIVE_UP_S = 0.6, 12.0, 5.0
_QUIET_S, _LONG_QUIET_S = 0.4, 1.0
_ROWS = 50_000
_VACUUM_COMES_S = 30.0
_VACUUM, _TRANSACTION = "autovacuum", "transaction"
_MS = (Goal(60), "ms")

#: An autovacuum that begins at once, and takes longer than anybody waits.
_SLOWLY = {
    "autovacuum_vacuum_threshold": 0,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_cost_delay": 100,
    "autovacuum_vacuum_cost_limit": 20,
}


#: What was seen of each work, by name, in each round.
Rounds = dict[str, list[Seen]]


def run(bench: Bench) -> Result:
    """In each round, let ours meet both, and in some the others as well, and every operation its transaction."""
    rows = min(bench.rows, _ROWS)
    with bench.server.target().connect("bench") as admin:
        admin.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        admin.execute("SELECT pg_reload_conf()")
    table(bench.database("template"), rows, *SURROUNDINGS)
    rate = capacity(bench, "template", rows) / 2
    bench.say(f"the load: {rate:.0f} transactions a second, half of what {load.CLIENTS} clients can")
    seen: Rounds = defaultdict(list)
    looks: list[float] = []
    for number in range(bench.latency_rounds):
        bench.say(f"round {number + 1}/{bench.latency_rounds}")
        works: dict[str, Callable[[Scene], None]] = {"ours": _meet_both("ours")}
        if number == 0:
            works |= {name: _meet_both(name) for name in _CONTENDERS} | {"operations": _every_operation}
        names = list(works)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            with on_stage(bench, name, rows, rate) as scene:
                works[name](scene)
            looks.append(scene.app.look_p99)
            for work in scene.whole:
                seen[work].append(scene.seen(work, is_long=work not in _names()))
    return _result(bench, rows, rate, seen, looks)


def _every_operation(scene: Scene) -> None:
    before: tuple[str, ...] = ()
    for name, kind, operation in _named_operations():
        scene.be_quiet(_QUIET_S, *before, name)
        with scene.all_of(name):
            _operation(scene, name, kind, operation)
        before = (name,)
    scene.be_quiet(_QUIET_S, *before)


def _named_operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    return ((f"{number:03}_{kind}", kind, operation) for number, (kind, operation) in enumerate(OPERATIONS, start=1))


def _names() -> set[str]:
    return {name for name, _, _ in _named_operations()}


def _meet_both(name: str) -> Callable[[Scene], None]:
    """Return what lets a contender add a column beside autovacuum, and another while a transaction is open for long."""
    contender = _CONTENDERS[name]

    def works(scene: Scene) -> None:
        vacuum, transaction = f"{name}, {_VACUUM}", f"{name}, {_TRANSACTION}"
        scene.be_quiet(_LONG_QUIET_S, vacuum)
        with scene.all_of(vacuum):
            _beside_autovacuum(scene, vacuum, contender)
        scene.app.settle()
        scene.be_quiet(_LONG_QUIET_S, vacuum, transaction)
        with scene.all_of(transaction):
            _beside_transaction(scene, transaction, contender)
        scene.app.settle()
        scene.be_quiet(_LONG_QUIET_S, transaction)

    return works


def _operation(scene: Scene, name: str, kind: str, operation: Mapping[str, Any]) -> None:
    """Run one change; each of its stages that has steps meets a transaction that is open on the table."""
    run = planned(scene.made, name, kind, operation)
    with scene.target.connect("look") as session:
        phases = {row.planned.phase.value for row in run.journal(session).steps()}
    stages = {"migrate": "expand", "backfill": "", "cutover": "cutover", "validate": "", "contract": "contract"}
    for stage, phase in stages.items():
        if stage == "contract" and kind in ROLLED_BACK:
            with blocked(scene, name, _HOLD_S, run=run):
                go(run, "rollback")
            run.finish()
            _forget(scene, run)
        elif phase in phases:
            with blocked(scene, name, _HOLD_S, run=run):
                go(run, stage)
        else:
            go(run, stage)


def _forget(scene: Scene, run: engine.Run) -> None:
    """Take a change away that was rolled back: changes are applied in their order, and later ones would ask for it."""
    with scene.target.connect("look") as session:
        assert run.journal(session).run.status == "rolled_back", run.outcome_error
    assert run.request.change is not None
    shutil.rmtree(scene.made.folder / "changes" / run.request.change.id)


#: Adds the column of that name, somehow; gives up at the time given.
Contender = Callable[[Scene, str, float], None]


def _beside_transaction(scene: Scene, name: str, contender: Contender) -> None:
    with _prepared(scene, "by_then", contender) as add, blocked(scene, name, _LONG_S) as until:
        add(until + _GIVE_UP_S)


def _beside_autovacuum(scene: Scene, name: str, contender: Contender) -> None:
    """Let the contender add a column while autovacuum works on the table, slowly."""
    with connect(scene.target) as session, _prepared(scene, "beside", contender) as add:
        session.execute(f"ALTER TABLE app SET ({', '.join(f'{k} = {v}' for k, v in _SLOWLY.items())})".encode())
        deadline = time.time() + _VACUUM_COMES_S
        while not _autovacuum(session):
            assert time.time() < deadline, f"no autovacuum of the table within {_VACUUM_COMES_S:g} s"
            time.sleep(0.02)
        began = time.time()
        gone: list[float] = []

        def watch() -> None:
            while _autovacuum(session):
                time.sleep(0.01)
            gone.append(time.time())

        watching = threading.Thread(target=watch)
        watching.start()
        add(began + _GIVE_UP_S)
        ended = time.time()
        # Autovacuum has given way, or else it will find its next table in a moment.
        session.execute(f"ALTER TABLE app RESET ({', '.join(_SLOWLY)})".encode())
        watching.join()
        after = max(0.0, ended - gone[0])
        scene.waits.append(Wait(name, began, ended, ended, after))
        scene.bench.say(f"{name}: {ended - began:.1f} s, through {after:.2f} s after it gave way")


def _autovacuum(session: Connection) -> bool:
    row = session.execute(
        "SELECT count(*) FROM pg_stat_progress_vacuum AS v INNER JOIN pg_stat_activity AS a USING (pid)"
        " WHERE v.relid = 'app'::regclass AND a.backend_type = 'autovacuum worker'"
    ).fetchone()
    return bool(row and row[0])


@contextmanager
def _prepared(scene: Scene, column: str, contender: Contender) -> Iterator[Callable[[float], None]]:
    """Do what comes before the time that counts: ours is planned."""
    if contender is not _ours:
        yield lambda until: contender(scene, column, until)
        return
    add = {"table": "app", "column": {"name": column, "type": "integer"}}
    run = planned(scene.made, f"001_{column}", "add_column", add)
    yield lambda _until: go(run, "migrate")
    run.finish()
    _forget(scene, run)


def _ours(_scene: Scene, _column: str, _until: float) -> None:
    """Run the stage ``migrate`` of a change: see ``_prepared``."""


def _by_attempts(add: Callable[[Target, str, float], None]) -> Contender:
    return lambda scene, column, until: add(scene.target, column, until)


_CONTENDERS: Mapping[str, Contender] = {
    "ours": _ours,
    "naive": _by_attempts(naive),
    "runbook": _by_attempts(runbook),
    "pgroll": _by_attempts(pgroll),
}


def _result(bench: Bench, rows: int, rate: float, seen: Rounds, looks: Sequence[float]) -> Result:
    operations = [name for name, _, _ in _named_operations()]
    waited = [name for name in operations if not math.isnan(seen[name][0].after_s)]
    long = {name: seen[f"{name}, {_TRANSACTION}"] for name in _CONTENDERS}
    vacuum = {name: seen[f"{name}, {_VACUUM}"] for name in _CONTENDERS}

    def every(of: Callable[[Seen], float], names: Sequence[str]) -> tuple[float, ...]:
        return tuple(of(s) for name in names for s in seen[name])

    def ms(each: Iterable[Seen]) -> tuple[float, ...]:
        return tuple(s.longest * 1e3 for s in each)

    everything = [s for name in operations for s in seen[name]] + long["ours"] + vacuum["ours"]
    through = [s.after_s for s in everything if not math.isnan(s.after_s)]
    twelve = f"{_LONG_S:g} s"
    figures = [
        Figure("longest stall of everything that ours did", ms(everything), load.STALL, "ms", exact=True),
        Figure("median stall, every operation", every(lambda s: s.median * 1e3, operations), *_MS, exact=True),
        Figure(f"median stall, {twelve}", tuple(s.median * 1e3 for s in long["ours"]), *_MS),
        Figure("median stall, autovacuum", tuple(s.median * 1e3 for s in vacuum["ours"]), *_MS),
        Figure(f"p99 of the load, {twelve} and the statement", tuple(s.ratio for s in long["ours"]), Goal(1.2)),
        Figure("p99 of the load, all operations together", _pooled([seen[name] for name in waited]), Goal(1.2)),
        Figure("p99 of the load, every operation", every(lambda s: s.ratio, waited), Goal(1.2), exact=True),
        Figure("through after what was in the way, everything", tuple(through), Goal(1), "s", exact=True),
        Figure(f"A/A: quiet p99 after {twelve} against before", tuple(s.noise for s in long["ours"])),
        Figure("A/A: quiet p99 after every operation against before", every(lambda s: s.noise, operations)),
    ]
    for name, each in long.items():
        if name != "ours":
            # Rounds in which it took part: they are the first.
            against = tuple(o.longest / s.longest for o, s in zip(long["ours"], each, strict=False))
            figures.append(Figure(f"longest stall, {twelve}, against {name}", against, peer=True))
            figures.append(Figure(f"p99 of the load, {twelve}, {name}", tuple(s.ratio for s in each)))
    for name, each in long.items():
        figures.append(Figure(f"longest stall, {twelve}, {name}", ms(each), unit="ms"))
        figures.append(Figure(f"through after {twelve}, {name}", tuple(s.after_s for s in each), unit="s"))
    for name, each in vacuum.items():
        figures.append(Figure(f"longest stall, {_VACUUM}, {name}", ms(each), unit="ms"))
        # Not after it gave way: it does that only for those who wait for longer than the deadlock_timeout.
        figures.append(Figure(f"in all beside {_VACUUM}, {name}", tuple(s.seconds for s in each), unit="s"))
    raw: dict[str, Sequence[float]] = {"99 of 100 looks for stalls are apart by (s)": looks}
    for name, each in seen.items():
        raw[f"{name}: longest stall (s)"] = [s.longest for s in each]
        raw[f"{name}: p99 (s)"] = [s.waiting.p99 for s in each]
        raw[f"{name}: p99/quiet"] = [s.ratio for s in each]
        raw[f"{name}: through after (s)"] = [s.after_s for s in each]
    setting = {"rows": rows, "clients": load.CLIENTS, "rate": round(rate), "autovacuum_naptime": "1s"}
    return Result(
        "B4",
        "Stalls of the application that locks cause",
        figures,
        raw,
        bench.setting(**setting, hold_s=_HOLD_S, long_hold_s=_LONG_S, latency_rounds=bench.latency_rounds),
        _notes(rows),
    )


def _pooled(operations: Sequence[Sequence[Seen]]) -> tuple[float, ...]:
    """Return, for each round, the p99 over the waiting times of all operations against that over their quiet times."""
    rounds = zip(*operations, strict=True)
    return tuple(as_one(s.waiting for s in each).p99 / as_one(s.quiet for s in each).p99 for each in rounds)


def _notes(rows: int) -> list[str]:
    return [
        (
            f"{len(OPERATIONS)} operations; each of their stages with a lock met a"
            f" transaction open for {_HOLD_S:g} s. The {_LONG_S:g} s and autovacuum are met by add_column, in every"
            " round (others: once), and not by every operation, which would take a quarter of an hour."
        ),
        f"The table has {rows:,} rows, not 2 million: what is measured are locks, and every operation also fills.",
        (
            f"{', '.join(sorted(ROLLED_BACK))} are rolled back and not contracted:"
            " their contract ends the names that the load uses."
        ),
        (
            "A stall is a wait for a lock by pg_locks.waitstart, until the first look (every 5 ms) that misses it,"
            " so it may be shown a look too long."
        ),
        "No statement of the load failed, and no write of it was lost or overwritten.",
    ]
