from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DownstreamTasksSkipped, TaskDeferred

from schema_change.core.changes.spec import Change
from schema_change.core.errors import LockNotAvailable, PreCheckFailed
from schema_change.core.execution.waiting import TransactionWait
from schema_change.core.planning.approval import Approval
from schema_change.operators.request import run_id_of
from schema_change.operators.stage import MigrateOperator, PlanOperator, StageOperator
from tests.fake_runner import Busy, Script


def test_a_stage_returns_its_run_and_summary(change: Change, script: Script, context: Any) -> None:
    result = StageOperator(stage="migrate", change=change).execute(context)
    assert result == {"run_id": str(run_id_of("001_add_extreme_1", "manual__1")), "summary": "migrate done"}
    assert script.ran == ["migrate"]


def test_a_skipped_stage_is_a_skipped_task_with_the_reason(change: Change, script: Script, context: Any) -> None:
    script.skips["backfill"] = "nothing to fill"
    with pytest.raises(AirflowSkipException, match="nothing to fill"):
        StageOperator(stage="backfill", change=change).execute(context)


def test_a_stage_that_waits_is_deferred_until_its_time_and_goes_on(
    change: Change, script: Script, context: Any
) -> None:
    until = datetime(2030, 1, 1, 22, tzinfo=UTC)
    script.waits["soak"] = until
    operator = StageOperator(stage="soak", change=change)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    path, arguments = deferred.value.trigger.serialize()
    assert path.endswith("temporal.DateTimeTrigger")
    assert arguments["moment"] == until
    assert deferred.value.method_name == "go_on"
    assert operator.go_on(context, {})["summary"] == "soak done"
    assert script.ran == ["soak", "soak"]


def test_a_stage_that_waits_for_a_lock_is_deferred_until_it_can_be_had(
    change: Change, script: Script, context: Any
) -> None:
    waiting = TransactionWait(what="a lock", reason="held by pid 7", since=datetime.now(UTC), transactions=("1/2",))
    script.waits_for["migrate"] = waiting
    operator = StageOperator(stage="migrate", change=change)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "schema_change.triggers.waiting.WaitingTrigger"
    assert arguments == {"conn_id": "weather", "waiting": waiting.to_json()}
    kwargs = deferred.value.kwargs or {}
    assert operator.go_on(context, {"waited_s": 40.0}, **kwargs)["summary"] == "migrate done"
    assert script.earlier == waiting
    assert script.ran == ["migrate", "migrate"]
    assert script.park_after_s == 30


def test_what_a_retry_cannot_help_fails_at_once_with_the_remedy(change: Change, script: Script, context: Any) -> None:
    script.fails["pre_check"] = PreCheckFailed("12 rows are null", hint="fill them")
    with pytest.raises(AirflowFailException, match=r"12 rows are null\n.*fill them"):
        StageOperator(stage="pre_check", change=change).execute(context)


@pytest.mark.parametrize("error", [LockNotAvailable("held by pid 7"), Busy("later"), psycopg.errors.DeadlockDetected()])
def test_what_passes_is_left_to_the_retries(error: Exception, change: Change, script: Script, context: Any) -> None:
    script.fails["migrate"] = error
    with pytest.raises(type(error)):
        StageOperator(stage="migrate", change=change).execute(context)


@pytest.mark.parametrize(
    "error", [psycopg.errors.SyntaxError("at or near"), psycopg.errors.InsufficientPrivilege("no")]
)
def test_a_driver_error_is_told_apart_by_sqlstate(
    error: Exception, change: Change, script: Script, context: Any
) -> None:
    script.fails["migrate"] = error
    with pytest.raises(AirflowFailException, match=str(error)):
        StageOperator(stage="migrate", change=change).execute(context)


def test_a_killed_task_cancels_its_work(change: Change, script: Script, context: Any) -> None:
    operator = StageOperator(stage="backfill", change=change)
    operator.on_kill()
    assert script.cancelled == 0
    operator.execute(context)
    operator.on_kill()
    assert script.cancelled == 1


