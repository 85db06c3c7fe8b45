from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from schema_change.core.database import Target
from schema_change.core.journal.journal import RunRow
from schema_change.core.retention.recover import Conflict, Recovered
from schema_change.core.stages.reconcile import Reconciled
from schema_change.core.stages.request import Options
from schema_change.core.surroundings.follow_ups import FollowedUp
from schema_change.core.validation.gx import CheckOutcome, ValidationOutcome
from schema_change.operators.data_quality import DataQualityOperator
from schema_change.operators.maintenance import (
    FollowUpOperator,
    PurgeBackupsOperator,
    PurgeOperator,
    ReconcileOperator,
    RecoverOperator,
    RestoreOperator,
)
from schema_change.operators.request import request_of_run, source_of

RUN = UUID("c53e0419-3ce5-5dea-b075-77989610da3d")


def row(source: str) -> RunRow:
    return cast(
        "RunRow",
        SimpleNamespace(
            run_id=RUN,
            conn_id="weather_admin",
            change_id="001_add_extreme_1",
            requested_from=source,
            requested_by="ann",
            options=Options(lock_timeout_ms=50).model_dump(mode="json"),
        ),
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How reconcile was called; it finds one run, which ended as ``action`` says."""
    call: dict[str, Any] = {"action": "3 steps undone"}

    def reconcile(target: Target, **arguments: Any) -> list[Reconciled]:
        call.update(arguments, target=target)
        return [Reconciled(RUN, "001_add_extreme_1", call["action"])]

    monkeypatch.setattr("schema_change.operators.maintenance.reconcile", reconcile)
    return call


@pytest.mark.parametrize(
    ("source", "state", "over"),
    [
        (source_of("a", "r"), "running", False),
        (source_of("a", "r"), "queued", False),
        (source_of("a", "r"), "failed", True),
        (source_of("a", "r"), None, True),
        ("cli:ann@laptop", None, False),
    ],
    ids=["running", "queued", "failed", "deleted", "not ours to judge"],
)
def test_a_run_is_over_when_its_dag_run_is(
    source: str, state: str, over: bool, context: Any, asked: dict[str, Any]
) -> None:
    context["ti"].runs = {("a", "r"): state}
    ReconcileOperator(task_id="reconcile", conn_id="weather").execute(context)
    is_over: Callable[[RunRow], bool] = asked["is_over"]
    assert is_over(row(source)) is over


def test_a_run_is_ended_with_the_options_it_was_asked_for(context: Any, asked: dict[str, Any]) -> None:
    lines = ReconcileOperator(task_id="reconcile", conn_id="weather").execute(context)
    assert lines == [f"001_add_extreme_1 ({RUN}): 3 steps undone"]
    request = asked["build"](row("airflow:a/r"))
    assert request == request_of_run(asked["target"], row("airflow:a/r"))
    assert (request.run_id, request.change, request.options.lock_timeout_ms) == (RUN, None, 50)
    # Its artifacts are under the connection it was asked for with; this one leads to the same database.
    assert request.target.conn_id == "weather_admin"


def test_a_run_that_could_not_be_ended_fails_the_task(context: Any, asked: dict[str, Any]) -> None:
    asked["action"] = "failed: an undo failed"
    with pytest.raises(AirflowFailException, match="an undo failed"):
        ReconcileOperator(task_id="reconcile", conn_id="weather").execute(context)


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_data_quality_fails_for_what_is_critical(
    severity: str, context: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checks = [
        CheckOutcome("s", "public.t", "c1", "expect_x", None, "critical", "passed"),
        CheckOutcome("s", "public.t", "c2", "expect_x", None, severity, "failed"),
    ]
    calls: list[dict[str, Any]] = []

    def run(target: Target, root: Path, **arguments: Any) -> ValidationOutcome:
        calls.append({"conn_id": target.conn_id, "root": root, **arguments})
        return ValidationOutcome(tuple(checks))

    monkeypatch.setattr("schema_change.operators.data_quality.run_data_quality", run)
    monkeypatch.setattr("schema_change.operators.data_quality.suites_for", lambda *_: ("one",))
    operator = DataQualityOperator(task_id="check", conn_id="weather", suites=tmp_path)
    if severity == "critical":
        with pytest.raises(AirflowFailException, match=r"1 of 2 checks failed: public.t c2"):
            operator.execute(context)
    else:
        assert operator.execute(context) == {"checks": 2, "failed": 0, "warnings": 1}
    assert (calls[0]["conn_id"], calls[0]["root"]) == ("weather", tmp_path)
    assert calls[0]["run_id"] == "001_add_extreme_1/manual__1"


def test_a_connection_without_suites_is_skipped(context: Any, tmp_path: Path) -> None:
    with pytest.raises(AirflowSkipException, match="is for weather"):
        DataQualityOperator(task_id="check", conn_id="weather", suites=tmp_path).execute(context)


@pytest.mark.parametrize("status", ["passed", "failed", "error"])
def test_a_follow_up_that_did_not_pass_fails_the_task(
    status: str, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [FollowedUp(RUN, "001_a", "index is used", status, "used 0 times")]
    monkeypatch.setattr("schema_change.operators.maintenance.carry_out", lambda target: found)
    operator = FollowUpOperator(task_id="follow_up", conn_id="weather")
    if status == "passed":
        assert operator.execute(context) == ["001_a, index is used: passed: used 0 times"]
    else:
        with pytest.raises(AirflowFailException, match=f"001_a, index is used: {status}: used 0 times"):
            operator.execute(context)


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The calls of restore_run; the journal knows one run."""
    calls: list[dict[str, Any]] = []

    def restore_run(target: Target, run_id: UUID, **arguments: Any) -> Any:
        calls.append({"run_id": run_id, **arguments})
        return SimpleNamespace(lost_writes=lambda: "since then", to_json=lambda: {"tables": []})

    monkeypatch.setattr("schema_change.operators.maintenance.restore_run", restore_run)
    monkeypatch.setattr(
        "schema_change.operators.maintenance.get_run", lambda _, run_id: row("") if run_id == RUN else None
    )
    monkeypatch.setattr(Target, "connect", lambda *_, **__: contextlib.nullcontext())
    return calls


def params(**changed: Any) -> dict[str, Any]:
    asked = {"conn_id": "weather", "run_id": str(RUN), "scope": "tables", "terminate_sessions": False}
    return {**asked, "confirm": "001_add_extreme_1", **changed}


def test_a_confirmed_restore_is_done(context: Any, restored: list[dict[str, Any]]) -> None:
    context["params"] = params(scope="database", terminate_sessions=True)
    assert RestoreOperator(task_id="restore").execute(context) == {"tables": []}
    (call,) = restored
    assert (call["run_id"], call["database"], call["terminate_sessions"], call["actor"]) == (RUN, True, True, "ann")


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"confirm": "yes"}, "is not one of 'yes'"), ({"run_id": str(UUID(int=1))}, "is not in the journal of weather")],
)
def test_a_restore_that_is_not_meant_is_refused(
    changed: dict[str, str], message: str, context: Any, restored: list[dict[str, Any]]
) -> None:
    context["params"] = params(**changed)
    with pytest.raises(AirflowFailException, match=message):
        RestoreOperator(task_id="restore").execute(context)
    assert restored == []


