from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.airflow_home import prepare

prepare()

from schema_change.core.changes.load import load_changes  # noqa: E402
from schema_change.core.changes.spec import Change  # noqa: E402
from schema_change.core.stages.request import Options  # noqa: E402
from tests.changes import write_change  # noqa: E402
from tests.fake_runner import Script  # noqa: E402


@pytest.fixture(autouse=True)
def weather(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow connection."""
    monkeypatch.setenv("AIRFLOW_CONN_WEATHER", "postgresql://ann:hunter2@db.example:5433/weather?sslmode=require")


@pytest.fixture
def change(tmp_path: Path) -> Change:
    root = tmp_path / "include" / "sql" / "changes"
    write_change(root)
    return load_changes(root).changes[0]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """The fake runner's script; the operators use the fake runner."""
    script = Script()
    monkeypatch.setattr("schema_change.operators.stage.Runner", script.runner)
    monkeypatch.setattr("schema_change.operators.approve.Runner", script.runner)
    monkeypatch.setattr("schema_change.operators.backfill_dag.Runner", script.runner)
    return script


class TaskInstance:
    """The XComs of a run, and what Airflow knows about other runs."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}
        self.id = "ti"
        self.runs: dict[tuple[str, str], str] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        return self.xcoms.get(key)

    def get_dr_count(self, dag_id: str, run_ids: list[str], states: list[str]) -> int:
        return sum(self.runs.get((dag_id, run_id)) in states for run_id in run_ids)


@pytest.fixture
def context() -> dict[str, Any]:
    """What a task sees of a run that Ann asked for."""
    ti = TaskInstance()
    return {
        "params": {"conn_id": "weather", **Options().model_dump(mode="json")},
        "dag_run": SimpleNamespace(
            dag_id="001_add_extreme_1", run_id="manual__1", triggering_user_name="ann", conf={"dry_run": False}
        ),
        "ti": ti,
        "task_instance": ti,
    }
