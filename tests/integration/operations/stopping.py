"""Runs that must not get through, or must not stay."""

from __future__ import annotations

from schema_change.core.errors import ChangeRolledBack, PreCheckFailed
from tests.bench import Run


def stopped(run: Run) -> str:
    """Demand that the pre-checks stop a run, approved by everybody, and return what they say."""
    assert run.try_stage("plan"), run.error
    run.approve()
    assert not all(run.try_stage(stage) for stage in ("approve", "backup", "pre_check"))
    assert isinstance(run.error, PreCheckFailed), run.error
    return run.error.message


def rolled_back(run: Run) -> bool:
    """Finish a run that did not land, and tell whether everything is as it was."""
    run.finish()
    return isinstance(run.outcome_error, ChangeRolledBack)
