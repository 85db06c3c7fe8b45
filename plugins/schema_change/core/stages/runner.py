"""Run one stage of a run: open the session, hold the fence, keep the order, write the stage's entry."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from typing import Any, Literal, NoReturn

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import ExecutionError, JournalError, PreCheckFailed, SchemaChangeError
from schema_change.core.execution.waiting import Parked, Parking, Waiting
from schema_change.core.journal import registry
from schema_change.core.journal.journal import Journal, RunRow, StageRow, find_run
from schema_change.core.model import Phase
from schema_change.core.planning.approval import Approval, check_approver
from schema_change.core.report import run_report
from schema_change.core.stages import (
    BACKFILL_DAG,
    SHARDED,
    STAGES,
    before,
    change,
    finish,
    plan,
    rehearsal,
    rollback,
    soak,
    validate,
)
from schema_change.core.stages.ahead import has_nothing_to_do
from schema_change.core.stages.request import Options, Request, StageResult
from schema_change.core.stages.session import Pair, Session, open_session
from schema_change.core.surroundings.hooks import hooks_started
from schema_change.core.surroundings.timing import WITHIN_WINDOW, opens_at, waits

log = logging.getLogger(__name__)

_FUNCTIONS: Mapping[str, Callable[[Session], StageResult]] = {
    "plan": plan.plan,
    "approve": before.approve,
    "backup": before.backup,
    "pre_check": before.pre_check,
    "rehearse": rehearsal.rehearse,
    "migrate": change.migrate,
    "backfill": change.backfill,
    "cutover": change.cutover,
    "validate": validate.validate,
    "soak": soak.soak,
    "contract": change.contract,
    "rollback": rollback.rollback,
    "verify_rollback": rollback.verify_rollback,
    "report": finish.report,
    "outcome": finish.outcome,
}
#: From here on a run is finished from its journal; a file edited meanwhile must not stand in the way.
_BY_JOURNAL = frozenset(STAGES[STAGES.index("soak") :])
#: The stages whose commits, up to the entry that ends them, wait for the disk even where one process runs all of them.
_DURABLE = frozenset({"migrate", BACKFILL_DAG, "backfill", "cutover", "contract", "rollback", "verify_rollback"})
#: Behind these a process that runs all stages gives the fence back: the run is over, or others wrote its journal.
_LAST = frozenset({"rollback", "verify_rollback", "outcome"})
_IN_DRY_RUN = frozenset({"plan", "pre_check"})
#: The statuses a run may have for a stage to begin. A task can be cleared at any time: what has landed stays landed,
#: and what was stopped or undone does not go on.
_BEFORE = frozenset({"planned"})
_CHANGING = frozenset({"running", "validated"})
_MAY_BEGIN: Mapping[str, frozenset[str]] = {
    "plan": frozenset({"planned", "stopped"}),
    **dict.fromkeys(("approve", "backup", "pre_check", "rehearse"), _BEFORE),
    "migrate": _BEFORE | _CHANGING,
    **dict.fromkeys(("backfill", "cutover", "validate"), _CHANGING),
    "soak": frozenset({"validated"}),
    "contract": frozenset({"validated", "contracting", "applied"}),
}


class Runner:
    """Runs the stages of one request, one at a time. ``progress`` receives a line whenever something happens.

    ``pair`` has the sessions of a process that runs more than one stage; without it each stage opens its own. With
    ``ahead`` a stage that is done skips those right after it that have nothing to do: no task need be started for them.
    A wait for a lock, or of a backfill that is paused, ends the stage with ``waiting`` after ``park_after_s`` seconds;
    by default it is seen through here. ``earlier`` is what the stage to be run has waited for that way.
    """

    def __init__(
        self,
        request: Request,
        *,
        progress: Callable[[str], None] | None = None,
        pair: Pair | None = None,
        ahead: bool = False,
        park_after_s: float | None = None,
        earlier: Waiting | None = None,
    ) -> None:
        self.request = request
        self.pair = pair
        self.ahead = ahead
        self._parking = Parking(park_after_s, earlier)
        self.progress = progress or (lambda line: log.info("%s", line))
        self._session: Session | None = None
        self._planned_here = False
        self._skipped: dict[str, StageResult] = {}

    @property
    def skipped(self) -> tuple[str, ...]:
        """Return the stages that were skipped ahead and have not had their turn."""
        return tuple(self._skipped)

    def run(self, stage: str, shard: int = 0) -> StageResult:
        """Run a stage, ``backfill`` beginning with a shard and beside the others.

        Raises a SchemaChangeError; the journal then says why, and a new try goes on from there.
        """
        if (skipped := self._skipped.pop(stage, None)) is not None:
            return skipped
        if self.pair is None:
            return self._run(stage, shard)
        goes_on = False
        try:
            self.pair.durable(False)
            result = self._run(stage, shard)
            goes_on = result.status != "waiting" and stage not in _LAST
        finally:
            if not goes_on:
                self.rest()
        return result

    def rest(self) -> None:
        """Let others at the run while nothing is done: somebody is asked, or it waits."""
        if self.pair is not None:
            self.pair.rest()

    def _run(self, stage: str, shard: int) -> StageResult:
        if stage != "plan":
            self.request = self._as_planned()
        if self.request.options.dry_run:
            return self._dry_run(stage)
        with self._open(stage, shard if stage == SHARDED else None) as session:
            run = session.journal.find()
            if run is not None and run.status not in _MAY_BEGIN.get(stage, {run.status}):
                raise JournalError(
                    f"{stage} cannot begin: the run is {run.status}", hint="start a new run, or clear a later task"
                )
            if stage == "plan":
                result = self._finished(session, stage)
                self._planned_here = True
                self._skip_ahead(session, stage)
                return result
            if run is None:
                return self._without_journal(stage)
            stages = session.journal.stages()
            self._keep_order(run, stages, stage)
            # A shard that joined before the first one began is no try yet.
            waiting = stage in stages and stages[stage].is_waiting and stages[stage].tries > 0
            if self._parking.earlier is not None or (waiting and stages[stage].result.get("waits_for")):
                # No new try, whatever became of other shards of the stage meanwhile.
                session.journal.wait_stage(stage, {})
            elif not waiting:
                session.journal.start_stage(stage, joins=shard > 0)
            result = self._finished(session, stage)
            if result.status != "waiting":
                self._skip_ahead(session, stage)
            return result

    def _skip_ahead(self, session: Session, stage: str) -> None:
        if not self.ahead:
            return
        idle = takewhile(partial(has_nothing_to_do, session), _after(stage))
        results = {later: _FUNCTIONS[later](session) for later in idle}
        if results:
            session.journal.pass_stages({s: {**r.data, "summary": r.summary} for s, r in results.items()})
        for later, result in results.items():
            self.progress(f"{later}: {result.summary}")
        self._skipped |= results

    def cancel(self) -> None:
        """Cancel what runs in the database and close the sessions; for a task that is being killed."""
        if self._session is not None:
            self._session.cancel()

    @contextlib.contextmanager
    def looking(self) -> Iterator[Connection]:
        """Yield a session to look into the journal with, while no stage is at work."""
        if self.pair is not None:
            yield self.pair.side
            return
        with self.request.target.connect("look", read_only=True) as connection:
            yield connection

    def report(self) -> dict[str, Any]:
        """Return the record of the run as it is now."""
        with self.looking() as connection:
            known = self.pair.known(self.request.run_id) if self.pair is not None else None
            return run_report(Journal(connection, self.request.run_id, known=known))

    def approvals(self) -> list[Approval]:
        """Return the approvals the stored plan needs that nobody has given yet."""
        if self.request.options.dry_run or "approve" in self._skipped:
            return []
        with self._open("approve") as session:
            if session.journal.find() is None:
                return []
            rows = session.side.execute(sqlfiles.block("queries/journal", "approvals"), {"run_id": session.run_id})
            given = {row[0] for row in rows}
            return [a for a in before.needed_approvals(session) if a.role not in given]

    def record_approval(self, *, role: str, user: str, comment: str = "") -> None:
        """Record who approved. Raises PreCheckFailed when this person may not."""
        with self._open("approve") as session:
            if session.journal.find() is None:
                self._without_journal("approve")
            approval = next((a for a in before.needed_approvals(session) if a.role == role), None)
            if approval is None:
                raise JournalError(f"this run needs no approval by {role}", hint="see the plan")
            check_approver(approval, user, session.journal.run.requested_by)
            session.work.execute(
                sqlfiles.block("queries/journal", "insert_approval"),
                {"run_id": session.run_id, "user": user, "role": role, "comment": comment},
            )

    def record_rejection(self, *, role: str, user: str, comment: str = "") -> NoReturn:
        """Record who refused, or that nobody answered in time (no ``user``), and raise PreCheckFailed."""
        who = f"rejected by {user}" if user else "nobody answered in time"
        error = PreCheckFailed(f"{role}: {who}{f': {comment}' if comment else ''}", hint="nothing was changed")
        with self._open("approve") as session:
            session.journal.start_stage("approve")
            self._record(session, "approve", "failed", {"error": error.message, "hint": error.hint})
        raise error

    def record_backfill_dag(self, status: Literal["started", "done", "failed"], message: str) -> bool:
        """Record how far the other DAG is that fills data; False in a dry run, in which it is not to be triggered.

        Raises JournalError when the run is not at work.
        """
        self.request = self._as_planned()
        if self.request.options.dry_run:
            return False
        with self._open(BACKFILL_DAG) as session:
            run = session.journal.find()
            if run is None or run.status not in _CHANGING:
                state = f"the run is {run.status}" if run else "it was never planned"
                raise JournalError(f"no data to be filled: {state}", hint="start a new run, or clear a later task")
            journal = session.journal
            if status == "started":
                journal.start_stage(BACKFILL_DAG)
            else:
                journal.finish_stage(BACKFILL_DAG, status, {"summary" if status == "done" else "error": message})
            journal.event(BACKFILL_DAG, f"{status}: {message}")
        return True

    def _open(self, stage: str, shard: int | None = None) -> AbstractContextManager[Session]:
        def opened(session: Session) -> None:
            self._session = session

        def note(line: str) -> None:
            self.progress(line)

        return open_session(
            self.request, stage, note, parking=self._parking, pair=self.pair, shard=shard, opened=opened
        )

    def _as_planned(self) -> Request:
        """Return the request with the options the run was planned with; what a task was given may differ by now."""
        if self._planned_here:
            return self.request
        with self.looking() as connection:
            run = find_run(connection, self.request.run_id)
        return self.request if run is None else replace(self.request, options=Options(**run.options))

    def _dry_run(self, stage: str) -> StageResult:
        if stage not in _IN_DRY_RUN:
            return _untouched(stage)
        with self._open(stage) as session:
            result = plan.dry_run(session, stage)
        if self.ahead:
            idle = takewhile(lambda later: later not in _IN_DRY_RUN | {"outcome"}, _after(stage))
            self._skipped |= {later: _untouched(later) for later in idle}
        self.progress(f"{stage}: {result.summary}")
        return result

    def _finished(self, session: Session, stage: str) -> StageResult:
        """Run the stage's function and record how it ended, also when it fails."""
        if self.pair is not None and stage in _DURABLE:
            self.pair.durable(True)
        try:
            result = self._closed(session, stage) or _FUNCTIONS[stage](session)
        except Parked as parked:
            waits_for = parked.waiting
            result = StageResult(stage, "waiting", str(parked), until=waits_for.until, waits_for=waits_for)
        except SchemaChangeError as error:
            self._record(session, stage, "failed", {**error.data, "error": error.message, "hint": error.hint})
            raise
        except BaseException as error:
            # Killed, or a bug: what the journal can still be told is told, and the error goes on.
            self._record(session, stage, "failed", {"error": f"{type(error).__name__}: {error}"})
            raise
        result = self._ended(session, result)
        if self.pair is not None:
            self.pair.durable(False)
        return result

    def _ended(self, session: Session, result: StageResult) -> StageResult:
        """Record what a stage returned, and tell it."""
        summary = {**result.data, "summary": result.summary}
        if result.status == "waiting":
            session.journal.on(session.side).wait_stage(
                result.stage,
                {
                    **summary,
                    "until": result.until.isoformat() if result.until else None,
                    "waits_for": result.waits_for.to_json() if result.waits_for else None,
                },
            )
        else:
            self._record(session, result.stage, result.status, summary)
        self.progress(f"{result.stage}: {result.summary}")
        return result

    def _closed(self, session: Session, stage: str) -> StageResult | None:
        """Return ``waiting`` outside the change's window or in a blackout. Raises ExecutionError when it refuses.

        What has begun goes on: it must not be left half done, or services stopped, until the next night.
        """
        planned = self.request.change
        if planned is None or stage not in WITHIN_WINDOW:
            return None
        closed = opens_at(planned, datetime.now(UTC), self.request.blackouts())
        if closed is None or _has_begun(session.journal, stage):
            return None
        if not waits(planned):
            raise ExecutionError(f"{stage} may not start now: {closed}", hint="start a new run in time")
        return StageResult(stage, "waiting", str(closed), until=closed.opens_at)

    def _record(self, session: Session, stage: str, status: str, result: dict[str, object]) -> None:
        """Write the stage's end on a session that still works; the stage may have lost or closed its own."""
        if not session.side.closed and not session.side.broken:
            _write_end(session.journal.on(session.side), stage, status, result)
            return
        with self.request.target.connect("record") as connection:
            _write_end(session.journal.on(connection), stage, status, result)

    def _keep_order(self, run: RunRow, done: Mapping[str, StageRow], stage: str) -> None:
        """Raise JournalError when an earlier stage is missing, or the change's files are not the planned ones."""
        if stage in _BY_JOURNAL:
            return
        for earlier in STAGES[: STAGES.index(stage)]:
            if earlier != "approve" and (earlier not in done or done[earlier].status not in {"done", "skipped"}):
                raise JournalError(f"{stage} cannot run before {earlier}", hint=f"run {earlier} first")
        files = self.request.change.files_sha256 if self.request.change else None
        if files != run.files_sha256:
            raise JournalError(
                f"the files of {run.change_id} are not the ones that were planned",
                hint="put them back, or let this run end and start a new one",
            )

    @staticmethod
    def _without_journal(stage: str) -> StageResult:
        """Answer for a run whose plan failed before there was a journal: there is nothing to do."""
        if stage in {"rollback", "verify_rollback", "report"}:
            return StageResult(stage, "skipped", "there is no journal: nothing was ever changed")
        raise JournalError("this run was never planned", hint="see the plan task's error")


def _after(stage: str) -> tuple[str, ...]:
    return STAGES[STAGES.index(stage) + 1 :]


def _untouched(stage: str) -> StageResult:
    return StageResult(stage, "done" if stage == "outcome" else "skipped", "dry run: nothing was changed")


def _has_begun(journal: Journal, stage: str) -> bool:
    """Tell whether an earlier try of a stage did anything that others can see."""
    if stage == "cutover":
        steps = (row for row in journal.steps() if row.planned.phase is Phase.CUTOVER)
        return any(row.status != "planned" for row in steps) or hooks_started(journal, "before_cutover")
    return journal.run.status == {"migrate": "running", "contract": "contracting"}[stage]


def _write_end(journal: Journal, stage: str, status: str, result: dict[str, object]) -> None:
    """Write a stage's end; a plan that was refused before there was a journal has none."""
    if registry.is_installed(journal.connection):
        journal.finish_stage(stage, status, result)
