"""Stages ``report`` and ``outcome``: write down what happened, and say whether the change landed."""

from __future__ import annotations

from pydantic_core import to_json

from schema_change.core.errors import ChangeRolledBack, RollbackFailed
from schema_change.core.report import render_report, run_report
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.rollback import failure_of
from schema_change.core.stages.session import Session


def report(session: Session) -> StageResult:
    """Write the run's record as JSON and as a page beside the guide."""
    record = run_report(session.journal)
    folder = session.request.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_bytes(to_json(record, indent=2) + b"\n")
    (folder / "report.html").write_text(render_report(record), encoding="utf-8")
    return StageResult("report", "done", f"{folder / 'report.html'}", {"folder": str(folder)})


def outcome(session: Session) -> StageResult:
    """Give the run its state. Raises ChangeRolledBack or RollbackFailed unless the change landed."""
    run = session.journal.run
    if run.status == "applied":
        return StageResult("outcome", "done", f"{run.change_id} landed")
    reason = run.error or failure_of(session)
    folder = session.request.folder
    if run.status == "stopped":
        raise ChangeRolledBack(f"{run.change_id} did not start; nothing was changed: {reason}", hint=f"see {folder}")
    if run.status in {"rolled_back", "restored"}:
        proof = "the catalog is as it was" if run.status == "rolled_back" else "the backup was put back"
        raise ChangeRolledBack(f"{run.change_id} did not land, {proof}: {reason}", hint=f"see {folder}/report.html")
    if run.status == "contracting":
        raise RollbackFailed(
            f"{run.change_id} is past the point of no return but not finished: {reason}",
            hint="clear the task contract, or run schema-change reconcile; the new shape is usable meanwhile",
        )
    raise RollbackFailed(
        f"{run.change_id} did not land and is {run.status}: {reason}",
        hint=f"schema-change reconcile --run {run.run_id}, or restore the backup",
    )
