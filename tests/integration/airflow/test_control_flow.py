"""Which tasks run, are skipped or fail, when Airflow itself decides; the core is played by a script."""

from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.changes.spec import Change
from schema_change.core.errors import PreCheckFailed, ValidationFailed
from schema_change.core.stages import STAGES
from schema_change.factory.change_dag import change_dag
from tests.fake_runner import Script

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the warnings here are those of Airflow's own code
]

_LETTERS = {"success": "S", "skipped": "-", "failed": "F", "upstream_failed": "u"}


def run(change: Change, conf: dict[str, Any] | None = None) -> tuple[str, str]:
    """Return the state of a run, and one letter per stage, in the order of the stages."""
    dag_run = change_dag(change).test(run_conf=conf)
    states = {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}
    return str(dag_run.state), "".join(_LETTERS[states[stage]] for stage in STAGES)


#                 plan, approve, backup, pre_check, rehearse, migrate, backfill, cutover, validate, soak, contract | …
@pytest.mark.parametrize(
    ("fails", "conf", "expected"),
    [
        pytest.param(None, {}, ("success", "S-SSSSSSSSS--SS"), id="nothing fails"),
        pytest.param("plan", {}, ("failed", "Fuuuuuuuuuu--SF"), id="plan fails"),
        pytest.param("pre_check", {}, ("failed", "S-SFuuuuuuu--SF"), id="pre_check fails"),
        pytest.param("migrate", {}, ("failed", "S-SSSFuuuuuSSSF"), id="migrate fails"),
        pytest.param("validate", {}, ("failed", "S-SSSSSSFuuSSSF"), id="validate fails"),
        pytest.param(None, {"dry_run": True}, ("success", "S--S----------S"), id="dry run"),
        pytest.param(None, {"dri_run": True}, ("failed", "Fuuuuuuuuuu--SF"), id="unknown word"),
    ],
)
def test_states(
    fails: str | None, conf: dict[str, Any], expected: tuple[str, str], change: Change, script: Script
) -> None:
    if fails:
        script.fails[fails] = ValidationFailed("x") if fails == "validate" else PreCheckFailed("x")
    assert run(change, conf) == expected


def test_a_skipped_stage_stops_nothing(change: Change, script: Script) -> None:
    script.skips = {"rehearse": "skip_rehearsal was asked for", "backfill": "nothing to fill"}
    assert run(change) == ("success", "S-SS-S-SSSS--SS")


def test_a_stage_with_nothing_to_do_costs_no_task(change: Change, script: Script) -> None:
    """It is skipped by the task before it; Airflow starts none for it."""
    script.skips = {"rehearse": "not wanted", "backfill": "nothing to fill", "cutover": "nothing to switch"}
    assert run(change) == ("success", "S-SS-S--SSS--SS")
    assert script.ran == ["plan", "backup", "pre_check", "migrate", "validate", "soak", "contract", "report", "outcome"]


@pytest.mark.parametrize(
    ("idle", "letters"),
    [
        pytest.param(("migrate",), "S-SSSSSSSSS--SS", id="a fill alone"),
        pytest.param(("migrate", "backfill"), "S-SSS--SSSS--SS", id="neither"),
        pytest.param(("migrate", "backfill", "cutover"), "S-SSS---SSS--SS", id="no change of data at all"),
    ],
)
def test_a_migrate_with_nothing_to_do_stops_no_backfill(
    idle: tuple[str, ...], letters: str, change: Change, script: Script
) -> None:
    script.skips = dict.fromkeys(idle, "nothing to do")
    assert run(change) == ("success", letters)
    assert ("backfill" in script.ran) is ("backfill" not in idle)


def test_a_failure_after_stages_that_were_skipped_is_rolled_back(change: Change, script: Script) -> None:
    script.skips = {"rehearse": "not wanted", "backfill": "nothing to fill", "cutover": "nothing to switch"}
    script.fails = {"validate": ValidationFailed("x")}
    assert run(change) == ("failed", "S-SS-S--FuuSSSF")


def test_a_rollback_that_fails_is_loud(change: Change, script: Script) -> None:
    script.fails = {"cutover": ValidationFailed("x"), "rollback": ValidationFailed("x")}
    assert run(change) == ("failed", "S-SSSSSFuuuFuSF")
