from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DagRunTriggerException

from schema_change.core.changes.spec import Change
from schema_change.core.surroundings.models import BackfillDag, Surroundings
from schema_change.operators.backfill_dag import BackfillDagOperator
from schema_change.operators.request import run_id_of
from tests.fake_runner import Script

OTHER = f"schema_change__{run_id_of('001_add_extreme_1', 'manual__1')}"


@pytest.fixture
def operator(change: Change) -> BackfillDagOperator:
    other = BackfillDag(dag_id="compute", conf={"year": 2024})
    return BackfillDagOperator(change=replace(change, surroundings=Surroundings(backfill_dag=other)))


@pytest.fixture
def paused(context: dict[str, Any]) -> SimpleNamespace:
    """What Airflow knows of the other DAG."""
    known = SimpleNamespace(is_paused=False)
    context["ti"].get_dag = lambda dag_id: known
    return known


def ended(state: str) -> tuple[str, dict[str, Any]]:
    return "DagStateTrigger", {"dag_id": "compute", "run_ids": [OTHER], "poll_interval": 5, OTHER: state}


def test_the_other_dag_is_triggered_and_waited_for_without_a_worker(
    operator: BackfillDagOperator, paused: SimpleNamespace, script: Script, context: Any
) -> None:
    with pytest.raises(DagRunTriggerException) as asked:
        operator.execute(context)
    order = asked.value
    assert (order.trigger_dag_id, order.dag_run_id, order.conf) == ("compute", OTHER, {"year": 2024})
    assert (order.wait_for_completion, order.deferrable, order.reset_dag_run) == (True, True, True)
    assert script.other_dag == [("started", f"compute {OTHER}")]
    operator.execute_complete(context, ended("success"))
    assert script.other_dag[1:] == [("done", "compute has ended well")]


def test_a_dag_that_fails_fails_the_task_for_good_and_is_in_the_journal(
    operator: BackfillDagOperator, script: Script, context: Any
) -> None:
    with pytest.raises(AirflowFailException, match="compute failed"):
        operator.execute_complete(context, ended("failed"))
    [(status, message)] = script.other_dag
    assert status == "failed"
    assert "compute failed" in message


def test_a_paused_dag_would_never_end(
    operator: BackfillDagOperator, paused: SimpleNamespace, script: Script, context: Any
) -> None:
    paused.is_paused = True
    with pytest.raises(AirflowFailException, match="compute is paused"):
        operator.execute(context)
    assert [status for status, _ in script.other_dag] == ["started", "failed"]


def test_a_dry_run_triggers_nothing(operator: BackfillDagOperator, script: Script, context: Any) -> None:
    context["params"]["dry_run"] = True
    with pytest.raises(AirflowSkipException, match="dry run"):
        operator.execute(context)
    assert script.other_dag == []
