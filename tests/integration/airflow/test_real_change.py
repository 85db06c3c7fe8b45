"""A change lands, and another is rolled back, through Airflow's own task runner and the real core."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode

import pytest

from schema_change.core.backfill.engine import BackfillSettings
from schema_change.core.changes.load import load_changes
from schema_change.core.changes.procedures import PROCEDURES
from schema_change.core.changes.spec import Change
from schema_change.core.database import Connection, Target
from schema_change.core.journal.journal import get_run
from schema_change.core.stages import STAGES
from schema_change.factory.change_dag import change_dag, procedure_dag
from schema_change.operators.request import run_id_of
from tests.changes import write_change

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the warnings here are those of Airflow's own code
    pytest.mark.parametrize("server", [18], indirect=True),
]

TEXT = """
description: A column with a value for every row
conn_id: shop
operations:
  - add_column:
      table: public.features
      column: {{name: doubled, type: integer}}
      fill: features.id * 2
expectations: {suite}
"""
SUITE = """
name: features
table: public.features
expectations:
  - type: expect_column_values_to_be_between
    kwargs: {{column: doubled, max_value: {most}}}
"""


@pytest.fixture
def shop(target: Target, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of a hundred rows behind the Airflow connection."""
    connection.execute("CREATE TABLE features (id integer PRIMARY KEY)")
    connection.execute("INSERT INTO features SELECT generate_series(1, 100)")
    parts = target.parameters
    extra = urlencode({"sslmode": "prefer"})
    monkeypatch.setenv(
        "AIRFLOW_CONN_SHOP",
        f"postgresql://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}?{extra}",
    )


def write(known: Change, number: int, most: int, more: str = "") -> Change:
    """Write a change beside the one Airflow knows already; at most ``most`` passes its suite."""
    root = known.folder.parent
    suites = root.parents[1] / "expectations"
    suites.mkdir(exist_ok=True)
    (suites / f"at_most_{most}.yaml").write_text(SUITE.format(most=most), encoding="utf-8")
    write_change(root, number, text=TEXT.format(suite=f"at_most_{most}.yaml") + more)
    return load_changes(root).changes[-1]


def run(change: Change) -> tuple[str, dict[str, str], str]:
    """Return the state of a DAG run, of its tasks, and its id."""
    dag_run = change_dag(change).test()
    return str(dag_run.state), {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}, dag_run.run_id


@pytest.mark.usefixtures("shop")
def test_a_change_lands(change: Change, connection: Connection) -> None:
    added = write(change, 2, most=200)
    try:
        state, tasks, dag_run_id = run(added)
    finally:
        shutil.rmtree(added.folder)
    assert state == "success", tasks
    assert {stage for stage in STAGES if tasks[stage] == "skipped"} == {
        "approve",
        "soak",
        "rollback",
        "verify_rollback",
    }
    assert connection.execute("SELECT count(*), sum(doubled) FROM features").fetchone() == (100, 10100)
    journal = get_run(connection, run_id_of(added.id, dag_run_id))
    assert journal is not None
    assert (journal.status, journal.requested_by) == ("applied", "dag_test")
    assert journal.requested_from == f"airflow:{added.id}/{dag_run_id}"


@pytest.mark.usefixtures("shop")
def test_a_change_whose_data_break_a_rule_is_rolled_back(change: Change, connection: Connection) -> None:
    added = write(change, 3, most=100)
    try:
        state, tasks, dag_run_id = run(added)
    finally:
        shutil.rmtree(added.folder)
    assert state == "failed"
    assert {stage: tasks[stage] for stage in STAGES[8:]} == {
        "validate": "failed",
        "soak": "upstream_failed",
        "contract": "upstream_failed",
        "rollback": "success",
        "verify_rollback": "success",
        "report": "success",
        "outcome": "failed",
    }
    journal = get_run(connection, run_id_of(added.id, dag_run_id))
    assert journal is not None
    assert journal.status == "rolled_back"
    assert journal.fingerprint_after == journal.fingerprint_before
    columns = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'features'::regclass AND attnum > 0"
    )
    assert "doubled" not in {name for (name,) in columns}


