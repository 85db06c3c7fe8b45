"""Changes of the load's table, run by the engine as the DAG would run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import load
from benchmarks.bench import Bench
from schema_change.core.database import Connection, Target
from tests import bench as engine

BEFORE_MIGRATE = engine.FORWARD[: engine.FORWARD.index("migrate")]


def table(target: Target, rows: int, *more: str) -> None:
    """Create the load's table, and run more statements."""
    with connect(target) as session:
        for statement in (*filter(str.strip, load.TABLE.format(rows=rows).split(";")), *more):
            session.execute(statement.encode())


def changes(bench: Bench, target: Target) -> engine.Bench:
    """Return what writes and runs changes of one database."""
    folder = bench.folder / f"changes_{target.database}"
    (folder / "expectations").mkdir(parents=True)
    return engine.Bench(target, folder)


def planned(made: engine.Bench, change_id: str, *operations: Mapping[str, Any]) -> engine.Run:
    """Bring a run of a change to the point before migrate; no backup and no rehearsal, which B7 and B8 measure."""
    change = made.write(change_id, {"operations": [dict(o) for o in operations]})
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
