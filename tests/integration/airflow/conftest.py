from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.airflow_home import ROOT, prepare

prepare()

from airflow.utils import db  # noqa: E402

from schema_change.core.changes.load import load_changes  # noqa: E402
from schema_change.core.changes.spec import Change  # noqa: E402
from tests.changes import write_change  # noqa: E402
from tests.fake_runner import Script  # noqa: E402


@pytest.fixture(scope="session")
def change() -> Change:
    """A change whose DAG Airflow knows: its own dags folder has the DAG files of this repository, and the change."""
    db.initdb()
    home = Path(os.environ["AIRFLOW_HOME"])
    for name in ("changes.py", "procedures.py"):
        shutil.copy(ROOT / "dags" / name, home / "dags")
    root = home / "include" / "sql" / "changes"
    write_change(root)
    return load_changes(root).changes[0]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the whole seconds in which dag.test() idles."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.05)))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """The fake runner's script; the operators use the fake runner."""
    script = Script()
    monkeypatch.setenv("AIRFLOW_CONN_WEATHER", "postgresql://ann@db.example/weather")
    monkeypatch.setattr("schema_change.operators.stage.Runner", script.runner)
    monkeypatch.setattr("schema_change.operators.approve.Runner", script.runner)
    return script
