"""Changes of the load's table: one of each operation, and how the engine runs them as the DAG would."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from psycopg import errors

from benchmarks import load
from benchmarks.bench import Bench
from schema_change.core.database import Connection, Target
from tests import bench as engine

#: What the operations need besides the load's table.
SURROUNDINGS = (
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
    (
        "sql",
        {
            "deploy": "ALTER TABLE app ADD COLUMN raw integer",
            "cutover": "ALTER TABLE app ALTER COLUMN raw SET DEFAULT 1",
            "contract": "ALTER TABLE app ALTER COLUMN raw DROP DEFAULT",
            "revert": "ALTER TABLE app DROP COLUMN IF EXISTS raw",
        },
    ),
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
ROLLED_BACK = frozenset({"split_table", "table_version", "rename_table"})

_SEED = 4
BEFORE_MIGRATE = engine.FORWARD[: engine.FORWARD.index("migrate")]


def table(target: Target, rows: int, *more: str) -> None:
    """Create the load's table, and run more statements."""
    with connect(target) as session:
        session.execute("CREATE EXTENSION pg_prewarm SCHEMA pg_catalog")
        for statement in (*filter(str.strip, load.TABLE.format(rows=rows).split(";")), *more):
            session.execute(statement.encode())


def copied(bench: Bench, name: str, template: str) -> Target:
    """Return a copy of a database whose table and indexes are in memory, as they are while an application works."""
    target = bench.database(name, template=template)
    with connect(target) as session:
        session.execute(
            "SELECT pg_prewarm('app'), sum(pg_prewarm(indexrelid)) FROM pg_index WHERE indrelid = 'app'::regclass"
        )
    return target


def capacity(bench: Bench, template: str, rows: int) -> float:
    """Return the transactions per second that the load gets from a copy of a database when nothing paces it."""
    return load.capacity(bench, copied(bench, "calibrated", template), rows)


def changes(bench: Bench, target: Target) -> engine.Bench:
    """Return what writes and runs changes of one database."""
    folder = bench.folder / f"changes_{target.database}"
    (folder / "expectations").mkdir(parents=True)
    return engine.Bench(target, folder)


def planned(made: engine.Bench, change_id: str, kind: str, operation: Mapping[str, Any]) -> engine.Run:
    """Bring a run of a change to the point before migrate; no backup and no rehearsal, which B7 and B8 measure."""
    if kind == "sql":
        change = made.write(change_id, None, **operation)
    else:
        change = made.write(change_id, {"operations": [{kind: dict(operation)}]})
    run = engine.Run(made.request(change, skip_backup=True, skip_rehearsal=True))
    for stage in BEFORE_MIGRATE:
        if stage == "approve":
            run.approve()
        go(run, stage)
    return run


def go(run: engine.Run, *stages: str) -> None:
    """Run stages; a failure of ours is a failure of the benchmark."""
    for stage in stages:
        assert run.try_stage(stage), f"{run.request.change and run.request.change.id}: {stage}: {run.error}"


def connect(target: Target, name: str = "contender") -> Connection:
    """Return a session such as people have: names of schema public, no time-outs; our triggers let its rows alone."""
    session = target.connect(name)
    session.execute("SET search_path = public")
    session.execute("SET lock_timeout = 0")
    session.execute("SET schema_change.bypass = 'on'")
    return session


def naive(target: Target, column: str, until: float) -> None:
    """Add a column to the load's table and wait for the lock however long."""
    _attempts(target, column, until, 0, lambda _failures: 0)


def runbook(target: Target, column: str, until: float) -> None:
    """Add a column in attempts of five seconds; a person tries again after a second."""
    _attempts(target, column, until, 5_000, lambda _failures: 1.0)


def pgroll(target: Target, column: str, until: float) -> None:
    """Add a column in attempts of half a second, with pgroll's pauses."""
    jitter = random.Random(_SEED)
    _attempts(target, column, until, 500, lambda failures: jitter.uniform(0, min(60, 2**failures)))


def _attempts(target: Target, column: str, until: float, lock_ms: int, pause_s: Callable[[int], float]) -> None:
    """Add the column in attempts that wait so long for the lock, with pauses by the number of failures."""
    failures = 0
    with connect(target) as session:
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
        except errors.QueryCanceled:
            pass
        finally:
            timer.cancel()
            timer.join()
