"""B4: how long the application stands still because of our locks, for every operation, and how others do.

The load of ``benchmarks.load`` runs all the time, at half of what the machine can do. Somebody else's transaction is
open on the table, has read and written it, and does nothing: the case in which a careless ``ALTER TABLE`` stops
everybody. An operation's stages (migrate, cutover, contract) each meet such a transaction, which began before them.
A stall is a wait of a session of the load for a lock, by the server's clock (see ``benchmarks.load``). The p99 is that
of the time from the beginning of the transaction to its end, for the long one until the statement is through (within a
second, a stall of a few milliseconds would be the whole p99); the quiet one is taken before and after each operation.

For the long transaction, and for an autovacuum of the table that has just begun, ours is compared with

- *naive*: ``ALTER TABLE app ADD COLUMN …`` and nothing else;
- *runbook*: ``SET LOCAL lock_timeout = '5s'``; when it fails, a person tries again after a second;
- *pgroll*: attempts of 500 ms, its default, and between them its pauses: random, up to 1 s, 2 s, 4 s … 60 s.

Contenders that are not through five seconds after the transaction has ended are stopped and count as that.
"""

from __future__ import annotations

import random
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors

from benchmarks import load
from benchmarks.bench import Bench
from benchmarks.changes import changes, connect, go, planned, table
from benchmarks.measure import Figure, Goal, Result
from schema_change.core.database import Connection, Target
from tests import bench as engine

_HOLD_S, _LONG_S, _QUIET_S, _GIVE_UP_S = 1.0, 12.0, 0.5, 5.0
_ROWS = 100_000
_DRAIN_S = 2.0  # for what queued up behind a contender
_VACUUM, _TRANSACTION = "autovacuum", "transaction"
_SEED = 4

#: An autovacuum that begins at once, and takes longer than anybody waits.
_SLOWLY = {
    "autovacuum_vacuum_threshold": 0,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_cost_delay": 100,
    "autovacuum_vacuum_cost_limit": 20,
}
_SURROUNDINGS = (
    "CREATE TABLE stations (id integer PRIMARY KEY, town text)",
    "INSERT INTO stations SELECT g, 'T' || g FROM generate_series(0, 999) AS g",
    "CREATE VIEW now AS SELECT id, value FROM app WHERE value > 0",
    "CREATE TYPE mood AS ENUM ('good')",
    "INSERT INTO app (id, value, note, station) VALUES (0, 0, 'as it was', 0)",
)

_STATION_KEY = {"table": "app", "columns": ["station"], "references": {"table": "stations"}, "name": "of_station"}
_NEW_VERSION = [{"name": c, "from": c} for c in ("id", "value", "note", "station", "doubled")]
#: Each operation on the table of the load, or beside it, in an order in which each finds what it needs.
OPERATIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    (
        "add_column",
        {
            "table": "app",
            "column": {"name": "doubled", "type": "bigint", "nullable": False, "default": "0"},
            "fill": "app.value * 2",
        },
    ),
    ("add_check", {"table": "app", "check": "station >= 0", "name": "not_negative"}),
    ("drop_constraint", {"table": "app", "name": "not_negative"}),
    ("add_foreign_key", _STATION_KEY),
    ("create_index", {"table": "app", "columns": ["station"], "name": "by_station"}),
    ("drop_index", {"index": "by_station"}),
    ("add_unique", {"table": "app", "columns": ["id"], "name": "app_id_key"}),
    ("change_primary_key", {"table": "app", "columns": ["id", "station"], "old": "drop"}),
    ("drop_constraint", {"table": "app", "name": "app_pkey"}),
    ("add_primary_key", {"table": "app", "columns": ["id"], "name": "app_pkey"}),
    ("set_not_null", {"table": "app", "column": "amount", "nulls": {"fill": "0"}}),
    ("drop_not_null", {"table": "app", "column": "amount"}),
    ("set_default", {"table": "app", "column": "amount", "default": "7"}),
    ("drop_default", {"table": "app", "column": "amount"}),
    ("comment", {"table": "app", "column": "amount", "text": "in cents"}),
    ("change_type", {"table": "app", "column": "amount", "type": "bigint", "strategy": "expand"}),
    ("rename_column", {"table": "app", "column": "remark", "to": "remarks"}),
    ("drop_column", {"table": "app", "column": "remarks"}),
    (
        "create_table",
        {
            "table": "lines",
            "columns": [{"name": "id", "type": "bigint"}, {"name": "app", "type": "bigint"}],
            "primary_key": ["id"],
            "foreign_keys": [{"columns": ["app"], "references": {"table": "app", "columns": ["id"]}}],
        },
    ),
    ("drop_table", {"table": "lines"}),
    ("create_view", {"view": "all_of_it", "query": "SELECT id, value FROM app"}),
    ("replace_view", {"view": "now", "query": "SELECT id, value, note FROM app WHERE value > 0"}),
    ("drop_view", {"view": "now"}),
    ("drop_view", {"view": "all_of_it"}),
    ("enum_add_value", {"type": "mood", "value": "bad"}),
    ("create_extension", {"name": "citext"}),
    ("merge_tables", {"from": "stations", "into": "app", "on": {"station": "id"}}),
    (
        "split_table",
        {
            "table": "app",
            "into": {"table": "places", "key": ["station"], "columns": [{"name": "name", "from": "place"}]},
            "conflicts": "first",
        },
    ),
    ("table_version", {"table": "app", "to": "app_v2", "columns": _NEW_VERSION}),
    ("rename_table", {"table": "app", "to": "application"}),
)
#: Their contract takes away the names that the load uses: they are rolled back, which takes locks as well.
_ROLLED_BACK = frozenset({"split_table", "table_version", "rename_table"})


