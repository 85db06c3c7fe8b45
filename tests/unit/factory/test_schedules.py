from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import CronTriggerTimetable
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from schema_change.factory.schedules import (
    backup_retention_dag,
    data_quality_dag,
    follow_ups_dag,
    reconcile_dag,
    recover_dag,
    restore_dag,
    retention_dag,
)
from tests.changes import write_change


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_change(tmp_path, 1)
    write_change(tmp_path, 2)
    write_change(tmp_path, 3, conn_id="sales")
    return tmp_path


def test_the_scheduled_ones_know_the_connections_of_the_changes(root: Path) -> None:
    quality, reconcile, follow_ups = data_quality_dag(root, root), reconcile_dag(root), follow_ups_dag(root)
    retention, backups = retention_dag(root), backup_retention_dag(root)
    for dag in (quality, reconcile, follow_ups, retention, backups):
        assert dag.doc_md
        assert dag.params["conn_ids"] == ["sales", "weather"]
        assert dag.max_active_runs == 1
        assert not dag.catchup
        DagSerialization.to_dict(dag)
    assert backups.params["days"] == 30
    for dag in (quality, follow_ups, retention, backups):
        assert isinstance(dag.schedule, CronTriggerTimetable)  # not an interval, which would run at once
    assert str(reconcile.schedule) == str(timedelta(minutes=10))


def test_the_setting_names_connections_that_no_file_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SCHEMA_CHANGE__CONN_IDS", "billing, weather")
    assert reconcile_dag(root).params["conn_ids"] == ["billing", "sales", "weather"]


def test_a_restore_is_asked_for_by_a_person_who_says_what() -> None:
    dag = restore_dag()
    assert dag.schedule is None
    assert "is lost" in str(dag.doc_md)
    DagSerialization.to_dict(dag)
    for word in ("conn_id", "run_id", "confirm"):
        with pytest.raises(ParamValidationError, match="no default"):
            dag.params[word]
    with pytest.raises(ParamValidationError):
        dag.params["run_id"] = "latest"


def test_what_is_recovered_is_said_by_its_id() -> None:
    dag = recover_dag()
    assert dag.schedule is None
    DagSerialization.to_dict(dag)
    for word in ("conn_id", "id"):
        with pytest.raises(ParamValidationError, match="no default"):
            dag.params[word]
    assert dag.params["csv"] is False
