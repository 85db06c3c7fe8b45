"""A real Airflow runs every change under ``include/sql/changes``, as a person would trigger and approve them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import weather
from demo.airflow import Airflow
from demo.api import FINAL_STATES
from demo.follow import ANSWER_AFTER
from demo.postgres import Server, free_port
from schema_change.core.changes.load import load_changes
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.journal.journal import get_run
from schema_change.operators.request import run_id_of
from tests import examples
from tests.airflow_home import ROOT

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1800)]

#: Users who approve, in the roles of include/approvals.yaml.
APPROVERS = ("dba", "lead", "owner")
#: As long as a test can wait, and a look every second.
SOAK = ("soak: {hours: 48}", "soak: {hours: 0.002, every_s: 1}")


@pytest.fixture(scope="module")
def targets(server_18: Server) -> dict[str, Target]:
    """The demo's databases by connection, the weather generated."""
    with server_18.target().connect("test") as admin:
        for name in ("airflow_examples", "examples_weather", "examples_shop"):
            admin.execute(f"CREATE DATABASE {name}".encode())
    shop = server_18.target("examples_shop", "shop")
    weather.generate(server_18.target("examples_weather", "weather"), rows=examples.ROWS, seed=7)
    with shop.connect("load") as connection, connection.transaction():
        weather.run_script(connection, "shop")
    return {
        "weather": server_18.target("examples_weather", "weather"),
        "flights": server_18.target("examples_weather", "flights"),
        "shop": shop,
    }


@pytest.fixture(scope="module")
def include() -> Iterator[Path]:
    """A copy of the folder ``include`` in which nothing soaks for two days."""
    with tempfile.TemporaryDirectory(prefix="examples_") as folder:
        copy = Path(shutil.copytree(ROOT / "include", Path(folder) / "include"))
        soaking = [f for f in (copy / "sql" / "changes").glob("*/change.yaml") if SOAK[0] in f.read_text("utf-8")]
        assert soaking
        for file in soaking:
            file.write_text(file.read_text("utf-8").replace(*SOAK), "utf-8")
        yield copy


@pytest.fixture(scope="module")
def airflow(targets: dict[str, Target], include: Path, server_18: Server) -> Iterator[Airflow]:
    """A real Airflow with the DAGs of this repository."""
    home = include.parent
    airflow = Airflow(
        home=home / "airflow",
        metadata=server_18.target("airflow_examples"),
        port=free_port(),
        dags=ROOT / "dags",
        plugins=ROOT / "plugins",
        connections=targets,
        settings={
            "AIRFLOW__SCHEMA_CHANGE__CHANGES_FOLDER": str(include / "sql" / "changes"),
            "AIRFLOW__SCHEMA_CHANGE__EXPECTATIONS_FOLDER": str(include / "expectations"),
            "AIRFLOW__SCHEMA_CHANGE__APPROVERS_FILE": str(include / "approvals.yaml"),
            "AIRFLOW__SCHEMA_CHANGE__ARTIFACTS_URL": (home / "artifacts").as_uri(),
        },
    )
    try:
        airflow.start()
        airflow.wait_healthy()
        airflow.wait_for_dags("add_column", *examples.OUTCOMES)
        yield airflow
    finally:
        airflow.stop()


def land(airflow: Airflow, dag_id: str, conf: dict[str, Any] | None = None) -> Generator[None, None, str]:
    """Trigger a run, approve whatever is asked, and demand success; yield while it goes on, return its id."""
    with airflow.api("admin") as admin:
        run_id = admin.trigger(dag_id, conf)
        asked: dict[int, float] = {}
        deadline = time.monotonic() + 300
        while (state := admin.run_state(dag_id, run_id)) not in FINAL_STATES:
            assert time.monotonic() < deadline, (dag_id, admin.task_states(dag_id, run_id))
            for task in admin.task_instances(dag_id, run_id):
                if task["state"] != "awaiting_input":
                    continue
                since = asked.setdefault(task["map_index"], time.monotonic())
                if time.monotonic() - since >= ANSWER_AFTER:
                    asked[task["map_index"]] = float("inf")
                    approve(airflow, dag_id, run_id, task["map_index"])
            yield
        if state != "success":
            failed = [t for t, s in admin.task_states(dag_id, run_id).items() if s == "failed"]
            logs = "\n".join(admin.log(dag_id, run_id, task)[-3000:] for task in failed if task != "approve")
            raise AssertionError(f"{dag_id} is {state}: {failed}\n{logs}")
    return run_id


def approve(airflow: Airflow, dag_id: str, run_id: str, map_index: int) -> None:
    """Approve as the one user whom Airflow lets answer this question."""
    refused = []
    for user in APPROVERS:
        with airflow.api(user) as api:
            try:
                api.answer(dag_id, run_id, "approve", "Approve", {"comment": None}, map_index=map_index)
            except ConfigurationError as error:
                refused.append(str(error))
            else:
                return
    raise AssertionError(f"nobody may answer {dag_id}: {refused}")


def land_chain(airflow: Airflow, target: Target, dag_ids: list[str]) -> Iterator[None]:
    """Land changes one after the other; yield while they go on."""
    for dag_id in dag_ids:
        examples.apply_writes(target, dag_id)
        run_id = yield from land(airflow, dag_id)
        with target.connect("test") as connection:
            run = get_run(connection, run_id_of(dag_id, run_id))
            assert run is not None
            assert (run.status, run.requested_by) == ("applied", "admin"), dag_id
            examples.assert_outcome(connection, dag_id)


def go_on(chains: list[Iterator[None]]) -> None:
    """Let all go on at the same time until each has ended; the first failure ends them all."""
    while chains:
        chains = [chain for chain in chains if next(chain, chain) is not chain]
        time.sleep(0.3)


def test_every_example_lands(airflow: Airflow, include: Path, targets: dict[str, Target]) -> None:
    """Those of one database follow one another; both databases are changed at the same time."""
    changes = load_changes(include / "sql" / "changes", expectations_root=include / "expectations").changes
    ids = {conn_id: [c.id for c in changes if c.conn_id == conn_id] for conn_id in examples.CHAINS}
    go_on(
        [
            land_chain(airflow, targets["weather"], ids["weather"] + ids["flights"]),
            land_chain(airflow, targets["shop"], ids["shop"]),
        ]
    )
    with targets["weather"].connect("test") as connection:
        assert examples.versions(connection) == {
            "flights": "v1.1.0",
            "quarterly_cloudcover_features": "v2.0.0",
            "quarterly_temperature_features": "v2.3.0",
        }


def test_a_procedure_lands_without_a_file(airflow: Airflow, targets: dict[str, Target]) -> None:
    asked = {
        "conn_id": "shop",
        "table": "public.customers",
        "column": "greeting",
        "type": "text",
        "fill": "'Dear ' || split_part(email, '@', 1)",
    }
    go_on([land(airflow, "add_column", asked)])
    with targets["shop"].connect("test") as connection:
        found = connection.execute("SELECT greeting FROM public.customers WHERE id = 3").fetchall()
        assert found == [("Dear customer3",)]
        landed = "SELECT status, conn_id FROM schema_change.run WHERE change_name = 'add_column_customers_greeting'"
        assert connection.execute(landed).fetchall() == [("applied", "shop")]
