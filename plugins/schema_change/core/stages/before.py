"""Stages ``approve``, ``backup`` and ``pre_check``: everything before the first change. Nothing is touched here."""

from __future__ import annotations

from typing import Any

from schema_change.core import sqlfiles
from schema_change.core.backup.dump import take_backup
from schema_change.core.backup.scope import backup_scope
from schema_change.core.backup.scratch import drop_scratch, restore_to_scratch, scratch_name, scratch_server
from schema_change.core.catalog.diff import diff
from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Target
from schema_change.core.errors import BackupError, PreCheckFailed
from schema_change.core.model import to_json
from schema_change.core.planning.approval import Approval
from schema_change.core.prechecks import raise_if_failed
from schema_change.core.stages.plan import change_of, describe, prepare_again, reported
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.session import Session
from schema_change.core.surroundings.sentinels import measure, sentinels_of
from schema_change.core.warehouse.read import names_of_templates
from schema_change.core.wording import sized


def approve(session: Session) -> StageResult:
    """Check that every approval the plan needs was given. Raises PreCheckFailed naming the missing roles."""
    needed = needed_approvals(session)
    if not needed:
        risk = session.journal.run.risk
        return StageResult("approve", "skipped", f"risk is {risk}: nobody needs to approve")
    ensure_approved(session)
    given = _given(session)
    return StageResult(
        "approve", "done", "approved by " + ", ".join(f"{given[a.role]} ({a.role})" for a in needed), {"given": given}
    )


def needed_approvals(session: Session) -> list[Approval]:
    """Return the approvals recorded with the plan."""
    stage = session.journal.stages().get("plan")
    found = stage.result.get("approvals", []) if stage else []
    return [Approval(a["role"], tuple(a["users"]), a["reason"]) for a in found]


def ensure_approved(session: Session) -> None:
    """Raise PreCheckFailed unless every approval the plan needs is in the journal."""
    needed = needed_approvals(session)
    given = _given(session) if needed else {}
    if missing := [a for a in needed if a.role not in given]:
        raise PreCheckFailed(
            f"not approved by {', '.join(a.role for a in missing)}",
            hint="; ".join(f"{a.role}: {', '.join(a.users) or 'anybody but the requester'}" for a in missing),
        )


def _given(session: Session) -> dict[str, str]:
    rows = session.side.execute(sqlfiles.block("queries/journal", "approvals"), {"run_id": session.run_id}).fetchall()
    return {role: user for role, user, _ in rows}


def backup(session: Session) -> StageResult:
    """Dump on one snapshot with counts and checksums, and prove the dump by restoring it beside the target."""
    ensure_approved(session)
    plan = session.plan()
    session.journal.claim(tuple(dict.fromkeys((*plan.written, *plan.scope))))
    if session.options.skip_backup:
        session.journal.event("backup_skipped", "asked for by the run's options")
        return StageResult("backup", "skipped", "skip_backup was asked for; there is nothing to restore from")
    everything = session.options.backup_scope == "database"
    tables = backup_scope(session.side, plan.written, plan.read, everything)
    folder = session.request.backup_folder
    manifest = take_backup(
        session.target,
        tables,
        folder,
        everything=everything,
        run_id=session.run_id,
        templates=names_of_templates(change_of(session)),
        note=session.note,
    )
    server = scratch_server(session.target, session.request.scratch, manifest)
    name = scratch_name(session.run_id)
    scratch = restore_to_scratch(folder, server, name, session.note)
    differences = _compare_catalogs(session, scratch)
    if session.options.skip_rehearsal:
        drop_scratch(server, name)
    data: dict[str, Any] = {
        "folder": str(folder),
        "rows": manifest.rows,
        "bytes": sum(f.bytes for f in manifest.files),
        "tables": [str(t.table) for t in manifest.tables],
        "taken_at": manifest.taken_at.isoformat(),
        "catalog_differences": differences,
    }
    session.journal.set_backup(data, {"tables": [t.to_json() for t in manifest.tables]})
    session.journal.event("backup", f"{manifest.contents}, verified by a restore")
    summary = f"{manifest.contents}, {sized(data['bytes'])}, verified by a restore"
    return StageResult("backup", "done", summary, data)


def _compare_catalogs(session: Session, scratch: Target) -> list[str]:
    """Compare the restored catalog with the planned one; another server may lack roles, our own may not differ."""
    plan = session.plan()
    with scratch.connect("verify") as connection:
        restored = read_catalog(connection, plan.scope)
    if restored.fingerprint == plan.fingerprint:
        return []
    lines = diff(session.journal.run.catalog_before or {}, restored.to_json())
    differences = [line for line in lines if "publication " not in line]  # a backup leaves those out
    if differences and session.request.scratch is None:
        raise BackupError(
            "the restored backup does not have the catalog that was planned on: " + "; ".join(differences[:5]),
            hint="when the schema was changed meanwhile, start a new run",
        )
    return differences


def pre_check(session: Session) -> StageResult:
    """Check everything right before the first change, and that the plan is still the one approved."""
    ensure_approved(session)
    stored = session.plan()
    session.journal.claim(stored.written)
    prepared = prepare_again(session, stored)
    result = describe(session, prepared)
    with reported(result):
        raise_if_failed(prepared.checks)
    if prepared.plan.fingerprint != stored.fingerprint or prepared.plan.steps != stored.steps:
        # What has left the scope since then was not read for the new plan.
        now = read_catalog(session.side, stored.scope)
        lines = diff(session.journal.run.catalog_before or {}, now.to_json())
        raise PreCheckFailed(
            "the plan is no longer the one that was approved: " + ("; ".join(lines[:5]) or "its steps differ"),
            hint="look at what changed, then start a new run, which asks for approval again",
            data=result,
        )
    counts = {s: sum(c.status == s for c in prepared.checks) for s in ("pass", "warn", "unknown")}
    # What validate compares with: the last moment at which nothing was touched.
    surroundings = session.surroundings
    sentinels = measure(session.side, sentinels_of(surroundings, stored))
    asked_for = sentinels[: len(surroundings.sentinels)]
    if broken := [f"sentinel {m.name}: {m.error}" for m in asked_for if m.error]:
        raise PreCheckFailed("; ".join(broken), hint="correct the query, or leave out analyze", data=result)
    data = {"checks": [to_json(c) for c in prepared.checks], "sentinels": list(map(to_json, sentinels))}
    return StageResult("pre_check", "done", ", ".join(f"{n} {s}" for s, n in counts.items() if n), data)
