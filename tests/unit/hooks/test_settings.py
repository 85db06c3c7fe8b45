from __future__ import annotations

import os
from pathlib import Path

import pytest

from schema_change.core.errors import ConfigurationError
from schema_change.hooks.settings import Settings


def test_nothing_has_to_be_set() -> None:
    settings = Settings.read()
    assert (settings.changes, settings.expectations, settings.approvers_file) == (None, None, None)
    assert settings.blackouts_file is None
    assert settings.scratch_conn_id is None
    assert settings.conn_ids == ()
    assert settings.warehouse_conn_id is None
    assert str(settings.artifacts) == f"file://{os.environ['AIRFLOW_HOME']}/schema_change"
    assert settings.approvers() == {}


def test_the_section_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "approvers.yaml").write_text("database_administrator: [ann, bob]\n", encoding="utf-8")
    for word, value in {
        "CHANGES_FOLDER": "/srv/changes",
        "ARTIFACTS_URL": "memory://artifacts",
        "APPROVERS_FILE": str(tmp_path / "approvers.yaml"),
        "BLACKOUTS_FILE": "/srv/blackouts.yaml",
        "SCRATCH_CONN_ID": "scratch",
        "WAREHOUSE_CONN_ID": "warehouse",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__SCHEMA_CHANGE__{word}", value)
    settings = Settings.read()
    assert settings.changes == Path("/srv/changes")
    assert settings.scratch_conn_id == "scratch"
    assert settings.warehouse_conn_id == "warehouse"
    assert settings.approvers() == {"database_administrator": ("ann", "bob")}
    assert settings.blackouts_file == Path("/srv/blackouts.yaml")
    page = settings.artifacts / "weather" / "report.json"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("{}")
    assert page.read_text() == "{}"


def test_a_policy_that_is_not_there_lets_nobody_approve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SCHEMA_CHANGE__APPROVERS_FILE", "/nowhere/approvers.yaml")
    with pytest.raises(ConfigurationError, match="does not exist"):
        Settings.read().approvers()
