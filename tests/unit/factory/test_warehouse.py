from __future__ import annotations

from collections.abc import Callable

import pytest
from airflow.sdk import DAG, CronTriggerTimetable
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from schema_change.factory.warehouse import emergency_dag, fold_year_dag, install_dag, refresh_dag


def cron(dag: DAG) -> str:
    assert isinstance(dag.schedule, CronTriggerTimetable)  # not an interval, which would run at once
    return dag.schedule.expression


def test_without_a_connection_nothing_is_scheduled() -> None:
    for dag in (install_dag(), refresh_dag(), fold_year_dag(), emergency_dag()):
        assert dag.schedule is None
        assert dag.doc_md
        assert (dag.max_active_runs, dag.catchup) == (1, False)
        with pytest.raises(ParamValidationError, match="no default"):
            dag.params["conn_id"]
        DagSerialization.to_dict(dag)


def test_the_upkeep_is_scheduled_for_the_connection_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SCHEMA_CHANGE__WAREHOUSE_CONN_ID", "warehouse")
    refresh, fold = refresh_dag(), fold_year_dag()
    assert (cron(refresh), cron(fold)) == ("15 * * * *", "0 3 2 1 *")
    assert refresh.params.dump() == {"conn_id": "warehouse", "days": 2, "templates": []}
    assert fold.params.dump() == {"conn_id": "warehouse", "year": None, "templates": []}
    for dag in (install_dag(), emergency_dag()):
        assert dag.schedule is None
        assert dag.params["conn_id"] == "warehouse"
    for dag in (refresh, fold):
        DagSerialization.to_dict(dag)


@pytest.mark.parametrize(
    ("dag", "task_id", "name", "wrong"),
    [(refresh_dag, "refresh", "days", 0), (fold_year_dag, "fold", "year", 26)],
)
def test_there_is_a_task_for_each_member(dag: Callable[[], DAG], task_id: str, name: str, wrong: int) -> None:
    made = dag()
    task = made.get_task(task_id)
    assert task.is_mapped
    assert task.upstream_task_ids == {"members"}
    assert task.map_index_template == "{{ task.schema }} {{ task.template_name }}"
    with pytest.raises(ParamValidationError):
        made.params[name] = wrong
    with pytest.raises(ParamValidationError):
        made.params["templates"] = ["public.x"]


def test_an_emergency_is_asked_for_by_a_person_who_says_what() -> None:
    dag = emergency_dag()
    for word in ("template", "restore"):
        with pytest.raises(ParamValidationError, match="no default"):
            dag.params[word]
    for name, wrong in (("restore", "whatever"), ("template", "a; DROP")):
        with pytest.raises(ParamValidationError):
            dag.params[name] = wrong