@dataclass(frozen=True)
class Wait:
    """One thing done while somebody was in the way, from the beginning of that to the end of all.

    ``waited`` is the moment at which the lock was had and used, ``after_s`` how long after the transaction that was.
    """

    what: str
    began: float
    waited: float
    ended: float
    after_s: float


@dataclass
class Scene:
    """The database, its load, and the times at which things happened."""

    bench: Bench
    target: Target
    made: engine.Bench
    app: load.Load
    waits: list[Wait] = field(default_factory=list)
    quiet: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def be_quiet(self, *names: str) -> None:
        """Let the load work alone for a moment, which counts as the quiet time of what comes before and after."""
        began = time.time()
        time.sleep(_QUIET_S)
        for name in names:
            self.quiet.setdefault(name, []).append((began, time.time()))


def run(bench: Bench) -> Result:
    """Run every operation under one load, then each contender under one of its own."""
    rows = min(bench.rows, _ROWS)
    table(bench.database("template"), rows, *_SURROUNDINGS)
    rate = load.capacity(bench, bench.database("calibrated", template="template"), rows) / 2
    bench.say(f"the load: {rate:.0f} transactions a second, half of what {load.CLIENTS} clients can")
    with _scene(bench, "operations", rows, rate) as operations:
        before: tuple[str, ...] = ()
        for number, (kind, operation) in enumerate(OPERATIONS):
            name = f"{number + 1:03}_{kind}"
            operations.be_quiet(*before, name)
            _operation(operations, name, kind, operation)
            before = (name,)
        operations.be_quiet(*before)
    others = {}
    for name, contender in _CONTENDERS.items():
        with _scene(bench, name, rows, rate) as others[name]:
            others[name].be_quiet(_VACUUM)
            _beside_autovacuum(others[name], contender)
            time.sleep(_DRAIN_S)
            others[name].be_quiet(_TRANSACTION)
            _beside_transaction(others[name], contender)
    return _result(bench, rows, rate, operations, others)


@contextmanager
def _scene(bench: Bench, name: str, rows: int, rate: float) -> Iterator[Scene]:
    """Let the load work on a copy of its own; afterwards all it wrote must be there."""
    target = bench.database(name, template="template")
    made = changes(bench, target)
    with load.running(bench, target, rows, rate) as app:
        time.sleep(1)
        yield (scene := Scene(bench, target, made, app))
    with connect(target) as session:
        session.execute("DELETE FROM app WHERE id = 0")
        app.check(session, rows)
    bench.say(f"{name}: {len(scene.app.transactions)} transactions, no write lost")


def _operation(scene: Scene, name: str, kind: str, operation: Mapping[str, Any]) -> None:
    """Run one change; each of its stages that has steps meets a transaction that is open on the table."""
    run = planned(scene.made, name, {kind: operation})
    with scene.target.connect("look") as session:
        phases = {row.planned.phase.value for row in run.journal(session).steps()}
    stages = {"migrate": "expand", "backfill": "", "cutover": "cutover", "validate": "", "contract": "contract"}
    for stage, phase in stages.items():
        if stage == "contract" and kind in _ROLLED_BACK:
            with _blocked(scene, name, _HOLD_S, run):
                go(run, "rollback")
            run.finish()
            _forget(scene, run)
        elif phase in phases:
            with _blocked(scene, name, _HOLD_S, run):
                go(run, stage)
        else:
            go(run, stage)


