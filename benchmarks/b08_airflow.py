"""B8: the whole DAG of an instant change on a real Airflow, against a DAG of the same shape whose tasks do nothing.

Everything is on: backup, verification by a restore, rehearsal, Great Expectations, report; nobody has to approve. There
is next to no data to move, so what is left is Airflow's own time, ours, the import of Great Expectations, and one dump
and one restore. Those are measured beside it: the empty DAG has the same tasks, edges and trigger rules, and starts a
process for each of them; the import runs in a process that has loaded what a worker has; dump and restore are pg_dump
and pg_restore as one types them, with the database to restore into.

A run lasts from the moment it was queued to its end, as Airflow's own database says. Airflow has its defaults, except
for what demo/airflow.py sets to start quickly (see the setting). Every run has to end well, every stage to have done
its work, and the column to be there.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.measure import Figure, Goal, Result, noise, ratio, stopwatch, take_turns
from demo.airflow import Airflow
from demo.api import AirflowApi
from demo.postgres import free_port
from schema_change.core.binaries import client_for
from schema_change.core.database import Target

ROOT = Path(__file__).resolve().parents[1]
CHANGE, EMPTY, AGAIN = "the change", "empty tasks", "empty tasks again"
IMPORT, DUMP = "import of Great Expectations", "dump and restore"
#: Seconds that may come on top of the sum.
ALLOWED = 3.0

_CHANGE_FILE = """
description: A column without a value
conn_id: target
operations:
  - add_column:
      table: public.features
      column: {{name: added_{number}, type: integer}}
expectations: features.yaml
"""
_SUITE = """
name: features
table: public.features
expectations:
  - type: expect_table_row_count_to_be_between
    kwargs: {min_value: 1}
  - type: expect_column_values_to_not_be_null
    kwargs: {column: id}
"""
_EMPTY_DAG = """
import json
from airflow.sdk import DAG, BaseOperator

class Nothing(BaseOperator):
    def execute(self, context):
        return None

with DAG("empty", schedule=None):
    shape = json.loads({shape!r})
    tasks = {{t["task_id"]: Nothing(task_id=t["task_id"], trigger_rule=t["trigger_rule"]) for t in shape}}
    for t in shape:
        tasks[t["task_id"]] >> [tasks[other] for other in t["downstream_task_ids"]]