@pytest.mark.usefixtures("shop")
def test_a_backfill_is_mapped_over_its_shards(
    change: Change, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hundred rows are enough to be cut.
    monkeypatch.setattr("schema_change.core.stages.session.BackfillSettings", partial(BackfillSettings, max_rows=10))
    added = write(change, 4, most=200)
    try:
        dag_run = change_dag(added).test(run_conf={"shards": 3, "skip_backup": True})
    finally:
        shutil.rmtree(added.folder)
    assert str(dag_run.state) == "success"
    shards = [ti for ti in dag_run.get_task_instances() if ti.task_id == "backfill"]
    assert {(ti.map_index, str(ti.state), ti.rendered_map_index) for ti in shards} == {
        (n, "success", f"shard {n + 1}") for n in range(3)
    }
    assert connection.execute("SELECT count(*), sum(doubled) FROM features").fetchone() == (100, 10100)
    recorded = "SELECT count(*), sum(rows_done), bool_and(status = 'done') FROM schema_change.backfill"
    assert connection.execute(recorded).fetchone() == (3, 100, True)


@pytest.mark.usefixtures("shop", "change")
def test_a_procedure_needs_no_file(connection: Connection) -> None:
    conf = {"conn_id": "shop", "table": "public.features", "column": "doubled", "type": "integer"}
    values = {"fill": "features.id * 2", "nullable": False, "version_to": "v1.0.0", "skip_rehearsal": True}
    dag_run = procedure_dag(PROCEDURES["add_column"]).test(run_conf={**conf, **values})
    tasks = {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}
    assert str(dag_run.state) == "success", tasks
    assert connection.execute("SELECT count(*), sum(doubled) FROM features").fetchone() == (100, 10100)
    journal = get_run(connection, run_id_of("add_column", dag_run.run_id))
    assert journal is not None
    assert (journal.status, journal.change_name) == ("applied", "add_column_features_doubled")
    assert journal.change["operations"][0]["add_column"]["fill"] == "features.id * 2"
    registered = "SELECT table_name, version FROM schema_change.schema_registry"
    assert connection.execute(registered).fetchall() == [("features", "v1.0.0")]


def once_deferred(connection: Connection, end_it: Callable[[], object], reasons: list[str]) -> None:
    """End what a stage waits for as soon as the journal says that it does."""
    waiting = "SELECT result ->> 'summary' FROM schema_change.stage WHERE status = 'started' AND result ? 'waits_for'"
    while not reasons:
        if connection.execute("SELECT to_regclass('schema_change.stage')").fetchone() != (None,):
            reasons += [reason for (reason,) in connection.execute(waiting)]
        time.sleep(0.05)
    end_it()


@pytest.mark.usefixtures("shop", "change")
def test_a_wait_for_a_lock_goes_through_the_triggerer(
    target: Target, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schema_change.operators.stage._PARK_AFTER_S", 0.2)
    monkeypatch.setattr("schema_change.core.prechecks.sessions._IDLE_S", 1_000)
    conf = {"conn_id": "shop", "table": "public.features", "column": "remark", "type": "text"}
    reasons: list[str] = []
    with target.connect("reader") as reader, target.connect("watcher") as watcher:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM public.features")
        arguments = (watcher, partial(reader.execute, "COMMIT"), reasons)
        thread = threading.Thread(target=once_deferred, args=arguments, daemon=True)
        thread.start()
        dag_run = procedure_dag(PROCEDURES["add_column"]).test(
            run_conf={**conf, "skip_rehearsal": True, "skip_backup": True}
        )
        tasks = {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}
        assert str(dag_run.state) == "success", tasks
        assert tasks["backfill"] == tasks["cutover"] == "skipped"
        assert reasons[0].startswith("ACCESS EXCLUSIVE lock on public.features: session")
        thread.join(10)
    tries = "SELECT status, tries FROM schema_change.stage WHERE stage = 'migrate'"
    assert connection.execute(tries).fetchone() == ("done", 1)


@pytest.mark.usefixtures("shop")
def test_a_shard_waits_through_the_triggerer(
    change: Change, target: Target, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schema_change.operators.stage._PARK_AFTER_S", 0.2)
    monkeypatch.setattr("schema_change.core.stages.session.BackfillSettings", partial(BackfillSettings, max_rows=10))
    connection.execute("CREATE TABLE busy (why text)")
    connection.execute("INSERT INTO busy VALUES ('the nightly report runs')")
    added = write(change, 5, most=200, more="throttle: {sql: SELECT why FROM public.busy}\n")
    reasons: list[str] = []
    try:
        with target.connect("watcher") as watcher:
            arguments = (watcher, partial(watcher.execute, "DELETE FROM public.busy"), reasons)
            thread = threading.Thread(target=once_deferred, args=arguments, daemon=True)
            thread.start()
            dag_run = change_dag(added).test(run_conf={"shards": 2, "skip_backup": True})
            thread.join(10)
    finally:
        shutil.rmtree(added.folder)
    assert str(dag_run.state) == "success"
    assert reasons[0] == "backfill of public.features.doubled pauses: the nightly report runs"
    shards = [str(ti.state) for ti in dag_run.get_task_instances() if ti.task_id == "backfill"]
    assert shards == ["success"] * 2
    recorded = "SELECT count(*), sum(rows_done), max(throttled_ms) > 0 FROM schema_change.backfill"
    assert connection.execute(recorded).fetchone() == (2, 100, True)
    tries = "SELECT status, tries FROM schema_change.stage WHERE stage = 'backfill'"
    assert connection.execute(tries).fetchone() == ("done", 1)


@pytest.mark.usefixtures("shop", "change")
def test_a_procedure_that_may_not_be_asked_for_changes_nothing(connection: Connection) -> None:
    conf = {"conn_id": "shop", "table": "public.features", "column": "doubled", "type": "integer"}
    dag_run = procedure_dag(PROCEDURES["add_column"]).test(
        run_conf={**conf, "fill": "(SELECT count(*) FROM pg_catalog.pg_authid)"}
    )
    assert str(dag_run.state) == "failed"
    assert connection.execute("SELECT to_regnamespace('schema_change')").fetchone() == (None,)