def _forget(scene: Scene, run: engine.Run) -> None:
    """Take a change away that was rolled back: changes are applied in their order, and later ones would ask for it."""
    with scene.target.connect("look") as session:
        assert run.journal(session).run.status == "rolled_back", run.outcome_error
    assert run.request.change is not None
    shutil.rmtree(scene.made.folder / "changes" / run.request.change.id)


@contextmanager
def _blocked(scene: Scene, name: str, hold_s: float, run: engine.Run | None = None) -> Iterator[float]:
    """Keep a transaction open on the table for some seconds, whatever the block does; yields when it will end."""
    with connect(scene.target, "somebody") as session:
        session.execute("BEGIN")
        session.execute("UPDATE app SET value = 0 WHERE id = 0")
        began = time.time()
        until = began + hold_s
        closed: list[float] = []

        def end() -> None:
            session.execute("COMMIT")
            closed.append(time.time())

        timer = threading.Timer(hold_s, end)
        timer.start()
        try:
            yield until
        finally:
            ended = time.time()
            timer.join()
            after = _after(scene, run, closed[0], ended) if run else max(0.0, ended - closed[0])
            scene.waits.append(Wait(name, began, closed[0] + after, ended, after))
            scene.bench.say(f"{name}: {ended - began:.1f} s, through {after:.2f} s after the transaction")


def _after(scene: Scene, run: engine.Run, closed: float, ended: float) -> float:
    """Return how long after the transaction the step was through that had waited for it, by the journal.

    What is filled first takes its time, whoever is in the way, and does not count.
    """
    with scene.target.connect("look") as session:
        steps = run.journal(session).steps()
    times = [(at.timestamp(), row) for row in steps for at in (row.finished_at, row.undone_at) if at]
    before = closed
    for at, row in sorted(times, key=lambda item: item[0]):
        if not closed < at <= ended:
            continue
        if row.planned.backfill is None:
            return at - before
        before = at
    return 0.0


#: Adds the column of that name, somehow; gives up at the time given.
Contender = Callable[[Scene, str, float], None]


def _beside_transaction(scene: Scene, contender: Contender) -> None:
    with _prepared(scene, _TRANSACTION, contender) as add, _blocked(scene, _TRANSACTION, _LONG_S) as until:
        time.sleep(0.2)
        add(until + _GIVE_UP_S)


def _beside_autovacuum(scene: Scene, contender: Contender) -> None:
    """Let the contender add a column while autovacuum works on the table, slowly."""
    with connect(scene.target) as session, _prepared(scene, _VACUUM, contender) as add:
        session.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        session.execute("SELECT pg_reload_conf()")
        session.execute(f"ALTER TABLE app SET ({', '.join(f'{k} = {v}' for k, v in _SLOWLY.items())})".encode())
        while not _autovacuum(session):
            time.sleep(0.02)
        began = time.time()
        add(began + _GIVE_UP_S)
        ended = time.time()
        scene.waits.append(Wait(_VACUUM, began, ended, ended, ended - began))
        scene.bench.say(f"beside autovacuum: {ended - began:.1f} s")
        session.execute(f"ALTER TABLE app RESET ({', '.join(_SLOWLY)})".encode())


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
    add = {"add_column": {"table": "app", "column": {"name": column, "type": "integer"}}}
    run = planned(scene.made, f"001_{column}", add)
    yield lambda _until: go(run, "migrate")
    run.finish()
    _forget(scene, run)


def _ours(_scene: Scene, _column: str, _until: float) -> None:
    """Run the stage ``migrate`` of a change: see ``_prepared``."""


def _naive(scene: Scene, column: str, until: float) -> None:
    _attempts(scene, column, until, 0, lambda _failures: 0)


def _runbook(scene: Scene, column: str, until: float) -> None:
    _attempts(scene, column, until, 5_000, lambda _failures: 1.0)


def _pgroll(scene: Scene, column: str, until: float) -> None:
    jitter = random.Random(_SEED)
    _attempts(scene, column, until, 500, lambda failures: jitter.uniform(0, min(60, 2**failures)))


def _attempts(scene: Scene, column: str, until: float, lock_ms: int, pause_s: Callable[[int], float]) -> None:
    """Add the column in attempts that wait so long for the lock, with pauses by the number of failures."""
    failures = 0
    with connect(scene.target) as session:
        session.execute(f"SET lock_timeout = {lock_ms}".encode())
        timer = threading.Timer(until - time.time(), session.cancel_safe)
        timer.start()
        try:
            while time.time() < until:
                try:
                    session.execute(f'ALTER TABLE app ADD COLUMN "{column}" integer'.encode())
                except errors.LockNotAvailable:
                    time.sleep(min(pause_s(failures), max(0.0, until - time.time())))
                    failures += 1
                else:
                    break
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            timer.cancel()
            timer.join()