"""
#: What a worker has loaded when it comes to validate; then the import alone.
_IMPORT = """
import time
import airflow.sdk.execution_time.task_runner, schema_change.core.stages.runner
started = time.perf_counter()
import great_expectations
print(time.perf_counter() - started)
"""
#: Stages that have work in this change, whatever it is; the others are skipped.
_WORKING = ("plan", "backup", "pre_check", "rehearse", "migrate", "validate", "contract", "report", "outcome")


def run(bench: Bench) -> Result:
    """Let changes, empty DAGs and what else is in the sum take turns."""
    target = _target(bench)
    with _airflow(bench, target) as airflow, airflow.api() as api:
        work = _Work(bench, airflow, api, target)
        work.warm_up()
        rounds = take_turns(
            {
                CHANGE: work.change,
                EMPTY: work.empty,
                AGAIN: work.empty,
                IMPORT: lambda: _import(airflow),
                DUMP: lambda: _dump_and_restore(bench, target),
            },
            bench.rounds,
            between=bench.checkpoint,
            say=bench.say,
        )
    sums = [sum(parts) for parts in zip(rounds[EMPTY], rounds[IMPORT], rounds[DUMP], strict=True)]
    excess = tuple(ours - limit for ours, limit in zip(rounds[CHANGE], sums, strict=True))
    raw = {**rounds, "sum": sums, "between the tasks": work.between}
    return Result(
        "B8",
        "A change DAG without data to move",
        [
            Figure("beyond empty tasks + import + dump and restore", excess, Goal(ALLOWED), "s"),
            Figure("the change against that sum", ratio({**rounds, "sum": sums}, CHANGE, "sum")),
            Figure("the change, from trigger to end", tuple(rounds[CHANGE]), unit="s"),
            noise(rounds, EMPTY, AGAIN),
        ],
        {**raw, **{f"task {task}": seconds for task, seconds in work.tasks.items()}},
        bench.setting(rows=1000, airflow=_settings(airflow)),
        [
            f"{len(work.tasks)} of the change's {work.count} tasks started a process, each empty task did",
            "seconds of a task are from the start of its process to its end, as Airflow says",
        ],
    )


class _Work:
    """Runs the DAGs and looks at what came out. ``tasks`` are the seconds of each task that ran, per round."""

    def __init__(self, bench: Bench, airflow: Airflow, api: AirflowApi, target: Target) -> None:
        self.bench = bench
        self.airflow = airflow
        self.api = api
        self.target = target
        self.number = 0
        self.tasks: dict[str, list[float]] = {}
        self.count = 0
        self.between: list[float] = []

    def warm_up(self) -> None:
        """Run everything once: the first tasks of a new Airflow are slower."""
        self.change()
        self.empty()
        self.tasks, self.between = {}, []

    def change(self) -> float:
        """Run the next change; return its seconds."""
        self.number += 1
        dag_id = _change_id(self.number)
        run_id, seconds = self._run(dag_id)
        tasks = {t["task_id"]: t for t in self.api.task_instances(dag_id, run_id)}
        expected = {task: "success" if task in _WORKING else "skipped" for task in tasks}
        states = {task: t["state"] for task, t in tasks.items()}
        assert states == expected, states
        self._check(f"airflow:{dag_id}/{run_id}")
        took = {task: _seconds(t["start_date"], t["end_date"]) for task, t in tasks.items() if t["pid"]}
        for task, duration in took.items():
            self.tasks.setdefault(task, []).append(duration)
        self.count = len(tasks)
        self.between.append(seconds - sum(took.values()))
        return seconds

    def empty(self) -> float:
        """Run the empty DAG; return its seconds."""
        run_id, seconds = self._run("empty")
        states = set(self.api.task_states("empty", run_id).values())
        assert states == {"success"}, states
        return seconds

    def _run(self, dag_id: str) -> tuple[str, float]:
        run_id = self.api.trigger(dag_id)
        state = self.api.wait_for_run(dag_id, run_id, 600)
        assert state == "success", (dag_id, self.api.task_states(dag_id, run_id))
        run = self.api.run(dag_id, run_id)
        return run_id, _seconds(run["queued_at"], run["end_date"])

    def _check(self, origin: str) -> None:
        """Assert that the run did what it says: the column, and each stage with what only real work leaves."""
        with self.target.connect("bench") as connection:
            stages: dict[str, Any] = dict(
                connection.execute(
                    "SELECT s.stage, s.result FROM schema_change.stage AS s JOIN schema_change.run AS r USING (run_id)"
                    " WHERE r.requested_from = %s AND r.status = 'applied' AND s.status = 'done'",
                    [origin],
                ).fetchall()
            )
            columns = connection.execute(
                "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.features'::regclass AND attname = %s",
                [f"added_{self.number}"],
            ).fetchone()
        assert columns == (1,), columns
        assert set(stages) == set(_WORKING), stages.keys()
        assert stages["backup"]["rows"] == 1000, stages["backup"]
        assert stages["rehearse"]["rollback"] == "catalog and data equal", stages["rehearse"]
        checks = stages["validate"]["expectations"]
        assert [c["status"] for c in checks] == ["passed"] * 2, checks


def _target(bench: Bench) -> Target:
    target = bench.database("target")
    with target.connect("bench") as connection:
        connection.execute("CREATE TABLE public.features (id integer PRIMARY KEY, name text NOT NULL)")
        connection.execute("INSERT INTO public.features SELECT g, 'name ' || g FROM generate_series(1, 1000) AS g")
    return target


@contextmanager
def _airflow(bench: Bench, target: Target) -> Iterator[Airflow]:
    """Yield an Airflow that knows a change for each round and one to warm up, and the empty DAG."""
    dags = bench.folder / "dags"
    dags.mkdir()
    shutil.copy(ROOT / "dags" / "changes.py", dags)
    include = bench.folder / "include"
    numbers = range(1, bench.rounds + 2)
    for number in numbers:
        folder = include / "sql" / "changes" / _change_id(number)
        folder.mkdir(parents=True)
        (folder / "change.yaml").write_text(_CHANGE_FILE.format(number=number), "utf-8")
    (include / "expectations").mkdir()
    (include / "expectations" / "features.yaml").write_text(_SUITE, "utf-8")
    airflow = Airflow(
        home=bench.folder / "airflow",
        metadata=bench.database("airflow"),
        port=free_port(),
        dags=dags,
        plugins=ROOT / "plugins",
        connections={"target": target},
        settings={
            "AIRFLOW__SCHEMA_CHANGE__ARTIFACTS_URL": (bench.folder / "artifacts").as_uri(),
            # Compiled code is kept, as it is wherever a package is installed.
            "PYTHONDONTWRITEBYTECODE": "",
        },
    )
    try:
        airflow.start()
        airflow.wait_healthy(300)
        airflow.wait_for_dags(*map(_change_id, numbers), timeout=300)
        with airflow.api() as api:
            (dags / "empty.py").write_text(_EMPTY_DAG.format(shape=json.dumps(_shape(api))), "utf-8")
        airflow.wait_for_dags("empty", timeout=300)
        yield airflow
    finally:
        airflow.stop()


def _shape(api: AirflowApi) -> list[dict[str, Any]]:
    words = ("task_id", "trigger_rule", "downstream_task_ids")
    return [{word: task[word] for word in words} for task in api.tasks(_change_id(1))]


def _import(airflow: Airflow) -> float:
    command = [sys.executable, "-c", _IMPORT]
    done = subprocess.run(command, env=airflow.environment(), capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _dump_and_restore(bench: Bench, target: Target) -> float:
    """Return the seconds of a dump and a restore by hand."""
    with target.connect("bench") as connection:
        client = client_for(connection.info.server_version)
    folder = bench.folder / "by_hand"
    with target.client_environment() as environment, stopwatch() as seconds:
        dump = [client.tool("pg_dump"), "-Fd", "-j2", "-f", str(folder)]
        subprocess.run(dump, env=environment, check=True)
        subprocess.run([client.tool("createdb"), "by_hand"], env=environment, check=True)
        restore = [client.tool("pg_restore"), "-j2", "-d", "by_hand", str(folder)]
        subprocess.run(restore, env=environment, check=True)
    shutil.rmtree(folder)
    with target.with_database("by_hand").connect("bench") as connection:
        rows = connection.execute("SELECT count(*) FROM public.features").fetchone()
    assert rows == (1000,), rows
    with target.connect("bench") as connection:
        connection.execute("DROP DATABASE by_hand WITH (FORCE)")
    return seconds()


def _settings(airflow: Airflow) -> dict[str, str]:
    words = ("CORE__EXECUTOR", "CORE__PARALLELISM", "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME")
    return {word.lower(): airflow.environment()[f"AIRFLOW__{word}"] for word in words}


def _change_id(number: int) -> str:
    return f"{number:03}_add_column"


def _seconds(start: str, end: str) -> float:
    return (dt.datetime.fromisoformat(end) - dt.datetime.fromisoformat(start)).total_seconds()
