"""A stand-in for the core's runner: it keeps a journal in memory and fails where it is told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from typing import NoReturn

from schema_change.core.errors import ChangeRolledBack, PreCheckFailed, SchemaChangeError
from schema_change.core.execution.waiting import Waiting
from schema_change.core.planning.approval import Approval, check_approver
from schema_change.core.stages import STAGES
from schema_change.core.stages.request import Request, StageResult

IN_DRY_RUN = ("plan", "pre_check", "outcome")
CHANGING = ("migrate", "backfill", "cutover", "validate")


@dataclass
class Script:
    """What happens in a run, shared by the runners of all its tasks."""

    fails: dict[str, Exception] = field(default_factory=dict)
    skips: dict[str, str] = field(default_factory=dict)
    waits: dict[str, datetime] = field(default_factory=dict)
    waits_for: dict[str, Waiting] = field(default_factory=dict)
    park_after_s: float | None = None
    earlier: Waiting | None = None
    needs: list[Approval] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    shards: list[int] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cancelled: int = 0
    other_dag: list[tuple[str, str]] = field(default_factory=list)

    def runner(
        self,
        request: Request,
        *,
        progress: Callable[[str], None] | None = None,
        park_after_s: float | None = None,
        ahead: bool = False,
        earlier: Waiting | None = None,
    ) -> FakeRunner:
        """Take the place of the class Runner."""
        self.park_after_s, self.earlier = park_after_s, earlier
        return FakeRunner(self, request, ahead)


class FakeRunner:
    """The same methods as the core's runner, by the script."""

    def __init__(self, script: Script, request: Request, ahead: bool) -> None:
        self.script = script
        self.request = request
        self.ahead = ahead
        self.skipped: tuple[str, ...] = ()
        script.requests.append(request)

    def run(self, stage: str, shard: int = 0) -> StageResult:
        self.script.shards.append(shard)
        result = self._run(stage)
        if self.ahead and result.status != "waiting":
            self.skipped = self._idle_after(stage)
        return result

    def _run(self, stage: str) -> StageResult:
        script = self.script
        script.ran.append(stage)
        if self.request.options.dry_run and stage not in IN_DRY_RUN:
            return StageResult(stage, "skipped", "dry run: nothing was changed")
        if stage in script.fails:
            raise script.fails[stage]
        if stage in script.skips:
            return StageResult(stage, "skipped", script.skips[stage])
        until, waits_for = script.waits.pop(stage, None), script.waits_for.pop(stage, None)
        if until or waits_for:
            return StageResult(stage, "waiting", "not yet", until=until, waits_for=waits_for)
        if stage in ("rollback", "verify_rollback") and not (self._begun() and script.fails):
            return StageResult(stage, "skipped", "nothing to undo")
        if stage == "outcome" and (script.fails or not (self.request.options.dry_run or "contract" in script.ran)):
            raise ChangeRolledBack("the change did not land")
        return StageResult(stage, "done", f"{stage} done", {"guide": "# Guide"} if stage == "plan" else {})

    def _idle_after(self, stage: str) -> tuple[str, ...]:
        following = STAGES[STAGES.index(stage) + 1 :]
        if self.request.options.dry_run:
            return tuple(takewhile(lambda later: later not in IN_DRY_RUN, following))
        # As in the core, migrate is never skipped from the stage before it.
        idle = {*self.script.skips, *(() if self.script.needs else ("approve",))} - {"migrate"}
        landed = ("rollback", "verify_rollback") if stage == "contract" else ()
        return tuple(takewhile(lambda later: later in idle or later in landed, following))

    def cancel(self) -> None:
        self.script.cancelled += 1

    def record_backfill_dag(self, status: str, message: str) -> bool:
        if not self.request.options.dry_run:
            self.script.other_dag.append((status, message))
        return not self.request.options.dry_run

    def approvals(self) -> list[Approval]:
        return [a for a in self.script.needs if a.role not in self.script.given]

    def record_approval(self, *, role: str, user: str, comment: str = "") -> None:
        approval = next(a for a in self.script.needs if a.role == role)
        check_approver(approval, user, self.request.requested_by)
        self.script.given[role] = user

    def record_rejection(self, *, role: str, user: str, comment: str = "") -> NoReturn:
        raise PreCheckFailed(f"{role}: rejected by {user or 'nobody in time'}: {comment}")

    def _begun(self) -> bool:
        return any(stage in self.script.ran for stage in CHANGING)


class Busy(SchemaChangeError):
    """Something that passes."""

    retryable = True
