"""Stages ``rollback`` and ``verify_rollback``: undo exactly what was done, and prove it. The journal decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg

from schema_change.core.backup.checksums import TableChecksum, checksums
from schema_change.core.backup.scratch import drop_scratch, scratch_name
from schema_change.core.catalog.diff import diff
from schema_change.core.catalog.model import Catalog
from schema_change.core.catalog.read import read_catalog
from schema_change.core.errors import RollbackFailed, SchemaChangeError
from schema_change.core.model import Plan, to_json
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.restore import put_back
from schema_change.core.stages.session import Session
from schema_change.core.surroundings.hooks import HookRunner, failed_hooks
from schema_change.core.surroundings.watch import bad, look_around
from schema_change.core.wording import counted

_NOTHING_TO_UNDO = {
    "applied": "the change landed",
    "contracting": "past the point of no return: clear contract and go forward",
    "rolled_back": "it has been rolled back already",
    "restored": "its backup has been put back already",
    "stopped": "nothing was changed",
}


def rollback(session: Session) -> StageResult:
    """Undo the steps that were done, newest first, unless the change landed or nothing was changed.

    Raises RollbackFailed when an undo fails and the run does not allow restoring the backup.
    """
    _drop_scratch(session)
    run = session.journal.run
    if run.status in _NOTHING_TO_UNDO:
        return StageResult("rollback", "skipped", _NOTHING_TO_UNDO[run.status])
    reason = failure_of(session)
    if run.status == "planned":
        _stop(session, reason)
        return StageResult("rollback", "skipped", f"nothing was changed: {reason}")
    with session.work.transaction():
        session.journal.set_status("rolling_back", reason)
        session.journal.event("rollback", reason)
    if any(event.kind == "restored" for event in session.journal.events()):
        return StageResult("rollback", "done", "the backup was put back by an earlier try", {"restored": True})
    # A hook that fails is in the journal and fails verify_rollback; the database is given back all the same.
    session.hooks.run_all("before_rollback")
    try:
        undone = session.undo_all()
    except SchemaChangeError as error:
        return _undo_failed(session, error)
    session.hooks.run_all("after_rollback")
    return StageResult("rollback", "done", f"{counted(undone, 'step')} undone, because {reason}", {"reason": reason})


def verify_rollback(session: Session) -> StageResult:
    """Compare catalog and rows with those before. Raises RollbackFailed, loudly, when the catalog differs.

    Also when the database is as it was, but a hook of the way back failed, or a service is not well afterwards.
    """
    run = session.journal.run
    if run.status not in {"rolling_back", "rollback_failed"}:
        return StageResult("verify_rollback", "skipped", _NOTHING_TO_UNDO.get(run.status, f"the run is {run.status}"))
    if run.status == "rollback_failed":
        raise RollbackFailed(run.error or "an undo failed", hint="see docs/backup-and-restore.md")
    plan = session.plan()
    after = _without_others(read_catalog(session.side, plan.scope), run.catalog_before or {}, plan)
    if after.fingerprint != run.fingerprint_before:
        lines = diff(run.catalog_before or {}, after.to_json())
        session.journal.set_status("rollback_failed", "the catalog is not as it was: " + "; ".join(lines[:10]))
        raise RollbackFailed(
            "after the rollback the catalog is not as it was: " + "; ".join(lines[:10]),
            hint="undo these differences by hand, then run schema-change reconcile",
            data={"differences": lines},
        )
    tables = _compare_rows(session)
    data: dict[str, Any] = {"fingerprint": after.fingerprint, "tables": tables}
    restored = "restored" in session.journal.stages()["rollback"].result
    with session.work.transaction():
        session.journal.set_fingerprint_after(after.fingerprint)
        session.journal.set_status("restored" if restored else "rolled_back")
        session.journal.release()
        session.journal.event("rolled_back", "the fingerprint equals the one before")
    data["looks"] = _look_around(session, data)
    equal = sum(state == "equal" for state in tables.values())
    summary = f"fingerprint equal to the one before; rows of {equal} of {len(tables)} tables equal"
    return StageResult("verify_rollback", "done", summary, data)


def _look_around(session: Session, data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how services and metrics are after the way back. Raises RollbackFailed when something is not well."""
    looks = look_around(session.surroundings, patient=True, alive=session.is_open)
    back = ("before_rollback", "after_rollback", "before_restore", "after_restore")
    wrong = [*failed_hooks(session.journal, *back), *map(str, bad(looks))]
    if wrong:
        session.journal.event("not_well", "after the rollback: " + "; ".join(wrong))
        raise RollbackFailed(
            "the database is as it was, but " + "; ".join(wrong),
            hint="nothing is left to do in the database; look after the services",
            data={**data, "looks": list(map(to_json, looks))},
        )
    return list(map(to_json, looks))


