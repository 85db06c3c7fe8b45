"""W1 to W4: add a column to a template of the warehouse, and how long a reader of the public view is without it.

- W1: *build beside*, as ``warehouse_add_column`` does it, at full size: six tenants, a view for each day of this year.
- W2: the runbook's own script typed against the toolkit, *rebuild in place*, beside W1 in the same rounds.
- W3: the seconds of the build alone with one, two and four tasks side by side.
- W4: W1 with a quarter of the days, and with a third of the tenants.

A reader polls ``SELECT id FROM public.… LIMIT 1`` every 10 ms from before the change until after its end, contract
included. Its downtime is the longest interval in which it got an error, or waited longer than the same read takes when
nothing else happens (the median of the seconds before). Planning a read of thousands of views takes most of its time,
so a busy processor counts as downtime too; what it waited for locks is shown beside it, as the server says
(``pg_locks.waitstart``, looked at every 5 ms). The A/A figure is the longest such interval while nothing is changed.

Right is a public view with every row it had, the sources' values of the new column in all days, and the constant in
the finished years.
"""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

import psycopg

from benchmarks.bench import Bench
from benchmarks.measure import Figure, Goal, Result, stopwatch
from benchmarks.warehouse import COLUMNS, INDEXES, QUERY, TEMPLATE, Size, make_sources, make_warehouse, server_of
from demo.postgres import Server
from schema_change.core.database import Target
from schema_change.core.errors import SchemaChangeError
from schema_change.core.stages.runner import Runner
from tests.bench import Bench as Engine
from tests.bench import Run

KEYS = ("W1", "W2", "W3", "W4")

_FULL = Size()
_SMALLER = {"a quarter of the days": Size(days=80), "a third of the tenants": Size(tenants=2)}
_ROUNDS = 3
_QUIET_S = 4.0
_EVERY_S, _LOOK_S = 0.01, 0.005
_OPERATION = {
    "template": TEMPLATE,
    "column": "waste_category",
    "type": "text",
    "expression": "l.waste_category",
    "default": "'UNKNOWN'",
    "index": True,
}
_READ = f"SELECT id FROM public.{TEMPLATE} LIMIT 1"
_STAGES = ("migrate", "backfill", "cutover", "validate", "soak", "contract")


def run(bench: Bench) -> Sequence[Result]:
    """Make the largest warehouse once; each contender changes a copy of its own."""
    seen = _Seen()
    with server_of(bench) as server:
        make_sources(server, _FULL)
        for name, size in {"full": _FULL, **_SMALLER}.items():
            bench.say(f"making the warehouse: {name}")
            with stopwatch() as seconds:
                make_warehouse(server, _database(name), size)
            bench.say(f"made in {seconds():.0f} s")
        for number in range(_ROUNDS):
            for name, contender in _contenders(bench, seen).items():
                contender(server)
                bench.say(f"round {number + 1}/{_ROUNDS}: {name} {seen.last}")
    setting = bench.setting(tenants=_FULL.tenants, days=(_FULL.last - _FULL.first).days + 1, finished_years=_FULL.years)
    return _results(seen, setting)


