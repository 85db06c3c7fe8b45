"""SIGKILL under a real Airflow: each of migrate, backfill, validate and rollback, and the whole stack once.

Each scenario has a database of its own. It ends like the change that nobody disturbed, or exactly as before.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import yaml
from psycopg import sql

from demo.airflow import Airflow
from demo.api import AirflowApi, wait_for
from demo.postgres import Server, free_port
from schema_change.core.database import Connection, Target
from schema_change.operators.request import run_id_of
from tests.airflow_home import ROOT
from tests.bench import Bench

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]

SCENARIOS = ("undisturbed", "migrate", "backfill", "validate", "rollback", "stack")
BROKEN = "rollback"
ROWS = 20_000
TABLE = "CREATE TABLE public.readings (id integer PRIMARY KEY, celsius numeric(5,2) NOT NULL)"
FILL = "INSERT INTO public.readings SELECT g, (g %% 400) / 10.0 - 15 FROM generate_series(1, %s) AS g"
SUITE = """
name: readings
table: public.readings
expectations:
  - {type: expect_column_min_to_be_between, kwargs: {column: fahrenheit, min_value: 32}, meta: {check_id: not_frozen}}
"""


def change_id(scenario: str) -> str:
    return f"{SCENARIOS.index(scenario) + 1:03}_{scenario}"


@dataclass(frozen=True)
class Scene:
    """One scenario's database, its change and a run of it."""

    name: str
    target: Target
    airflow: Airflow
    api: AirflowApi
    run: str = "killed"

    @property
    def dag_id(self) -> str:
        return change_id(self.name)

    @property
    def run_id(self) -> UUID:
        return run_id_of(self.dag_id, self.run)

    def rows(self, statement: str, *parameters: Any) -> list[Any]:
        with self.target.connect("look") as session:
            cursor = session.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        self.airflow.trigger(self.dag_id, {}, self.run)

    def wait_for_stage(self, stage: str) -> None:
        """Wait until a stage has begun, seen in the journal."""
        installed = "SELECT to_regclass('schema_change.stage') IS NOT NULL"
        begun = "SELECT true FROM schema_change.stage WHERE run_id = %s AND stage = %s"
        wait_for(
            lambda: (self.rows(installed) == [(True,)] and self.rows(begun, self.run_id, stage)) or None, 120, stage
        )

    def wait_for_run(self) -> str:
        return self.api.wait_for_run(self.dag_id, self.run, 240)

    def kill_worker(self, stage: str) -> None:
        """SIGKILL the process that runs the stage: the one at the other end of its session."""
        look = "SELECT client_port FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
        port = wait_for(lambda: self.rows(look, f"schema_change:{stage}") or None, 60, f"the session of {stage}")[0][0]
        pids = {c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.pid}
        (pid,) = pids
        os.kill(pid, signal.SIGKILL)

    def status(self) -> str:
        return str(self.rows("SELECT status FROM schema_change.run WHERE run_id = %s", self.run_id)[0][0])

    def tries(self, stage: str) -> int:
        query = "SELECT tries FROM schema_change.stage WHERE run_id = %s AND stage = %s"
        return int(self.rows(query, self.run_id, stage)[0][0])

    def state(self) -> dict[str, Any]:
        return Bench(self.target, Path()).state()

    def speed(self, rows_per_second: int | None) -> None:
        """Slow the backfill down, or let it go."""
        self.rows(
            "INSERT INTO schema_change.control (run_id, rows_per_second) VALUES (%s, %s)"
            " ON CONFLICT (run_id) DO UPDATE SET rows_per_second = excluded.rows_per_second",
            self.run_id,
            rows_per_second,
        )


@pytest.fixture(scope="module")
def targets(server_18: Server) -> dict[str, Target]:
    found = {name: server_18.target(f"kill_{name}", f"kill_{name}") for name in SCENARIOS}
    with server_18.target().connect("test") as admin:
        for name in ("kill_airflow", *(t.database for t in found.values())):
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    for target in found.values():
        with target.connect("test") as session:
            session.execute(TABLE)
            session.execute(FILL, [ROWS])
    return found


