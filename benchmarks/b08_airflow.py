"""B8: the whole DAG of an instant change on a real Airflow, against DAGs of the same shape whose tasks do nothing.

Everything is on: backup, verification by a restore, rehearsal, Great Expectations, report; nobody has to approve. There
is next to no data to move, so what is left is Airflow's own time, ours, the import of Great Expectations, and one dump
and one restore. Those are measured beside it: the import runs in a process that has loaded what a worker has; dump and
restore are pg_dump and pg_restore as one types them, with the database to restore into. The empty DAGs have the same
tasks, edges and trigger rules. In one of them only the tasks start a process that do so in the change; the others,
which the change skips, are EmptyOperators, which Airflow ends without one. In the other every task starts a process,
as the goal is worded, which allows more.

A run lasts from the moment it was queued to its end, as Airflow's own database says. Airflow has its defaults, except
for what demo/airflow.py sets to start quickly (see the setting). Every run has to end well, every stage to have done
its work, and the column to be there.

The deferred case, in a database of its own: a change whose table somebody else's transaction holds until the change's
task has been put aside, and some seconds more. It counts the seconds from before that transaction's COMMIT until the
journal says that the step is done, by the server's clock.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.measure import Figure, Goal, Result, noise, ratio, stopwatch, take_turns
from demo.airflow import Airflow
from demo.api import FINAL_STATES, AirflowApi
from demo.postgres import free_port
from schema_change.core.binaries import client_for
from schema_change.core.database import Target

_ROWS = 1000
ROOT = Path(__file__).resolve().parents[1]
CHANGE, FEWER, EMPTY, AGAIN = "the change", "empty tasks as the change starts", "empty tasks", "empty tasks again"
IMPORT, DUMP = "import of Great Expectations", "dump and restore"
#: Seconds that may come on top of the sum, and after a lock is free until a deferred step is done.
ALLOWED, PROMPT = 3.0, 5.0
#: For the deferred case: after how many seconds (of 30) a wait is put aside, and how long it is held on then.
PARK_AFTER_S, _HELD_S, _DEFERRED_ROUNDS = 3.0, 2.0, 2

_CHANGE_FILE = """
description: A column without a value
conn_id: {conn_id}
operations:
  - add_column:
      table: public.features
      column: {{name: {column}, type: integer}}
"""
_EXPECTATIONS = "expectations: features.yaml\n"
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
from airflow.providers.standard.operators.empty import EmptyOperator

class Nothing(BaseOperator):
    def execute(self, context):
        return None

with DAG({dag_id!r}, schedule=None):
    shape = json.loads({shape!r})
    tasks = {{}}
    for t in shape:
        kind = Nothing if t["starts"] else EmptyOperator
        tasks[t["task_id"]] = kind(task_id=t["task_id"], trigger_rule=t["trigger_rule"])
    for t in shape:
        tasks[t["task_id"]] >> [tasks[other] for other in t["downstream_task_ids"]]
"""
#: The changes of another folder as Airflow DAGs, whose tasks wait for a shorter time before they are put aside.
_IMPATIENT_DAGS = """
from pathlib import Path
from schema_change.factory.loading import load_change_dags
from schema_change.operators import stage

stage._PARK_AFTER_S = {park_after_s}
globals().update(load_change_dags(Path({folder!r})))
"""
#: What a worker has loaded when it comes to validate; then the import alone.
_IMPORT = """
import time
import airflow.sdk.execution_time.task_runner, schema_change.core.stages.runner
started = time.perf_counter()
import great_expectations
print(time.perf_counter() - started)
"""
_NOTE_TASKS = (
    "{} of the change's {} tasks start a process; of the first sum's empty tasks the same ones do and the other {} are"
    " EmptyOperators, of the second sum's all do"
)
_NOTE_SECONDS = "seconds of a task are from the start of its process to its end, as Airflow says"
_NOTE_DEFERRED = (
    "deferred: the benchmark's DAG file sets the 30 s after which a task that waits is put aside to"
    f" {PARK_AFTER_S:g} s, and nothing else; backup and rehearsal are skipped"
)
#: Stages that have work in this change, whatever it is; the others are skipped.
_WORKING = ("plan", "backup", "pre_check", "rehearse", "migrate", "validate", "contract", "report", "outcome")