@dataclass
class _Seen:
    """What the rounds gave, by name: seconds."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    last: str = ""

    def note(self, **values: float) -> None:
        """Keep the values of one turn."""
        for name, value in values.items():
            self.figures.setdefault(name, []).append(value)
        self.last = ", ".join(f"{name} {value:.3f} s" for name, value in values.items())


def _contenders(bench: Bench, seen: _Seen) -> dict[str, Callable[[Server], None]]:
    def beside(server: Server, name: str = "full") -> None:
        with _copy(server, name) as target, _reading(target) as reader:
            seconds = _build_beside(bench, target, 1)
        words = {"full": "", "a quarter of the days": "_days", "a third of the tenants": "_tenants"}[name]
        noted = {f"beside{words}": reader.downtime, f"beside{words}_locks": reader.longest_lock_wait}
        more = {"quiet": reader.noise, "read": reader.quiet_s, "beside_total": sum(seconds.values())}
        more |= {f"beside_{stage}": value for stage, value in seconds.items()}
        seen.note(**noted, **(more if name == "full" else {}))

    def in_place(server: Server) -> None:
        with _copy(server, "full") as target, _reading(target) as reader, stopwatch() as seconds:
            _by_the_runbook(target)
        seen.note(in_place=reader.downtime, in_place_total=seconds())

    def workers(server: Server) -> None:
        for shards in (1, 2, 4):
            with _copy(server, "a quarter of the days") as target:
                seconds = _build_beside(bench, target, shards)
            seen.note(**{f"workers_{shards}": seconds["backfill"]})

    return {
        "build beside": beside,
        "rebuild in place": in_place,
        "a quarter of the days": lambda server: beside(server, "a quarter of the days"),
        "a third of the tenants": lambda server: beside(server, "a third of the tenants"),
        "1, 2 and 4 tasks": workers,
    }


def _build_beside(bench: Bench, target: Target, shards: int) -> dict[str, float]:
    """Run the change as its DAG would, without backup; return the seconds of each stage that changes something."""
    engine = Engine(target, bench.folder / f"engine_{time.monotonic_ns()}")
    change = engine.write("001_waste_category", {"operations": [{"warehouse_add_column": _OPERATION}]})
    run = Run(engine.request(change, skip_backup=True, shards=shards))
    for stage in ("plan", "approve", "backup", "pre_check", "rehearse"):
        _expect(run, stage)
        if stage == "plan":
            run.approve()
    found = {}
    for stage in _STAGES:
        with stopwatch() as seconds:
            if stage == "backfill" and shards > 1:
                _side_by_side(run, shards)
            _expect(run, stage)
        found[stage] = seconds()
    run.finish()
    if run.outcome_error is not None:
        raise run.outcome_error
    _check(target)
    return found


def _expect(run: Run, stage: str) -> None:
    if not run.try_stage(stage):
        raise run.error or AssertionError(stage)


def _side_by_side(run: Run, shards: int) -> None:
    failed: list[SchemaChangeError] = []

    def fill(shard: int) -> None:
        try:
            Runner(run.request).run("backfill", shard)
        except SchemaChangeError as error:
            failed.append(error)

    threads = [threading.Thread(target=fill, args=(shard,)) for shard in range(shards)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _by_the_runbook(target: Target) -> None:
    """Type the runbook's script: one transaction, the template, the days of each tenant, the views."""
    with target.connect("runbook") as session:
        session.execute("SET search_path = public")
        with session.transaction():
            session.execute("SELECT _wh.drop_public_view_by_template(%s)", [TEMPLATE])
            session.execute("SELECT _wh.drop_all_tenant_union_views_by_template(%s)", [TEMPLATE])
            session.execute(
                "SELECT _wh.add_column_to_yearly_tables_by_template(%s, 'waste_category', 'TEXT', 'UNKNOWN', true)",
                [TEMPLATE],
            )
            session.execute("SELECT _wh.drop_current_year_mvs_by_template(%s, %s)", [TEMPLATE, _FULL.last.year])
        session.execute(
            "UPDATE _wh.mv_templates SET query_template = %s, column_definitions = %s, indexes = %s",
            [
                QUERY.replace("l.flags", "l.flags, l.waste_category"),
                f"{COLUMNS}, waste_category TEXT",
                f"{INDEXES}CREATE INDEX idx_{{SCHEMA}}_{{VIEW_NAME}}_new ON {{SCHEMA}}.{{VIEW_NAME}} (waste_category);",
            ],
        )
        for schema in _FULL.schemas:
            session.execute(
                "SELECT _wh.update_mv_window_by_template(%s, %s, %s, %s::date, %s::date)",
                [TEMPLATE, f"{schema}-prod", schema, _FULL.first, _FULL.last],
            )
        session.execute("SELECT _wh.update_public_view_by_template(%s)", [TEMPLATE])
    _check(target)


def _check(target: Target) -> None:
    """Raise unless every row is there with the value it should have."""
    with target.connect("check") as session:
        rows = session.execute(
            f"SELECT schema_name, waste_category = 'UNKNOWN', count(*), count(waste_category)"
            f" FROM public.{TEMPLATE} GROUP BY 1, 2".encode()
        ).fetchall()
        old = session.execute("SELECT sum(reltuples) FROM pg_class WHERE relkind = 'r' AND relname ~ '_20[0-9]{2}$'")
        (years,) = old.fetchone() or (0,)
    assert rows, "the public view is empty"
    assert all(total == filled for _, _, total, filled in rows), "a row has no value"
    assert sum(total for _, constant, total, _ in rows if constant) == years, "not the finished years have the constant"