def write_changes(root: Path) -> None:
    (root / "expectations").mkdir(parents=True)
    (root / "expectations" / "broken.yaml").write_text(SUITE, encoding="utf-8")
    for scenario in SCENARIOS:
        folder = root / "sql" / "changes" / change_id(scenario)
        folder.mkdir(parents=True)
        document: dict[str, Any] = {
            "description": f"Killed in {scenario}",
            "conn_id": f"kill_{scenario}",
            "operations": [
                {
                    "add_column": {
                        "table": "public.readings",
                        "column": {"name": "fahrenheit", "type": "numeric(6,2)"},
                        "fill": "readings.celsius * 9 / 5 + 32",
                    }
                },
                {"create_index": {"table": "public.readings", "columns": ["fahrenheit"]}},
            ],
        }
        if scenario == BROKEN:
            document["expectations"] = "broken.yaml"
        (folder / "change.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def airflow(targets: dict[str, Target], server_18: Server) -> Iterator[Airflow]:
    with tempfile.TemporaryDirectory(prefix="airflow_kill_") as folder:
        home = Path(folder)
        write_changes(home / "include")
        airflow = Airflow(
            home=home / "airflow",
            metadata=server_18.target("kill_airflow"),
            port=free_port(),
            dags=ROOT / "dags",
            plugins=ROOT / "plugins",
            connections={target.conn_id: target for target in targets.values()},
            settings={
                "AIRFLOW__SCHEMA_CHANGE__CHANGES_FOLDER": str(home / "include" / "sql" / "changes"),
                "AIRFLOW__SCHEMA_CHANGE__EXPECTATIONS_FOLDER": str(home / "include" / "expectations"),
                "AIRFLOW__SCHEMA_CHANGE__ARTIFACTS_URL": (home / "artifacts").as_uri(),
            },
        )
        try:
            airflow.start()
            airflow.wait_healthy()
            airflow.wait_for_dags(*map(change_id, SCENARIOS), "reconcile")
            yield airflow
        finally:
            airflow.stop()


@pytest.fixture(scope="module")
def scene(airflow: Airflow, targets: dict[str, Target]) -> Iterator[Callable[[str], Scene]]:
    with airflow.api() as api:
        yield lambda name: Scene(name, targets[name], airflow, api)


@pytest.fixture(scope="module")
def undisturbed(scene: Callable[[str], Scene]) -> dict[str, Any]:
    """What the change leaves behind when nobody disturbs it."""
    calm = scene("undisturbed")
    calm.start()
    assert calm.wait_for_run() == "success"
    return calm.state()


@contextmanager
def reader(scene: Scene) -> Iterator[Connection]:
    """A transaction that has read the table and stays open: no ALTER TABLE gets through."""
    with closing(scene.target.connect("reader")) as session:
        session.execute("BEGIN")
        session.execute("SELECT count(*) FROM public.readings")
        yield session


def test_migrate_killed_is_retried_and_lands(scene: Callable[[str], Scene], undisturbed: dict[str, Any]) -> None:
    it = scene("migrate")
    with reader(it):
        it.start()
        it.wait_for_stage("migrate")
        it.kill_worker("migrate")
    assert it.wait_for_run() == "success"
    assert it.tries("migrate") == 2
    assert it.state() == undisturbed


def test_backfill_killed_and_cleared_goes_on(scene: Callable[[str], Scene], undisturbed: dict[str, Any]) -> None:
    it = scene("backfill")
    it.start()
    it.wait_for_stage("plan")
    it.speed(1000)
    done = "SELECT rows_done FROM schema_change.backfill WHERE run_id = %s AND rows_done > 0"
    wait_for(lambda: it.rows(done, it.run_id) or None, 120, "the first batches")
    it.kill_worker("backfill")
    ((before_clear,),) = it.rows(done, it.run_id)
    it.api.wait_for_task(it.dag_id, it.run, "backfill", frozenset({"up_for_retry", "failed"}), 60)
    it.speed(None)
    it.api.clear(it.dag_id, it.run, "backfill")
    assert it.wait_for_run() == "success"
    assert 0 < before_clear < ROWS
    assert it.rows("SELECT rows_done FROM schema_change.backfill WHERE run_id = %s", it.run_id) == [(ROWS,)]
    assert it.state() == undisturbed


def test_validate_killed_is_retried_and_lands(scene: Callable[[str], Scene], undisturbed: dict[str, Any]) -> None:
    it = scene("validate")
    it.start()
    it.wait_for_stage("validate")
    it.kill_worker("validate")
    assert it.wait_for_run() == "success"
    assert it.tries("validate") == 2
    assert it.state() == undisturbed


def test_rollback_killed_and_the_run_marked_failed_is_reconciled(scene: Callable[[str], Scene]) -> None:
    """A run marked failed skips its rollback; the reconcile DAG finishes it."""
    it = scene("rollback")
    before = it.state()
    it.start()
    it.wait_for_stage("validate")
    with reader(it):
        it.wait_for_stage("rollback")
        it.kill_worker("rollback")
        it.api.wait_for_task(it.dag_id, it.run, "rollback", frozenset({"up_for_retry", "failed"}), 60)
        it.api.set_run_state(it.dag_id, it.run, "failed")
    assert it.status() == "rolling_back"
    it.api.wait_for_run("reconcile", it.api.trigger("reconcile", {"conn_ids": [it.target.conn_id]}), 120)
    assert it.status() == "rolled_back"
    assert it.state() == before
    assert it.rows("SELECT count(*) FROM schema_change.owner") == [(0,)]


def test_the_whole_stack_killed_in_backfill_goes_on_after_a_restart(
    scene: Callable[[str], Scene], undisturbed: dict[str, Any], airflow: Airflow
) -> None:
    it = scene("stack")
    it.start()
    it.wait_for_stage("plan")
    it.speed(1000)
    done = "SELECT rows_done FROM schema_change.backfill WHERE run_id = %s AND rows_done > 0"
    wait_for(lambda: it.rows(done, it.run_id) or None, 120, "the first batches")
    airflow.kill()
    it.speed(None)
    airflow.start()
    airflow.wait_healthy()
    assert it.wait_for_run() == "success"
    assert it.tries("backfill") >= 2
    assert it.state() == undisturbed
