from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from schema_change.core.changes.load import load_changes
from schema_change.core.stages import STAGES
from schema_change.core.stages.request import Options
from schema_change.factory.change_dag import change_dag
from tests.changes import TEXT, write_change


@pytest.fixture
def dag(tmp_path: Path) -> DAG:
    root = tmp_path / "include" / "sql" / "changes"
    write_change(root)
    return change_dag(load_changes(root).changes[0])


def test_every_stage_is_a_task_in_a_row(dag: DAG) -> None:
    assert sorted(dag.task_ids) == sorted(STAGES)
    for earlier, later in pairwise(STAGES):
        assert later in dag.task_dict[earlier].downstream_task_ids


def test_rollback_waits_for_every_task_before_it(dag: DAG) -> None:
    assert dag.task_dict["rollback"].upstream_task_ids == set(STAGES[: STAGES.index("rollback")])


def test_backfill_is_mapped_over_the_shards_that_migrate_returns(dag: DAG) -> None:
    backfill: Any = dag.task_dict["backfill"]
    assert backfill.is_mapped
    assert [(operator.task_id, key) for operator, key in backfill.expand_input.iter_references()] == [
        ("migrate", "return_value")
    ]
    assert backfill.upstream_task_ids == {"migrate"}


def test_outcome_is_the_only_leaf(dag: DAG) -> None:
    assert [task.task_id for task in dag.tasks if not task.downstream_task_ids] == ["outcome"]


def test_a_skipped_stage_skips_no_other_and_the_last_ones_always_run(dag: DAG) -> None:
    rules = {task.task_id: task.trigger_rule for task in dag.tasks if task.task_id != "plan"}
    always = {"rollback", "report", "outcome"}
    assert rules == {
        stage: TriggerRule.ALL_DONE if stage in always else TriggerRule.NONE_FAILED for stage in STAGES[1:]
    }


def test_no_limit_on_the_run_but_on_every_task(dag: DAG) -> None:
    """A run that times out would skip its rollback."""
    assert dag.dagrun_timeout is None
    assert dag.max_active_runs == 1
    assert not dag.catchup
    assert dag.schedule is None
    assert all(task.execution_timeout for task in dag.tasks if task.task_id != "approve")
    assert all(task.retries == 2 for task in dag.tasks if task.task_id != "soak")
    assert dag.task_dict["soak"].retries == 20


def test_the_form_has_every_option_and_the_target(dag: DAG) -> None:
    assert list(dag.params) == ["conn_id", *Options.model_fields]
    defaults = dag.params.dump()
    assert defaults == {"conn_id": "weather", **Options().model_dump(mode="json")}
    scope = dag.params.get_param("backup_scope")
    assert scope.schema["enum"] == ["tables", "database"]
    assert scope.description
    undo = dag.params.get_param("on_revert_failure").schema
    assert undo["title"] == "If an undo fails"
    for choice in (scope.schema, undo):
        assert list(choice["values_display"]) == choice["enum"]
    timeout = dag.params.get_param("lock_timeout_ms").schema
    assert (timeout["minimum"], timeout["maximum"], timeout["title"]) == (10, 10_000, "Lock timeout (ms)")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("conn_id", "a; DROP TABLE"),
        ("dry_run", "yes"),
        ("batch_target_ms", 1),
        ("backup_scope", "some"),
        ("approvers", "x"),
    ],
)
def test_the_form_refuses_what_the_core_would(word: str, value: Any, dag: DAG) -> None:
    with pytest.raises(ParamValidationError):
        dag.params[word] = value


def test_it_says_what_it_does(dag: DAG) -> None:
    assert dag.description == "Hours below -10 °C"
    assert "- operations: add_column" in str(dag.doc_md)
    assert "`change.yaml`" in str(dag.doc_md)
    assert "column: {name: extreme_1, type: integer}" in str(dag.doc_md)
    assert dag.tags == {"schema-change", "weather"}


def test_airflow_can_store_it(dag: DAG) -> None:
    data = DagSerialization.to_dict(dag)
    assert {task["__var"]["task_id"] for task in data["dag"]["tasks"]} == set(STAGES)


def test_another_dag_that_fills_data_runs_between_migrate_and_backfill(tmp_path: Path) -> None:
    root = tmp_path / "include" / "sql" / "changes"
    write_change(root, text=TEXT.format(conn_id="weather", number=1) + "backfill_dag: {dag_id: compute, conf: {a: 1}}")
    dag = change_dag(load_changes(root).changes[0])
    task: Any = dag.task_dict["backfill_dag"]
    assert (task.trigger_dag_id, task.conf) == ("compute", {"a": 1})
    assert (task.wait_for_completion, task.deferrable) == (True, True)
    assert task.upstream_task_ids == {"migrate"}
    assert task.downstream_task_ids == {"backfill", "rollback"}
    assert task.trigger_rule == TriggerRule.NONE_FAILED
    DagSerialization.to_dict(dag)
