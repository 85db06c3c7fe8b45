from __future__ import annotations

from pathlib import Path

import pytest

from schema_change.core.errors import ConfigurationError, PreCheckFailed
from schema_change.core.model import Plan, Risk
from schema_change.core.planning.approval import Approval, check_approver, load_approvers, required

DBA, LEAD, OWNER = "database_administrator", "lead_developer", "product_owner"
POLICY = {DBA: ("ann", "bob"), LEAD: ("cid",)}


def plan(risk: Risk, *, data_migration: bool = False) -> Plan:
    return Plan(steps=(), risk=risk, risk_reasons=("because",), data_migration=data_migration)


@pytest.mark.parametrize(
    ("risk", "data_migration", "roles"),
    [
        (Risk.LOW, False, []),
        (Risk.MEDIUM, False, [DBA]),
        (Risk.HIGH, False, [DBA, LEAD]),
        (Risk.HIGH, True, [DBA, LEAD, OWNER]),
    ],
)
def test_the_risk_decides_who_is_asked(risk: Risk, data_migration: bool, roles: list[str]) -> None:
    found = required(plan(risk, data_migration=data_migration), POLICY)
    assert [a.role for a in found] == roles
    assert all(a.users == POLICY.get(a.role, ()) for a in found)


def test_a_run_asks_fewer_people_and_never_others() -> None:
    assert required(plan(Risk.MEDIUM), POLICY, ("bob", "zoe"))[0].users == ("bob",)
    assert required(plan(Risk.MEDIUM), {}, ("zoe",))[0].users == ("zoe",)
    with pytest.raises(PreCheckFailed, match="none of zoe may approve as database_administrator") as caught:
        required(plan(Risk.MEDIUM), POLICY, ("zoe",))
    assert "ann, bob" in (caught.value.hint or "")


def test_nobody_approves_what_they_asked_for() -> None:
    with pytest.raises(PreCheckFailed, match="ann asked for this run"):
        check_approver(Approval(DBA, ("ann", "bob"), ""), "ann", "ann")
    check_approver(Approval(DBA, ("ann", "bob"), ""), "bob", "ann")


def test_only_those_named_approve() -> None:
    with pytest.raises(PreCheckFailed, match="may not approve") as caught:
        check_approver(Approval(DBA, ("ann",), ""), "zoe", "cid")
    assert "ann" in (caught.value.hint or "")


@pytest.mark.parametrize("users", [("ann",), ()])
def test_somebody_without_a_name_approves_nothing(users: tuple[str, ...]) -> None:
    with pytest.raises(PreCheckFailed, match="needs a name"):
        check_approver(Approval(DBA, users, ""), "", "")


def test_where_nobody_is_named_anybody_else_approves() -> None:
    check_approver(Approval(DBA, (), ""), "zoe", "ann")


def test_the_policy_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "approvals.yaml"
    assert load_approvers(file) == {}
    file.write_text("# nobody yet\n")
    assert load_approvers(file) == {}
    file.write_text(f"{DBA}: [ann, bob]\n{LEAD}: [cid]\n")
    assert load_approvers(file) == POLICY


@pytest.mark.parametrize("text", ["[ann]", "boss: [ann]", f"{DBA}: ann", f"{DBA}: [1]", f"{DBA}:"], ids=str)
def test_a_policy_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "approvals.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=str(file)) as caught:
        load_approvers(file)
    assert DBA in (caught.value.hint or "")