@pytest.mark.parametrize("state", ["purged", "left", "failed"])
def test_a_purge_fails_for_what_could_not_be_dropped(state: str, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Result(SimpleNamespace):
        def __str__(self) -> str:
            return f"1 table public.t: {state}"

    monkeypatch.setattr("schema_change.operators.maintenance.purge", lambda *_, **__: [Result(state=state)])
    operator = PurgeOperator(task_id="purge", conn_id="weather")
    if state == "failed":
        with pytest.raises(AirflowFailException, match=r"public\.t: failed"):
            operator.execute(context)
    else:
        assert operator.execute(context) == [f"1 table public.t: {state}"]


@pytest.mark.parametrize("state", ["deleted", "left", "failed"])
def test_purging_backups_fails_for_what_could_not_be_deleted(
    state: str, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Result(SimpleNamespace):
        def __str__(self) -> str:
            return f"001_a: {state}"

    asked: list[Any] = []

    def purge_backups(target: Target, artifacts: object, *, days: int, actor: str) -> list[Result]:
        asked.append((target.conn_id, days, actor))
        return [Result(state=state)]

    monkeypatch.setattr("schema_change.operators.maintenance.purge_backups", purge_backups)
    context["params"] = {"days": 7}
    operator = PurgeBackupsOperator(task_id="purge_backups", conn_id="weather")
    if state == "failed":
        with pytest.raises(AirflowFailException, match="001_a: failed"):
            operator.execute(context)
    else:
        assert operator.execute(context) == [f"001_a: {state}"]
    assert asked == [("weather", 7, "ann")]


def test_a_recovery_says_what_it_left_alone(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def recover(target: Target, number: int, *, note: object, actor: str) -> Recovered:
        asked.append((target.conn_id, number, actor))
        return Recovered("column public.t.c", 5, (Conflict("newer", 2, ("id = 1",)),), ("was NOT NULL",))

    monkeypatch.setattr("schema_change.operators.maintenance.recover", recover)
    context["params"] = {"conn_id": "weather", "id": 7, "csv": False}
    assert RecoverOperator(task_id="recover").execute(context) == {
        "recovered": "column public.t.c: 5 rows brought back, 2 conflicts",
        "rows": 5,
        "conflicts": ["2 rows left alone: newer (id = 1, …)"],
        "notices": ["was NOT NULL"],
    }
    assert asked == [("weather", 7, "ann")]


def test_an_export_goes_to_the_artifacts(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schema_change.operators.maintenance.export", lambda *_, **__: 12)
    context["params"] = {"conn_id": "weather", "id": 7, "csv": True}
    result = RecoverOperator(task_id="recover").execute(context)
    assert (result["rows"], result["file"].endswith("/weather/retired/7.csv")) == (12, True)