def run(bench: Bench) -> Result:
    """Let changes, empty DAGs and what else is in the sums take turns; then let changes be deferred."""
    target, held = _target(bench, "target"), _target(bench, "held")
    with _airflow(bench, {"target": target, "held": held}) as airflow, airflow.api() as api:
        work = _Work(bench, airflow, api, target)
        work.warm_up()
        rounds = take_turns(
            {
                CHANGE: work.change,
                FEWER: lambda: work.empty("fewer"),
                EMPTY: lambda: work.empty("empty"),
                AGAIN: lambda: work.empty("empty"),
                IMPORT: work.imported,
                DUMP: work.dump_and_restore,
            },
            bench.rounds,
            between=bench.checkpoint,
            say=bench.say,
        )
        late = take_turns({"deferred": lambda: work.deferred(held)}, _DEFERRED_ROUNDS, say=bench.say)["deferred"]
    sums = {f"sum with {tasks}": _sums(rounds[tasks], rounds[IMPORT], rounds[DUMP]) for tasks in (FEWER, EMPTY)}
    beyond = {
        name: tuple(ours - limit for ours, limit in zip(rounds[CHANGE], s, strict=True)) for name, s in sums.items()
    }
    raw = {**rounds, **sums, "between the tasks": work.between, "deferred": late}
    skipped = work.count - len(work.tasks)
    return Result(
        "B8",
        "A change DAG without data to move",
        [
            Figure(
                "beyond empty tasks (a process where the change starts one) + import + dump and restore",
                beyond[f"sum with {FEWER}"],
                Goal(ALLOWED),
                "s",
            ),
            Figure(
                "beyond empty tasks (a process for each) + import + dump and restore",
                beyond[f"sum with {EMPTY}"],
                Goal(ALLOWED),
                "s",
            ),
            Figure(
                "deferred: from the blocker's COMMIT until the step is done", tuple(late), Goal(PROMPT), "s", exact=True
            ),
            *(Figure(f"the change against the {name}", ratio({**rounds, **sums}, CHANGE, name)) for name in sums),
            Figure("the change, from trigger to end", tuple(rounds[CHANGE]), unit="s"),
            noise(rounds, EMPTY, AGAIN),
        ],
        {**raw, **{f"task {task}": seconds for task, seconds in work.tasks.items()}},
        bench.setting(rows=_ROWS, airflow=_settings(airflow), deferred_rounds=_DEFERRED_ROUNDS),
        [_NOTE_TASKS.format(len(work.tasks), work.count, skipped), _NOTE_SECONDS, _NOTE_DEFERRED],
    )


def _sums(*parts: Sequence[float]) -> list[float]:
    return [sum(of_round) for of_round in zip(*parts, strict=True)]


