from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

from schema_change.factory import loading
from schema_change.factory.change_dag import change_dag
from schema_change.factory.docs import fence
from schema_change.factory.loading import BrokenChangeOperator, load_change_dags
from tests.airflow_home import ROOT
from tests.changes import write_change


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "include" / "sql" / "changes"
    write_change(root, 1)
    write_change(root, 2, text="description: x\nconn_id: weather\noperations: [{add_colum: {}}]\n")
    write_change(root, 3, conn_id="sales")
    return root


def test_a_broken_change_shows_its_error_and_hides_no_other(root: Path) -> None:
    dags = load_change_dags(root)
    assert list(dags) == ["001_add_extreme_1", "003_add_extreme_3", "002_add_extreme_2"]
    broken = dags["002_add_extreme_2"]
    assert "broken" in broken.tags
    assert "add_colum" in str(broken.doc_md)
    assert "change.yaml:3" in str(broken.description)
    (task,) = broken.tasks
    assert isinstance(task, BrokenChangeOperator)
    with pytest.raises(AirflowFailException, match="add_colum"):
        task.execute({})


def test_a_folder_whose_name_is_no_version_gets_a_dag_too(root: Path) -> None:
    (root / "wichtige änderung!").mkdir()
    dag = load_change_dags(root)["wichtige_änderung_"]
    assert "broken" in dag.tags
    assert dag.dag_display_name == "wichtige änderung! (broken)"
    assert dag.max_active_runs == 1
    assert dag.owner == "schema-change"


def test_a_dag_that_cannot_be_built_hides_no_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "change_dag", lambda c: change_dag(c) if c.version != "001" else 1 / 0)
    dags = load_change_dags(root)
    assert "broken" in dags["001_add_extreme_1"].tags
    assert "broken" not in dags["003_add_extreme_3"].tags


def test_a_task_builds_the_dag_it_belongs_to_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dag_id in ("003_add_extreme_3", "002_add_extreme_2"):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)
        assert list(load_change_dags(root)) == [dag_id]


def test_text_with_backticks_stays_in_its_block() -> None:
    assert fence("a\n```\nb") == "````\na\n```\nb\n````"


_PARSE = """
import runpy, socket, sys
def refuse(*_): raise AssertionError("a connection at parse time")
socket.socket.connect = refuse
found = {}
for name in ("changes", "data_quality", "maintenance", "warehouse"):
    found |= {k: v for k, v in runpy.run_path(f"dags/{name}.py").items() if type(v).__name__ == "DAG"}
print(*sorted(dag.dag_id for dag in found.values()))
print(*{m.split(".")[0] for m in sys.modules} & {"great_expectations", "pandas", "numpy"})
"""


def test_parsing_the_dag_files_connects_to_nothing_and_imports_nothing_heavy(root: Path) -> None:
    environment = {
        **os.environ,
        "AIRFLOW__SCHEMA_CHANGE__CHANGES_FOLDER": str(root),
        "PYTHONPATH": str(ROOT / "plugins"),
    }
    output = subprocess.run(
        [sys.executable, "-c", _PARSE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert output.returncode == 0, output.stderr
    dags, heavy = output.stdout.splitlines()[-2:]
    assert dags.split() == [
        "001_add_extreme_1",
        "002_add_extreme_2",
        "003_add_extreme_3",
        "backup_retention",
        "data_quality",
        "follow_ups",
        "reconcile",
        "recover",
        "restore",
        "retention",
        "warehouse_emergency",
        "warehouse_fold_year",
        "warehouse_install",
        "warehouse_refresh",
    ]
    assert heavy == ""
