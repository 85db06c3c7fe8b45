from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from schema_change.core.changes.spec import Change
from schema_change.core.planning.approval import Approval
from schema_change.operators.approve import APPROVE, REJECT, ApproveOperator
from tests.fake_runner import Script

ROLE = "database_administrator"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The questions put to people."""
    questions: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **question: questions.append(question)
    )
    return questions


def operator(change: Change, users: Sequence[str] = (), role: str = ROLE) -> ApproveOperator:
    reason = "medium: locks a large table"
    return ApproveOperator(task_id="approve", change=change, role=role, users=users, reason=reason)


def answer(user: str | None, option: str = APPROVE, comment: str | None = "lgtm") -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {"comment": comment},
        "responded_at": datetime.now(UTC),
        "responded_by_user": user and {"id": user, "name": user},
    }


def test_it_shows_the_guide_and_waits_without_a_worker(
    change: Change, script: Script, context: Any, asked: list[dict[str, Any]]
) -> None:
    script.needs = [Approval(ROLE, ("bob", "cleo"), "why")]
    context["ti"].xcoms["guide"] = "# Guide"
    with pytest.raises(TaskAwaitingInput) as waiting:
        operator(change, ["bob", "cleo"]).execute(context)
    (question,) = asked
    assert question["subject"] == "Approve 001_add_extreme_1 as database_administrator"
    assert question["body"] == "**database_administrator**: locks a large table\n\n# Guide"
    assert question["assigned_users"] == [{"id": "bob", "name": "bob"}, {"id": "cleo", "name": "cleo"}]
    assert question["options"] == [APPROVE, REJECT]
    assert question["defaults"] == [REJECT]
    assert list(question["params"]) == ["comment"]
    assert waiting.value.timeout is not None


def test_who_asked_for_the_run_is_not_asked_to_approve_it(
    change: Change, script: Script, context: Any, asked: list[dict[str, Any]]
) -> None:
    script.needs = [Approval(ROLE, ("ann", "bob"), "why")]
    with pytest.raises(TaskAwaitingInput):
        operator(change, ["ann", "bob"]).execute(context)
    assert [user["id"] for user in asked[0]["assigned_users"]] == ["bob"]
    with pytest.raises(AirflowFailException, match="only ann may approve"):
        operator(change, ["ann"]).execute(context)


def test_who_approved_already_is_not_asked_again(
    change: Change, script: Script, context: Any, asked: list[dict[str, Any]]
) -> None:
    script.needs = [Approval(ROLE, ("bob",), "why")]
    script.given = {ROLE: "bob"}
    operator(change, ["bob"]).execute(context)
    assert asked == []


def test_an_approval_is_recorded_and_the_last_one_ends_the_stage(change: Change, script: Script, context: Any) -> None:
    script.needs = [Approval(ROLE, (), "why"), Approval("lead_developer", (), "why")]
    said = operator(change).execute_complete(context, answer("bob"))
    assert said == {"role": ROLE, "user": "bob", "comment": "lgtm"}
    assert script.ran == []
    operator(change, role="lead_developer").execute_complete(context, answer("cleo", comment=None))
    assert script.given == {ROLE: "bob", "lead_developer": "cleo"}
    assert script.ran == ["approve"]


def test_nobody_approves_what_they_asked_for(change: Change, script: Script, context: Any) -> None:
    script.needs = [Approval(ROLE, (), "why")]
    with pytest.raises(AirflowFailException, match="ann asked for this run"):
        operator(change).execute_complete(context, answer("ann"))
    assert script.given == {}


@pytest.mark.parametrize("user", ["bob", None])
def test_a_rejection_and_a_time_out_end_the_run(user: str | None, change: Change, script: Script, context: Any) -> None:
    script.needs = [Approval(ROLE, (), "why")]
    with pytest.raises(AirflowFailException, match="rejected by"):
        operator(change).execute_complete(context, answer(user, REJECT))
    assert script.given == {}