def test_the_request_says_who_asked_and_from_where(
    change: Change, script: Script, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SCHEMA_CHANGE__BLACKOUTS_FILE", "/srv/blackouts.yaml")
    context["params"] |= {"lock_timeout_ms": 50, "approvers": None}
    StageOperator(stage="migrate", change=change).execute(context)
    request = script.requests[0]
    assert request.requested_by == "ann"
    assert request.requested_from == "airflow:001_add_extreme_1/manual__1"
    assert request.options.lock_timeout_ms == 50
    assert request.target.conn_id == "weather"
    assert request.blackouts_file == Path("/srv/blackouts.yaml")
    assert request.run_id == run_id_of("001_add_extreme_1", "manual__1") != run_id_of("001_add_extreme_1", "manual__2")


def test_params_that_do_not_fit_are_named(change: Change, script: Script, context: Any) -> None:
    context["params"]["batch_target_ms"] = 1
    with pytest.raises(AirflowFailException, match=r"batch_target_ms: .*greater than or equal to 10"):
        StageOperator(stage="migrate", change=change).execute(context)


def test_an_unknown_connection_says_how_to_create_it(change: Change, script: Script, context: Any) -> None:
    context["params"]["conn_id"] = "nowhere"
    with pytest.raises(AirflowFailException, match="airflow connections add nowhere"):
        StageOperator(stage="migrate", change=change).execute(context)


def test_plan_refuses_a_word_that_is_no_param(change: Change, script: Script, context: Any) -> None:
    context["dag_run"].conf = {"dry_runn": True}
    with pytest.raises(AirflowFailException, match=r"dry_runn \(did you mean dry_run\?\)\n.*batch_target_ms"):
        PlanOperator(change=change).execute(context)
    assert script.ran == []


def test_plan_asks_for_each_approval_that_is_needed(change: Change, script: Script, context: Any) -> None:
    script.needs = [Approval("database_administrator", ("bob",), "locks a large table")]
    assert PlanOperator(change=change).execute(context) == [
        {"role": "database_administrator", "users": ["bob"], "reason": "locks a large table"}
    ]
    assert context["ti"].xcoms["guide"] == "# Guide"
    assert context["ti"].xcoms["run"]["summary"] == "plan done"


def test_a_plan_that_needs_no_approval_leaves_no_task_to_approve(change: Change, script: Script, context: Any) -> None:
    assert PlanOperator(change=change).execute(context) == []


def test_what_comes_next_and_has_nothing_to_do_is_skipped_from_the_task_before_it(
    change: Change, script: Script, context: Any
) -> None:
    script.skips = {"backfill": "nothing to fill", "cutover": "nothing to switch"}
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        StageOperator(stage="migrate", change=change).execute(context)
    assert skipped.value.tasks == ["backfill", "cutover"]
    assert context["ti"].xcoms["return_value"]["summary"] == "migrate done"
    assert script.ran == ["migrate"]


def test_a_stage_that_waits_skips_nothing_yet(change: Change, script: Script, context: Any) -> None:
    script.skips = {"contract": "nothing to remove"}
    script.waits["soak"] = datetime(2030, 1, 1, 22, tzinfo=UTC)
    with pytest.raises(TaskDeferred):
        StageOperator(stage="soak", change=change).execute(context)


def test_the_shards_of_a_run_are_what_its_backfill_is_mapped_over(change: Change, script: Script, context: Any) -> None:
    assert MigrateOperator(change=change).execute(context) == [0]
    context["params"]["shards"] = 3
    assert MigrateOperator(change=change).execute(context) == [0, 1, 2]
    assert context["ti"].xcoms["run"]["summary"] == "migrate done"
    StageOperator(stage="backfill", change=change, shard=2).execute(context)
    assert script.shards[-1] == 2


def test_a_migrate_with_nothing_to_do_is_skipped_unless_a_backfill_follows(
    change: Change, script: Script, context: Any
) -> None:
    script.skips["migrate"] = "nothing to do in migrate"
    assert MigrateOperator(change=change).execute(context) == [0]
    script.skips["backfill"] = "nothing to fill"
    with pytest.raises(AirflowSkipException, match="nothing to do in migrate"):
        MigrateOperator(change=change).execute(context)


def test_a_migrate_that_skips_its_backfill_returns_no_shards(change: Change, script: Script, context: Any) -> None:
    script.skips = {"backfill": "nothing to fill", "cutover": "nothing to switch"}
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        MigrateOperator(change=change).execute(context)
    assert skipped.value.tasks == ["backfill", "cutover"]
    assert context["ti"].xcoms["run"]["summary"] == "migrate done"


def test_suites_lie_beside_the_changes_unless_configured(
    change: Change, script: Script, context: Any, tmp_path: Path
) -> None:
    StageOperator(stage="validate", change=change).execute(context)
    StageOperator(stage="validate", change=replace(change, expectations="features.yaml")).execute(context)
    assert [r.expectations for r in script.requests] == [None, tmp_path / "include" / "expectations"]
