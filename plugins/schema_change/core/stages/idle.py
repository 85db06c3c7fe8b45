"""Which stages have nothing to do, for a process that runs them all: they are recorded, and cost nothing else."""

from __future__ import annotations

from schema_change.core.changes.spec import Change
from schema_change.core.model import Phase
from schema_change.core.stages.request import Options, StageResult
from schema_change.core.surroundings.models import Surroundings


def idle_after(stage: str, result: StageResult, change: Change, options: Options) -> dict[str, str]:
    """Return the stages that a finished one leaves nothing to do for, with the reason."""
    if stage == "plan":
        return _after_plan(result, change)
    if stage == "contract" and options.skip_backup:  # a backup may have left a copy that rollback drops
        return dict.fromkeys(("rollback", "verify_rollback"), "the change landed")
    return {}


def _after_plan(result: StageResult, change: Change) -> dict[str, str]:
    found = {}
    around = change.surroundings
    phases = {step["phase"] for step in result.data["steps"]}
    if not result.data["approvals"]:
        found["approve"] = f"risk is {result.data['risk']}: nobody needs to approve"
    if Phase.BACKFILL.value not in phases and around.backfill_dag is None:
        found["backfill"] = "this change has nothing to do in backfill"
    if not phases & {Phase.BACKFILL.value, Phase.CUTOVER.value} and around == Surroundings():
        found["cutover"] = "this change has nothing to do in cutover"
    if around.soak is None:
        found["soak"] = "the change has no soak"
    return found