_CONTENDERS: Mapping[str, Contender] = {"ours": _ours, "naive": _naive, "runbook": _runbook, "pgroll": _pgroll}


@dataclass(frozen=True)
class Seen:
    """What the load saw of one operation, or contender. Seconds; ``ratio`` is p99 against quiet."""

    longest: float
    median: float
    stalls: int
    ratio: float
    p99: float
    after_s: float


def _seen(scene: Scene, name: str, *, switch: bool) -> Seen:
    """Look at what the load saw; ``switch`` counts the statement itself into the p99, and not the waiting alone."""
    waits = [w for w in scene.waits if w.what == name]
    stalled = load.Window([], [s for w in waits for s in scene.app.between(w.began, w.ended).stalls], 1.0)
    ends = [(w.began, w.waited if switch else w.waited - w.after_s) for w in waits]
    waiting = load.Window([t for times in ends for t in scene.app.between(*times).transactions], [], 1.0)
    quiet = load.Window([t for q in scene.quiet[name] for t in scene.app.between(*q).transactions], [], 1.0)
    return Seen(
        stalled.longest_stall,
        stalled.median_stall,
        len(stalled.stalls),
        waiting.p99 / quiet.p99,
        waiting.p99,
        max(w.after_s for w in waits),
    )


def _result(bench: Bench, rows: int, rate: float, operations: Scene, others: Mapping[str, Scene]) -> Result:
    names = [f"{number + 1:03}_{kind}" for number, (kind, _) in enumerate(OPERATIONS)]
    waited = {w.what for w in operations.waits}
    ops = {name: _seen(operations, name, switch=False) for name in names if name in waited}
    long = {name: _seen(scene, _TRANSACTION, switch=True) for name, scene in others.items()}
    vacuum = {name: _seen(scene, _VACUUM, switch=True) for name, scene in others.items()}
    halves = [[operations.app.between(*t).p99 for t in operations.quiet[name]] for name in names]
    ours = [*ops.values(), long["ours"], vacuum["ours"]]

    def ms(*values: float) -> tuple[float, ...]:
        return tuple(v * 1e3 for v in values)

    figures = [
        Figure("longest stall of all operations", ms(max(s.longest for s in ours)), Goal(100), "ms"),
        Figure("median stall of each operation", ms(*(s.median for s in ours)), Goal(60), "ms"),
        Figure(f"p99 of the load beside ours, {_LONG_S:g} s and the statement", (long["ours"].ratio,), Goal(1.2)),
        Figure("p99 of the load while each operation waits", tuple(s.ratio for s in ops.values()), Goal(1.2)),
        Figure("last to be through after the transaction", (max(s.after_s for s in ops.values()),), Goal(1), "s"),
        Figure("A/A: quiet p99 after each operation against before", tuple(b / a for a, b in halves)),
        *(Figure(f"longest stall, {_LONG_S:g} s, {name}", ms(s.longest), unit="ms") for name, s in long.items()),
        *(Figure(f"p99 of the load, {_LONG_S:g} s, {n}", (s.ratio,)) for n, s in long.items() if n != "ours"),
        *(Figure(f"through after the transaction, {name}", (s.after_s,), unit="s") for name, s in long.items()),
        *(Figure(f"longest stall, autovacuum, {name}", ms(s.longest), unit="ms") for name, s in vacuum.items()),
        *(Figure(f"through beside autovacuum, {name}", (s.after_s,), unit="s") for name, s in vacuum.items()),
    ]
    raw: dict[str, tuple[float, ...]] = {"quiet p99 (s)": (statistics.median(p for both in halves for p in both),)}
    for name, seen in {**ops, **long, **{f"{n}, autovacuum": s for n, s in vacuum.items()}}.items():
        raw[f"{name}: longest stall (s), median (s), number, p99 (s), p99/quiet, after (s)"] = (
            *(seen.longest, seen.median, seen.stalls, seen.p99, seen.ratio, seen.after_s),
        )
    return Result(
        "B4",
        "Stalls of the application that locks cause",
        figures,
        raw,
        bench.setting(rows=rows, clients=load.CLIENTS, rate=round(rate), hold_s=_HOLD_S, long_hold_s=_LONG_S),
        [
            (
                f"{len(OPERATIONS)} operations ran under one load; each of their stages met a transaction open for"
                f" {_HOLD_S:g} s. Those whose contract ends the names that the load uses were rolled back."
            ),
            "A stall is a wait for a lock by pg_locks.waitstart, seen by a look every 5 ms.",
            "No statement of the load failed, and no write of it was lost or overwritten.",
        ],
    )