class _Work:
    """Runs the DAGs and looks at what came out. ``tasks`` are the seconds of each task that ran, per round."""

    def __init__(self, bench: Bench, airflow: Airflow, api: AirflowApi, target: Target) -> None:
        self.bench = bench
        self.airflow = airflow
        self.api = api
        self.target = target
        self.number = 0
        self.deferrals = 0
        self.tasks: dict[str, list[float]] = {}
        self.count = 0
        self.between: list[float] = []

    def warm_up(self) -> None:
        """Run everything once: the first tasks of a new Airflow are slower, and files are not cached yet."""
        self.change()
        self.empty("fewer")
        self.empty("empty")
        self.imported()
        self.dump_and_restore()
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
        assert took.keys() == set(_WORKING), took.keys()
        for task, duration in took.items():
            self.tasks.setdefault(task, []).append(duration)
        self.count = len(tasks)
        self.between.append(seconds - sum(took.values()))
        return seconds

    def empty(self, dag_id: str) -> float:
        """Run an empty DAG; return its seconds."""
        run_id, seconds = self._run(dag_id)
        tasks = self.api.task_instances(dag_id, run_id)
        assert {t["state"] for t in tasks} == {"success"}, tasks
        started = {t["task_id"] for t in tasks if t["pid"]}
        assert started == ({t["task_id"] for t in tasks} if dag_id == "empty" else set(_WORKING)), started
        return seconds

    def deferred(self, held: Target) -> float:
        """Hold the table until some time after a change was deferred; return the seconds until its step is done."""
        self.deferrals += 1
        dag_id = _deferred_id(self.deferrals)
        with held.connect("bench") as blocker:
            blocker.execute("BEGIN")
            blocker.execute("SELECT count(*) FROM public.features")
            run_id = self.api.trigger(dag_id, {"skip_backup": True, "skip_rehearsal": True})
            put_aside = frozenset({"deferred", *FINAL_STATES, "upstream_failed"})
            state = self.api.wait_for_task(dag_id, run_id, "migrate", put_aside, 120)
            assert state == "deferred", self.api.task_states(dag_id, run_id)
            # Each round ends at another moment between two looks of the trigger.
            time.sleep(_HELD_S + self.deferrals / _DEFERRED_ROUNDS)
            (committed,) = blocker.execute("SELECT clock_timestamp()").fetchall()
            blocker.execute("COMMIT")
        state = self.api.wait_for_run(dag_id, run_id, 300)
        assert state == "success", (dag_id, self.api.task_states(dag_id, run_id))
        with held.connect("bench") as connection:
            done = connection.execute(
                "SELECT s.finished_at FROM schema_change.step AS s JOIN schema_change.run AS r USING (run_id)"
                " WHERE r.requested_from = %s AND r.status = 'applied' AND s.status = 'done'",
                [f"airflow:{dag_id}/{run_id}"],
            ).fetchall()
        (at,) = done
        return float((at[0] - committed[0]).total_seconds())

    def imported(self) -> float:
        """Return the seconds of the import in a process of its own."""
        command = [sys.executable, "-c", _IMPORT]
        done = subprocess.run(command, env=self.airflow.environment(), capture_output=True, text=True, check=True)
        return float(done.stdout.splitlines()[-1])

    def dump_and_restore(self) -> float:
        """Return the seconds of a dump and a restore by hand."""
        with self.target.connect("bench") as connection:
            client = client_for(connection.info.server_version)
        folder = self.bench.folder / "by_hand"
        with self.target.client_environment() as environment, stopwatch() as seconds:
            dump = [client.tool("pg_dump"), "-Fd", "-j2", "-f", str(folder)]
            subprocess.run(dump, env=environment, check=True)
            subprocess.run([client.tool("createdb"), "by_hand"], env=environment, check=True)
            restore = [client.tool("pg_restore"), "-j2", "-d", "by_hand", str(folder)]
            subprocess.run(restore, env=environment, check=True)
        shutil.rmtree(folder)
        with self.target.with_database("by_hand").connect("bench") as connection:
            rows = connection.execute("SELECT count(*) FROM public.features").fetchone()
        assert rows == (_ROWS,), rows
        with self.target.connect("bench") as connection:
            connection.execute("DROP DATABASE by_hand WITH (FORCE)")
        return seconds()

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
                [_column(self.number)],
            ).fetchone()
        assert columns == (1,), columns
        assert set(stages) == set(_WORKING), stages.keys()
        assert stages["backup"]["rows"] == _ROWS, stages["backup"]
        assert stages["rehearse"]["rollback"] == "catalog and data equal", stages["rehearse"]
        checks = stages["validate"]["expectations"]
        assert [c["status"] for c in checks] == ["passed"] * 2, checks


