"""The upkeep of the template warehouse through Airflow's own task runner, on real databases."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from schema_change.core.database import Target
from schema_change.core.warehouse.toolkit import verify
from schema_change.factory import warehouse as dags
from tests.airflow_home import ROOT
from tests.integration.warehouse.warehouse import TEMPLATE, TODAY, Warehouse, empty, sources, warehouse

__all__ = ["empty", "sources", "warehouse"]

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the warnings here are those of Airflow's own code
    pytest.mark.parametrize("server", [18], indirect=True),
]


@pytest.fixture
def airflow(change: object, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow that knows the DAGs, and the connection they are for."""
    shutil.copy(ROOT / "dags" / "warehouse.py", Path(os.environ["AIRFLOW_HOME"]) / "dags")
    p = target.parameters
    monkeypatch.setenv(
        "AIRFLOW_CONN_WAREHOUSE",
        f"postgresql://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}?{urlencode({'sslmode': 'prefer'})}",
    )
    monkeypatch.setenv("AIRFLOW__SCHEMA_CHANGE__WAREHOUSE_CONN_ID", "warehouse")


def run(dag: Any, **conf: Any) -> tuple[str, dict[str, str]]:
    """Return the state of a DAG run, and of its tasks by name."""
    dag_run = dag.test(run_conf=conf)
    return str(dag_run.state), {
        ti.rendered_map_index or ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()
    }


@pytest.mark.usefixtures("airflow")
def test_the_toolkit_is_installed(target: Target) -> None:
    assert run(dags.install_dag()) == ("success", {"install": "success"})
    with target.connect("test") as session:
        assert verify(session).is_complete


@pytest.mark.usefixtures("airflow")
def test_a_tenant_that_fails_costs_no_other(warehouse: Warehouse) -> None:
    with warehouse.sources["landb"].connect("test") as source:
        source.execute("INSERT INTO public.foodlog SELECT 10000, 1, 1, %s::date + interval '12 hours', 'late'", [TODAY])
    before = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    good = {"members": "success", f"bistro {TEMPLATE}": "success", f"landb {TEMPLATE}": "success"}
    assert run(dags.refresh_dag()) == ("success", good)
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before + 1
    # Something that no later try can mend.
    with warehouse.sources["bistro"].connect("test") as source:
        source.execute("ALTER TABLE public.foodlog RENAME TO elsewhere")
    with warehouse.sources["landb"].connect("test") as source:
        source.execute("DELETE FROM public.foodlog WHERE id = 10000")
    assert run(dags.refresh_dag(), days=1) == ("failed", {**good, f"bistro {TEMPLATE}": "failed"})
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before


@pytest.mark.usefixtures("airflow")
def test_an_emergency_and_its_end(warehouse: Warehouse) -> None:
    tenants = f"SELECT array_agg(DISTINCT schema_name ORDER BY schema_name) FROM public.{TEMPLATE}"
    warehouse.session.execute("UPDATE _wh.tenant_connections SET dbname = 'nowhere' WHERE tenant_name = 'landb-prod'")
    for restore, seen in (("healthy tenants only", ["bistro"]), ("everything again", ["bistro", "landb"])):
        state, _ = run(dags.emergency_dag(), template=TEMPLATE, restore=restore)
        assert state == "success"
        assert warehouse.one(tenants) == seen


@pytest.mark.usefixtures("airflow")
def test_the_last_year_is_folded_already(warehouse: Warehouse) -> None:
    state, tasks = run(dags.fold_year_dag(), templates=[TEMPLATE])
    assert (state, len(tasks)) == ("success", 3)
