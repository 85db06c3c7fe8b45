"""People approve and reject through Airflow's own API; the DAGs beside the changes do their work.

The tests follow one another: the last ones look at what the first one did.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.airflow import Airflow
from demo.api import AirflowApi
from demo.postgres import Server, free_port
from schema_change.core.backfill import control
from schema_change.core.database import Connection, Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.journal.journal import RunRow, get_run
from schema_change.operators.request import run_id_of
from tests.airflow_home import ROOT
from tests.changes import write_change

pytestmark = pytest.mark.system

DBA = "database_administrator"
SHOP = "shop"
SUITE = """
name: features
table: public.features
expectations:
  - type: expect_table_row_count_to_be_between
    kwargs: {min_value: 10}
"""


LAB = "lab"
PLANT = "plant"
FAST = {"skip_backup": True, "skip_rehearsal": True}
#: Another DAG fills its column, it soaks for some seconds, and is looked after at once.
AROUND = """
description: A column that another DAG fills
conn_id: lab
operations:
  - add_column:
      table: public.features
      column: {name: extreme_3, type: integer}
backfill_dag: {dag_id: fill_lab, conf: {column: extreme_3, value: 7}}
soak: {hours: 0.002, every_s: 10}
follow_ups:
  - name: every row has it
    after_hours: 0
    no_rows: SELECT id FROM features WHERE extreme_3 IS DISTINCT FROM 7
"""
#: A person pauses its backfill, and somebody reads the table when it comes to the end.
SLOW = """
description: A column that is filled in batches
conn_id: lab
operations:
  - add_column:
      table: public.features
      column: {name: extreme_4, type: integer}
      fill: features.id * 2
"""
#: Large enough to be cut in two.
LARGE = """
description: A column that two tasks fill
conn_id: plant
operations:
  - add_column:
      table: public.measurements
      column: {name: extreme_5, type: integer}
      fill: measurements.id * 2
"""
#: A wait is put aside after some seconds, and not after half a minute.
IMPATIENT = """
from schema_change.operators import stage
stage._PARK_AFTER_S = 4.0
"""
FILL_LAB = """
from airflow.sdk import dag, get_current_context, task
from psycopg import sql
from schema_change.hooks.schema_change import target_of

@dag(schedule=None)
def fill_lab():
    @task
    def fill():
        conf = get_current_context()["dag_run"].conf
        update = sql.SQL("UPDATE public.features SET {} = %s").format(sql.Identifier(conf["column"]))
        with target_of("lab").connect("fill") as connection:
            connection.execute(update, [conf["value"]])
    fill()