def _target(bench: Bench, name: str) -> Target:
    target = bench.database(name)
    with target.connect("bench") as connection:
        connection.execute("CREATE TABLE public.features (id integer PRIMARY KEY, name text NOT NULL)")
        fill = "INSERT INTO public.features SELECT g, 'name ' || g FROM generate_series(1, %s) AS g"
        connection.execute(fill, [_ROWS])
    return target


@contextmanager
def _airflow(bench: Bench, connections: Mapping[str, Target]) -> Iterator[Airflow]:
    """Yield an Airflow that knows a change for each round and one to warm up, and the empty DAG."""
    dags = bench.folder / "dags"
    dags.mkdir()
    shutil.copy(ROOT / "dags" / "changes.py", dags)
    include, late = bench.folder / "include", bench.folder / "deferred"
    ids = [_change_id(number) for number in range(1, bench.rounds + 2)]
    for number, change_id in enumerate(ids, start=1):
        _write_change(include / "sql" / "changes" / change_id, "target", _column(number), _EXPECTATIONS)
    (include / "expectations").mkdir()
    (include / "expectations" / "features.yaml").write_text(_SUITE, "utf-8")
    for number in range(1, _DEFERRED_ROUNDS + 1):
        ids.append(_deferred_id(number))
        _write_change(late / ids[-1], "held", _column(number))
    impatient = _IMPATIENT_DAGS.format(park_after_s=PARK_AFTER_S, folder=str(late))
    (dags / "deferred.py").write_text(f'"""Airflow DAGs."""\n{impatient}', "utf-8")
    airflow = Airflow(
        home=bench.folder / "airflow",
        metadata=bench.database("airflow"),
        port=free_port(),
        dags=dags,
        plugins=ROOT / "plugins",
        connections=connections,
        settings={
            "AIRFLOW__SCHEMA_CHANGE__ARTIFACTS_URL": (bench.folder / "artifacts").as_uri(),
            # Compiled code is kept, as it is wherever a package is installed.
            "PYTHONDONTWRITEBYTECODE": "",
        },
    )
    try:
        airflow.start()
        airflow.wait_healthy(300)
        airflow.wait_for_dags(*ids, timeout=300)
        with airflow.api() as api:
            shape = _shape(api)
        for dag_id, starting in (("empty", [t["task_id"] for t in shape]), ("fewer", _WORKING)):
            tasks = json.dumps([{**t, "starts": t["task_id"] in starting} for t in shape])
            (dags / f"{dag_id}.py").write_text(_EMPTY_DAG.format(dag_id=dag_id, shape=tasks), "utf-8")
        airflow.wait_for_dags("empty", "fewer", timeout=300)
        yield airflow
    finally:
        airflow.stop()


def _shape(api: AirflowApi) -> list[dict[str, Any]]:
    words = ("task_id", "trigger_rule", "downstream_task_ids")
    return [{word: task[word] for word in words} for task in api.tasks(_change_id(1))]


def _settings(airflow: Airflow) -> dict[str, str]:
    words = ("CORE__EXECUTOR", "CORE__PARALLELISM", "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME")
    return {word.lower(): airflow.environment()[f"AIRFLOW__{word}"] for word in words}


def _change_id(number: int) -> str:
    return f"{number:03}_add_column"


def _deferred_id(number: int) -> str:
    return f"{number:03}_deferred"


def _column(number: int) -> str:
    return f"added_{number}"


def _write_change(folder: Path, conn_id: str, column: str, more: str = "") -> None:
    folder.mkdir(parents=True)
    (folder / "change.yaml").write_text(_CHANGE_FILE.format(conn_id=conn_id, column=column) + more, "utf-8")


def _seconds(start: str, end: str) -> float:
    return (dt.datetime.fromisoformat(end) - dt.datetime.fromisoformat(start)).total_seconds()