def _without_others(after: Catalog, before: Mapping[str, Any], plan: Plan) -> Catalog:
    """Leave out relations that appeared meanwhile and that no step names: others work in this database too."""
    named = {table for step in plan.steps for table in step.tables}
    ours = {t: r for t, r in after.relations.items() if str(t) in before or t in named}
    return replace(after, relations=ours)


def failure_of(session: Session) -> str:
    """Return why the run did not land, from the journal."""
    failed = [s for s in session.journal.stages().values() if s.status == "failed"]
    if failed:
        latest = max(failed, key=lambda s: s.started_at)
        return f"{latest.stage} failed: {latest.result.get('error', 'no reason recorded')}"
    begun = [s for s in session.journal.stages().values() if s.status == "started" and s.stage != "rollback"]
    if begun:
        return f"{max(begun, key=lambda s: s.started_at).stage} was cut off"
    return "the run ended before it had landed"


def _stop(session: Session, reason: str) -> None:
    with session.work.transaction():
        session.journal.set_status("stopped", reason)
        session.journal.release()
        session.journal.event("stopped", f"nothing was changed: {reason}")


def _undo_failed(session: Session, error: SchemaChangeError) -> StageResult:
    journal = session.journal.on(session.side)
    if error.retryable:
        raise error
    if session.options.on_revert_failure == "restore" and journal.run.backup:
        journal.event("restore", f"an undo failed: {error.message}")
        restored = put_back(session)
        with session.target.connect("hooks") as connection:  # the session may have had to be closed
            HookRunner(journal.on(connection), session.target, session.note).run_all("after_rollback")
        summary = f"an undo failed, so the backup was put back; {restored.lost_writes()}"
        return StageResult("rollback", "done", summary, {"restored": restored.to_json()})
    journal.set_status("rollback_failed", f"an undo failed: {error.message}")
    raise RollbackFailed(
        f"an undo failed: {error.message}",
        hint=error.hint or f"repair by hand, or: schema-change restore --run {session.run_id}",
    ) from error


def _compare_rows(session: Session) -> dict[str, str]:
    """Say for each table of the backup whether its rows are equal, written by others, or not comparable."""
    before = (session.journal.run.checksums_before or {}).get("tables", [])
    old = [TableChecksum.from_json(t) for t in before]
    if not old:
        return {str(table): "not comparable" for table in session.plan().written}
    new = {c.table: c for c in checksums(session.side, [c.table for c in old], {c.table: c.columns for c in old})}
    return {str(c.table): "equal" if new[c.table] == c else "written by others" for c in old}


def _drop_scratch(session: Session) -> None:
    """Drop the copy that an interrupted backup or rehearsal left."""
    if "backup" not in session.journal.stages() or session.options.skip_backup:
        return
    try:
        drop_scratch(session.request.scratch or session.target, scratch_name(session.run_id))
    except (SchemaChangeError, psycopg.Error) as error:
        session.note(f"the scratch copy could not be dropped now: {error}")