class _Reader:
    """Reads in a process of its own; another session looks at what it waits for."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._reads: list[tuple[float, float, bool]] = []
        self._changed_at = 0.0
        self.longest_lock_wait = 0.0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Poll until the block ends; its first seconds are the quiet ones."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_poll, args=(theirs, dict(self._target.parameters)))
        process.start()
        pid = ours.recv()
        stop = threading.Event()
        looking = threading.Thread(target=self._look, args=(pid, stop))
        looking.start()
        time.sleep(_QUIET_S)
        self._changed_at = time.time()
        try:
            yield
            time.sleep(1)
        finally:
            stop.set()
            looking.join()
            ours.send("stop")
            self._reads = ours.recv()
            process.join()

    def _look(self, pid: int, stop: threading.Event) -> None:
        with self._target.connect("look") as session:
            while not stop.is_set():
                # To look at all locks costs too much when there are thousands, so only when the reader waits for one.
                row = session.execute(
                    "SELECT (SELECT extract(epoch FROM clock_timestamp() - min(l.waitstart))::float8 FROM pg_locks AS l"
                    " WHERE l.pid = a.pid AND NOT l.granted)"
                    " FROM pg_stat_get_activity(%s) AS a WHERE a.wait_event_type = 'Lock'",
                    [pid],
                ).fetchone()
                self.longest_lock_wait = max(self.longest_lock_wait, (row and row[0]) or 0.0)
                time.sleep(_LOOK_S)

    @property
    def quiet_s(self) -> float:
        """Return what a read takes when nothing is changed, in seconds."""
        return statistics.median(seconds for at, seconds, _ in self._reads if at + seconds < self._changed_at)

    @property
    def noise(self) -> float:
        """Return the longest interval as for the downtime while nothing is changed; the first read loads everything."""
        return self._longest([r for r in self._reads[1:] if r[0] + r[1] < self._changed_at])

    @property
    def downtime(self) -> float:
        """Return the longest interval, in seconds, with errors or of waiting beyond the quiet time."""
        return self._longest([r for r in self._reads if r[0] + r[1] >= self._changed_at])

    def _longest(self, reads: Sequence[tuple[float, float, bool]]) -> float:
        longest, since = 0.0, None
        for at, seconds, good in reads:
            if not good:
                since = at if since is None else since
                longest = max(longest, at + seconds - since)
                continue
            longest = max(longest, seconds - self.quiet_s, at + seconds - since if since is not None else 0.0)
            since = None
        return longest


@contextmanager
def _reading(target: Target) -> Iterator[_Reader]:
    reader = _Reader(target)
    with reader.at_work():
        yield reader


def _poll(pipe: Pipe, parameters: dict[str, Any]) -> None:
    """Read every 10 ms until told to stop; send what each read took."""
    found: list[tuple[float, float, bool]] = []
    with psycopg.connect(**parameters, autocommit=True) as session:
        pipe.send(session.info.backend_pid)
        while not pipe.poll():
            started = time.time()
            try:
                session.execute(_READ.encode(), prepare=False).fetchone()
                good = True
            except psycopg.Error:
                good = False
            seconds = time.time() - started
            found.append((started, seconds, good))
            time.sleep(max(0.0, _EVERY_S - seconds))
    pipe.send(found)


def _database(name: str) -> str:
    return f"wh_{name.replace(' ', '_')}"


@contextmanager
def _copy(server: Server, name: str) -> Iterator[Target]:
    """Yield a copy of a warehouse; its catalog is in the cache, as in one that is at work."""
    with server.target().connect("bench") as admin:
        admin.execute("DROP DATABASE IF EXISTS changed WITH (FORCE)")
        admin.execute(f"CREATE DATABASE changed TEMPLATE {_database(name)} STRATEGY FILE_COPY".encode())
        admin.execute("CHECKPOINT")
    yield server.target("changed")


def _results(seen: _Seen, setting: dict[str, Any]) -> list[Result]:
    def figure(title: str, name: str, goal: Goal | None = None, unit: str = "s") -> Figure:
        return Figure(title, tuple(seen.figures[name]), goal, unit=unit)

    def against(title: str, name: str, to: str) -> Figure:
        pairs = zip(seen.figures[name], seen.figures[to], strict=True)
        return Figure(title, tuple(ours / theirs for ours, theirs in pairs))

    noise = figure("A/A: the longest such interval while nothing is changed", "quiet")
    raw = seen.figures
    return [
        Result(
            "W1",
            "Add a column to the warehouse, built beside: downtime of a reader",
            [
                figure("downtime", "beside", Goal(0.3)),
                figure("longest wait of the reader for a lock", "beside_locks"),
                figure("the whole change", "beside_total"),
                *(
                    figure(f"stage {stage}", f"beside_{stage}")
                    for stage in ("migrate", "backfill", "cutover", "contract")
                ),
                figure("one read when quiet", "read"),
                noise,
            ],
            {name: values for name, values in raw.items() if name.startswith("beside")},
            setting,
        ),
        Result(
            "W2",
            "The same by the runbook's script, rebuilt in place: downtime of a reader",
            [
                figure("downtime", "in_place"),
                against("downtime against built beside", "in_place", "beside"),
                figure("the whole change", "in_place_total"),
                noise,
            ],
            {name: values for name, values in raw.items() if name.startswith("in_place")},
            setting,
        ),
        Result(
            "W3",
            "Build a quarter of the days with several tasks",
            [
                figure("one task", "workers_1"),
                against("two tasks against one, seconds", "workers_2", "workers_1"),
                against("four tasks against one, seconds", "workers_4", "workers_1"),
            ],
            {name: values for name, values in raw.items() if name.startswith("workers")},
            setting,
        ),
        Result(
            "W4",
            "Downtime of built beside in smaller warehouses",
            [
                figure("a quarter of the days", "beside_days"),
                figure("a third of the tenants", "beside_tenants"),
                against("full size against a quarter of the days", "beside", "beside_days"),
                against("full size against a third of the tenants", "beside", "beside_tenants"),
            ],
            {name: values for name, values in raw.items() if name in ("beside_days", "beside_tenants")},
            setting,
        ),
    ]