fill_lab()
"""


def database(server: Server, name: str, *statements: bytes) -> Target:
    """Make a database, named like its connection, with what these statements make."""
    with server.target().connect("test") as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    target = server.target(name, name)
    with target.connect("test") as connection:
        for statement in statements:
            connection.execute(statement)
    return target


FEATURES = (
    b"CREATE TABLE public.features (id integer PRIMARY KEY)",
    b"INSERT INTO public.features SELECT generate_series(1, 10)",
)


@pytest.fixture(scope="module")
def lab(server_18: Server) -> Target:
    """A database whose columns another DAG fills."""
    return database(server_18, LAB, *FEATURES)


@pytest.fixture(scope="module")
def plant(server_18: Server) -> Target:
    """A database with a table of a size that is cut into shards."""
    return database(
        server_18,
        PLANT,
        b"CREATE TABLE public.measurements (id integer PRIMARY KEY)",
        b"INSERT INTO public.measurements SELECT generate_series(1, 150000)",
        b"ANALYZE public.measurements",
    )


@pytest.fixture(scope="module")
def shop(server_18: Server) -> Target:
    """A table with a view on it, which makes a change of it one that somebody has to approve."""
    database(server_18, "airflow")
    return database(server_18, SHOP, *FEATURES, b"CREATE VIEW public.readers AS SELECT id FROM public.features")


@pytest.fixture(scope="module")
def airflow(shop: Target, lab: Target, plant: Target, server_18: Server) -> Iterator[Airflow]:
    """A real Airflow that knows two changes of the shop and more of others, a suite, and a DAG that fills data."""
    with tempfile.TemporaryDirectory(prefix="airflow_system_") as folder:
        home = Path(folder)
        for number in (1, 2):
            write_change(home / "include" / "sql" / "changes", number, conn_id=SHOP)
        write_change(home / "include" / "sql" / "changes", 3, text=AROUND)
        write_change(home / "include" / "sql" / "changes", 4, text=SLOW)
        write_change(home / "include" / "sql" / "changes", 5, text=LARGE)
        dags = Path(shutil.copytree(ROOT / "dags", home / "dags"))
        with (dags / "changes.py").open("a", encoding="utf-8") as file:
            file.write(IMPATIENT)
        (dags / "fill_lab.py").write_text(FILL_LAB, encoding="utf-8")
        suites = home / "include" / "expectations"
        suites.mkdir()
        (suites / "features.yaml").write_text(SUITE, encoding="utf-8")
        (home / "approvers.yaml").write_text(f"{DBA}: [dba]\n", encoding="utf-8")
        airflow = Airflow(
            home=home / "airflow",
            metadata=server_18.target("airflow"),
            port=free_port(),
            dags=dags,
            plugins=ROOT / "plugins",
            connections={SHOP: shop, LAB: lab, PLANT: plant},
            settings={
                "AIRFLOW__SCHEMA_CHANGE__CHANGES_FOLDER": str(home / "include" / "sql" / "changes"),
                "AIRFLOW__SCHEMA_CHANGE__EXPECTATIONS_FOLDER": str(suites),
                "AIRFLOW__SCHEMA_CHANGE__APPROVERS_FILE": str(home / "approvers.yaml"),
                "AIRFLOW__SCHEMA_CHANGE__ARTIFACTS_URL": (home / "artifacts").as_uri(),
            },
        )
        try:
            airflow.start()
            airflow.wait_healthy()
            airflow.wait_for_dags(change_id(1), "reconcile", "data_quality", "restore", "follow_ups", "fill_lab")
            yield airflow
        finally:
            airflow.stop()


@pytest.fixture
def connection(shop: Target) -> Iterator[Connection]:
    with shop.connect("test") as connection:
        yield connection


def change_id(number: int) -> str:
    return f"{number:03}_add_extreme_{number}"


def ask(api: AirflowApi, dag_id: str) -> str:
    """Trigger a run and wait until it asks for approval; return its id."""
    run_id = api.trigger(dag_id)
    try:
        api.wait_for_task(dag_id, run_id, "approve", frozenset({"awaiting_input"}), 60)
    except ConfigurationError as error:
        raise AssertionError(f"{error}\n{api.log(dag_id, run_id, 'plan')}") from error
    time.sleep(3)  # see AirflowApi.answer
    return run_id


def journal(connection: Connection, dag_id: str, run_id: str) -> RunRow:
    run = get_run(connection, run_id_of(dag_id, run_id))
    assert run is not None
    return run


def has_column(connection: Connection, name: str) -> bool:
    sql = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.features'::regclass AND attname = %s"
    return connection.execute(sql, [name]).fetchone() == (1,)


def test_who_has_the_role_approves_and_the_change_lands(airflow: Airflow, connection: Connection) -> None:
    dag_id = change_id(1)
    with airflow.api("admin") as admin, airflow.api("lead") as lead, airflow.api("dba") as dba:
        run_id = ask(admin, dag_id)
        (question,) = admin.pending_approvals(dag_id, run_id)
        assert "readers" in question["body"]
        for other in (lead, admin):
            with pytest.raises(ConfigurationError, match="403"):
                other.answer(dag_id, run_id, "approve", "Approve", {"comment": None}, map_index=0)
        dba.answer(dag_id, run_id, "approve", "Approve", {"comment": "seen the view"}, map_index=0)
        assert admin.wait_for_run(dag_id, run_id, 120) == "success", admin.task_states(dag_id, run_id)
    assert has_column(connection, "extreme_1")
    run = journal(connection, dag_id, run_id)
    assert (run.status, run.requested_by) == ("applied", "admin")


def test_a_rejection_ends_the_run_before_anything_is_touched(airflow: Airflow, connection: Connection) -> None:
    dag_id = change_id(2)
    with airflow.api("admin") as admin, airflow.api("dba") as dba:
        run_id = ask(admin, dag_id)
        dba.answer(dag_id, run_id, "approve", "Reject", {"comment": "not today"}, map_index=0)
        assert admin.wait_for_run(dag_id, run_id, 120) == "failed"
        states = admin.task_states(dag_id, run_id)
    assert (states["approve"], states["backup"], states["migrate"]) == ("failed", "upstream_failed", "upstream_failed")
    assert (states["rollback"], states["report"], states["outcome"]) == ("skipped", "success", "failed")
    run = journal(connection, dag_id, run_id)
    assert run.status == "stopped"
    assert "rejected by dba: not today" in str(run.error)
    assert not has_column(connection, "extreme_2")


def test_nobody_approves_the_run_they_asked_for(airflow: Airflow) -> None:
    dag_id = change_id(2)
    with airflow.api("dba") as dba:
        run_id = dba.trigger(dag_id)
        assert dba.wait_for_run(dag_id, run_id, 120) == "failed"
        assert dba.task_states(dag_id, run_id)["approve"] == "failed"


def test_reconcile_ends_a_run_that_was_marked_failed(airflow: Airflow, connection: Connection) -> None:
    """Airflow skips the rollback of a run that a person marks as failed."""
    dag_id = change_id(2)
    with airflow.api("admin") as admin:
        run_id = ask(admin, dag_id)
        admin.set_run_state(dag_id, run_id, "failed")
        assert journal(connection, dag_id, run_id).status == "planned"
        admin.wait_for_run("reconcile", admin.trigger("reconcile", {"conn_ids": [SHOP]}), 120)
    assert journal(connection, dag_id, run_id).status == "stopped"


def test_the_data_of_a_connection_are_checked(airflow: Airflow, connection: Connection) -> None:
    with airflow.api("admin") as admin:
        run_id = admin.trigger("data_quality", {"conn_ids": [SHOP]})
        assert admin.wait_for_run("data_quality", run_id, 120) == "success"
    stored = (
        "SELECT suite, status FROM schema_change.data_quality_results WHERE dag_id = 'data_quality' AND run_id = %s"
    )
    assert connection.execute(stored, [f"data_quality/{run_id}"]).fetchall() == [("features", "passed")]


def test_a_backup_is_put_back_when_the_person_says_which(airflow: Airflow, connection: Connection) -> None:
    found = connection.execute("SELECT run_id FROM schema_change.run WHERE status = 'applied'").fetchone()
    assert found is not None
    asked = {"conn_id": SHOP, "run_id": str(found[0]), "confirm": change_id(2)}
    connection.execute("DELETE FROM public.features WHERE id > 3")
    with airflow.api("admin") as admin:
        assert admin.wait_for_run("restore", admin.trigger("restore", asked), 120) == "failed"
        assert connection.execute("SELECT count(*) FROM public.features").fetchone() == (3,)
        run_id = admin.trigger("restore", {**asked, "confirm": change_id(1)})
        assert admin.wait_for_run("restore", run_id, 120) == "success", admin.log("restore", run_id, "restore")
    assert connection.execute("SELECT count(*) FROM public.features").fetchone() == (10,)


def test_another_dag_fills_the_data_and_the_change_soaks_without_a_worker(airflow: Airflow, lab: Target) -> None:
    dag_id = change_id(3)
    with airflow.api("admin") as admin, lab.connect("test") as connection:
        run_id = admin.trigger(dag_id, FAST)
        assert admin.wait_for_task(dag_id, run_id, "soak", frozenset({"deferred", "failed"}), 200) == "deferred"
        assert admin.wait_for_run(dag_id, run_id, 120) == "success", admin.task_states(dag_id, run_id)
        run = journal(connection, dag_id, run_id)
        assert run.status == "applied"
        assert connection.execute("SELECT sum(extreme_3) FROM public.features").fetchone() == (70,)
        stages = "SELECT stage, status, tries FROM schema_change.stage"
        assert {("backfill_dag", "done", 1), ("soak", "done", 1)} <= set(connection.execute(stages).fetchall())
        follow_up = admin.trigger("follow_ups", {"conn_ids": [LAB]})
        assert admin.wait_for_run("follow_ups", follow_up, 120) == "success"
        checks = "SELECT name, status FROM schema_change.follow_up"
        assert connection.execute(checks).fetchall() == [("every row has it", "passed")]


def test_a_pause_and_a_wait_for_a_lock_hold_no_worker(airflow: Airflow, lab: Target) -> None:
    """Both are parked in the triggerer after a while, leave no session, and go on by themselves."""
    dag_id = change_id(4)
    ours = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'lab' AND pid <> pg_backend_pid()"
        " AND application_name LIKE 'schema_change:%' AND application_name <> 'schema_change:waiting'"
    )
    parked = frozenset({"deferred", "failed", "success", "upstream_failed"})
    with airflow.api("admin") as admin, lab.connect("test") as connection, lab.connect("reader") as reader:
        run_id = admin.trigger(dag_id, FAST)
        admin.wait_for_task(dag_id, run_id, "plan", frozenset({"success", "failed"}), 120)
        control.pause(connection, run_id_of(dag_id, run_id), "ann")
        assert admin.wait_for_task(dag_id, run_id, "backfill", parked, 120) == "deferred"
        reason = "SELECT throttle_reason FROM schema_change.backfill"
        assert connection.execute(reason).fetchone() == ("paused by ann",)
        assert connection.execute(ours).fetchone() == (1,)  # the reader
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM public.features")
        control.resume(connection, run_id_of(dag_id, run_id), "ann")
        assert admin.wait_for_task(dag_id, run_id, "contract", parked, 120) == "deferred", (
            admin.task_states(dag_id, run_id),
            admin.log(dag_id, run_id, "backfill"),
        )
        assert connection.execute(ours).fetchone() == (1,)
        reader.execute("COMMIT")
        assert admin.wait_for_run(dag_id, run_id, 120) == "success", admin.task_states(dag_id, run_id)
        assert connection.execute("SELECT sum(extreme_4) FROM public.features").fetchone() == (110,)
        tries = "SELECT stage, tries FROM schema_change.stage WHERE run_id = %s AND stage IN ('backfill', 'contract')"
        assert set(connection.execute(tries, [run_id_of(dag_id, run_id)])) == {("backfill", 1), ("contract", 1)}


@pytest.mark.slow
def test_two_mapped_tasks_fill_a_large_table(airflow: Airflow, plant: Target) -> None:
    dag_id = change_id(5)
    with airflow.api("admin") as admin, plant.connect("test") as connection:
        run_id = admin.trigger(dag_id, {**FAST, "shards": 2})
        assert admin.wait_for_run(dag_id, run_id, 240) == "success", admin.task_states(dag_id, run_id)
        shards = "SELECT shard, status, rows_done > 60000 FROM schema_change.backfill WHERE run_id = %s ORDER BY shard"
        run = run_id_of(dag_id, run_id)
        assert connection.execute(shards, [run]).fetchall() == [(0, "done", True), (1, "done", True)]
        stage = "SELECT status, tries FROM schema_change.stage WHERE run_id = %s AND stage = 'backfill'"
        assert connection.execute(stage, [run]).fetchall() == [("done", 1)]
        wrong = "SELECT count(*) FROM public.measurements WHERE extreme_5 IS DISTINCT FROM id * 2"
        assert connection.execute(wrong).fetchone() == (0,)
