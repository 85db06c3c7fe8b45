"""A column is added to the warehouse through a real Airflow: asked for with conf, approved, seen in the grid."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.airflow import Airflow
from demo.postgres import Server, free_port
from schema_change.core.database import Target
from tests.airflow_home import ROOT
from tests.integration.warehouse.test_change import ADD, OLD, columns, nothing_is_left
from tests.integration.warehouse.warehouse import TEMPLATE, TENANTS, Warehouse, empty, sources, warehouse

__all__ = ["empty", "sources", "warehouse"]

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.parametrize("server", [18], indirect=True)]

DAG = "warehouse_add_column"


@pytest.fixture
def airflow(warehouse: Warehouse, target: Target, server: Server) -> Iterator[Airflow]:
    with server.target().connect("test") as admin:
        admin.execute("CREATE DATABASE airflow_of_warehouse")
    with tempfile.TemporaryDirectory(prefix="airflow_warehouse_") as folder:
        home = Path(folder)
        (home / "include" / "sql" / "changes").mkdir(parents=True)
        (home / "approvers.yaml").write_text("database_administrator: [dba]\n", encoding="utf-8")
        airflow = Airflow(
            home=home / "airflow",
            metadata=server.target("airflow_of_warehouse"),
            port=free_port(),
            dags=Path(shutil.copytree(ROOT / "dags", home / "dags")),
            plugins=ROOT / "plugins",
            connections={"warehouse": target},
            settings={
                "AIRFLOW__SCHEMA_CHANGE__CHANGES_FOLDER": str(home / "include" / "sql" / "changes"),
                "AIRFLOW__SCHEMA_CHANGE__APPROVERS_FILE": str(home / "approvers.yaml"),
                "AIRFLOW__SCHEMA_CHANGE__ARTIFACTS_URL": (home / "artifacts").as_uri(),
            },
        )
        try:
            airflow.start()
            airflow.wait_healthy()
            airflow.wait_for_dags(DAG, "warehouse_refresh", "warehouse_emergency")
            yield airflow
        finally:
            airflow.stop()


def test_a_column_is_added_and_the_days_are_refreshed(airflow: Airflow, warehouse: Warehouse) -> None:
    with airflow.api("admin") as admin, airflow.api("dba") as dba:
        run_id = admin.trigger(DAG, {**ADD, "conn_id": "warehouse", "canary": ["landb"], "shards": 2})
        admin.wait_for_task(DAG, run_id, "approve", frozenset({"awaiting_input"}), 120)
        time.sleep(3)  # see AirflowApi.answer
        (question,) = admin.pending_approvals(DAG, run_id)
        assert f"{len(TENANTS)} of {len(TENANTS)} tenants" in question["body"]
        dba.answer(DAG, run_id, "approve", "Approve", {"comment": "seen"}, map_index=0)
        assert admin.wait_for_run(DAG, run_id, 300) == "success", admin.task_states(DAG, run_id)
        states = admin.task_states(DAG, run_id)
    assert {states[task] for task in ("backup", "rehearse", "migrate", "cutover", "validate", "contract")} == {
        "success"
    }
    assert columns(warehouse, f"public.{TEMPLATE}") == [*OLD[:-1], "waste_category", "schema_name"]
    nothing_is_left(warehouse)
    before = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    with airflow.api("admin") as admin:
        run_id = admin.trigger("warehouse_refresh", {"conn_id": "warehouse"})
        assert admin.wait_for_run("warehouse_refresh", run_id, 120) == "success"
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before
