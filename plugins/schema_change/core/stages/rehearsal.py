"""Stage ``rehearse``: the whole change, its rollback, and the change again, on the restored copy."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from schema_change.core.backup.checksums import checksums, differences
from schema_change.core.backup.manifest import read_manifest
from schema_change.core.backup.scope import backup_scope
from schema_change.core.backup.scratch import drop_scratch, scratch_name, scratch_server, scratch_to_change
from schema_change.core.catalog.diff import diff
from schema_change.core.catalog.read import read_catalog
from schema_change.core.changes.spec import CHECKSUM_ALGORITHM
from schema_change.core.database import Target
from schema_change.core.errors import PreCheckFailed
from schema_change.core.journal import registry
from schema_change.core.model import Phase
from schema_change.core.stages.before import ensure_approved
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.session import Session, open_session
from schema_change.core.stages.validate import check_shape, run_verify_script
from schema_change.core.templates import duration


def rehearse(session: Session) -> StageResult:
    """Rehearse on the scratch copy and drop it. Raises PreCheckFailed when the rollback is not the identity there.

    Great Expectations do not run here: a suite may look at tables whose rows are not in the copy.
    """
    ensure_approved(session)
    if session.options.skip_rehearsal or session.options.skip_backup:
        session.journal.event("rehearsal_skipped", "asked for by the run's options")
        return StageResult("rehearse", "skipped", "asked for by the run's options; the rollback is untried")
    folder = session.request.backup_folder
    server = scratch_server(session.target, session.request.scratch, read_manifest(folder))
    name = scratch_name(session.run_id)
    scratch = scratch_to_change(folder, server, name, session.note)
    try:
        result = _rehearse(session, scratch)
    finally:
        drop_scratch(server, name)
    session.journal.event("rehearsed", "forward, back and forward again on a restored copy")
    seconds = sum(step["seconds"] for step in result["steps"])
    summary = f"forward, back (catalog and data equal) and forward again; the steps took {duration(seconds)}"
    return StageResult("rehearse", "done", summary, result)


def _rehearse(session: Session, scratch: Target) -> dict[str, Any]:
    plan = session.plan()
    with scratch.connect("rehearse") as connection:
        before = read_catalog(connection, plan.scope)
        tables = backup_scope(connection, plan.written, ())  # those that exist before the change
        rows_before = checksums(connection, tables)
        registry.install(connection)
    first, second = uuid4(), uuid4()
    with _on_copy(session, scratch, first) as copy:
        _forward(copy, session)
        steps = [
            {
                "title": row.planned.title,
                "lock": row.planned.lock.sql,
                "rows": row.rows,
                "seconds": round((row.finished_at - row.started_at).total_seconds(), 3)
                if row.finished_at and row.started_at
                else 0.0,
            }
            for row in copy.journal.steps()
            if row.status == "done"
        ]
        copy.undo_all()
        _assert_undone(copy, before.to_json(), before.fingerprint)
        if changed := differences(rows_before, checksums(copy.side, tables)):
            raise PreCheckFailed(
                "the rehearsed rollback did not give the rows back: " + "; ".join(changed[:5]),
                hint="nothing was changed; correct the undo of the change",
            )
    with _on_copy(session, scratch, second) as copy:
        _forward(copy, session)
        copy.run_phase(Phase.CONTRACT)
    return {"steps": steps, "rollback": "catalog and data equal"}


def _on_copy(session: Session, scratch: Target, run_id: UUID) -> AbstractContextManager[Session]:
    return open_session(session.request, "rehearse", session.note, target=scratch, run_id=run_id)


def _forward(copy: Session, original: Session) -> None:
    run = original.journal.run
    copy.journal.record_plan(
        original.plan(),
        change_version=run.change_version,
        change_name=run.change_name,
        description=run.description,
        checksum=run.checksum,
        parent_checksum=run.parent_checksum,
        checksum_algorithm=CHECKSUM_ALGORITHM,
        files_sha256=run.files_sha256,
        conn_id=run.conn_id,
        requested_by=run.requested_by,
        requested_from="rehearsal",
        options=Jsonb(run.options),
        change=Jsonb(run.change),
        catalog_before=None,
    )
    for phase in (Phase.EXPAND, Phase.BACKFILL, Phase.CUTOVER):
        copy.run_phase(phase)
    check_shape(copy)
    run_verify_script(copy)


def _assert_undone(copy: Session, before: dict[str, Any], fingerprint: str) -> None:
    after = read_catalog(copy.side, copy.plan().scope)
    if after.fingerprint != fingerprint:
        lines = diff(before, after.to_json())
        raise PreCheckFailed(
            "the rehearsed rollback did not give the catalog back: " + "; ".join(lines[:5]),
            hint="nothing was changed; correct the undo (revert.sql) of the change",
        )
