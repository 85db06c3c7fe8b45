"""Stages ``migrate``, ``backfill``, ``cutover`` and ``contract``: the change itself, from the stored plan."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from schema_change.core.backfill.engine import remaining
from schema_change.core.catalog.model import Catalog
from schema_change.core.catalog.read import read_catalog
from schema_change.core.errors import BackfillError, JournalError, SchemaChangeError
from schema_change.core.journal.journal import StageRow, StepRow
from schema_change.core.model import LockMode, NewRows, Phase, Plan, Step
from schema_change.core.recipes import analyze, vacuum_analyze
from schema_change.core.stages import BACKFILL_DAG
from schema_change.core.stages.before import ensure_approved, pre_check
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.session import Session
from schema_change.core.stages.validate import check_agreement
from schema_change.core.surroundings.follow_ups import schedule
from schema_change.core.wording import counted

_CHECKS_HOLD = dt.timedelta(hours=1)


def migrate(session: Session) -> StageResult:
    """Run the expand steps."""
    ensure_approved(session)
    checked = session.journal.stages().get("pre_check")
    if checked is None or checked.status != "done":
        raise JournalError("the pre-checks of this run have not passed", hint="run pre_check first")
    _check_again(session, checked)
    # From here on a failure is rolled back, and the hooks of the rollback start what those before migrate stopped.
    session.journal.set_status("running")
    hooks = session.hooks.run("before_migrate")
    steps = session.run_phase(Phase.EXPAND)
    return _finish("migrate", steps, hooks + session.hooks.run("after_migrate"))


def backfill(session: Session) -> StageResult:
    """Fill data in batches, then refresh the planner's statistics.

    Each shard's session returns when all of them are done, so one of them is enough for the statistics.
    """
    _ensure_running(session)
    _ensure_filled_by_dag(session)
    steps = session.run_phase(Phase.BACKFILL)
    if session.steps.backfill.shard:
        return _finish("backfill", steps)
    for table in dict.fromkeys(t for step in steps for t in step.tables):
        session.steps.executor.autocommit((analyze(table),), tables=(table,), lock=LockMode.SHARE_UPDATE_EXCLUSIVE)
    return _finish("backfill", steps)


def cutover(session: Session) -> StageResult:
    """Assert that no row is left to fill, then run the steps that need filled data."""
    _ensure_running(session)
    fills = [row for row in session.journal.steps() if row.planned.backfill and row.planned.phase is Phase.BACKFILL]
    for row in fills:
        _assert_filled(session, row)
    hooks = session.hooks.run("before_cutover")
    steps = session.run_phase(Phase.CUTOVER)
    hooks += session.hooks.run("after_cutover")
    if fills and not steps:
        return StageResult("cutover", "done", "no row is left to fill")
    return _finish("cutover", steps, hooks)


def contract(session: Session) -> StageResult:
    """Remove the old shape and land the change: record its version, release its tables. Only goes forward."""
    run = session.journal.run
    if run.status == "applied":
        return StageResult("contract", "done", "the change has landed already")
    if run.status not in {"validated", "contracting"}:
        raise JournalError(f"the run is {run.status}, not validated", hint="contract runs after validate has passed")
    if run.status == "validated":
        _ensure_soaked(session)
        check_agreement(session)
    session.journal.set_status("contracting")
    steps = session.run_phase(Phase.CONTRACT)
    plan = session.plan()
    catalog = read_catalog(session.side, plan.scope)
    version = run.change.get("registry")
    with session.work.pipeline(), session.work.transaction():
        if version:
            session.journal.record_version(version["table"], version["to"], version.get("definition"), run.description)
        session.journal.record_retired(plan.retired)
        session.journal.set_fingerprint_after(catalog.fingerprint, catalog.to_json())
        session.journal.set_status("applied")
        session.journal.release()
        schedule(session.journal)
        session.journal.event("applied", f"version {version['to']} of {version['table']}" if version else "")
    _vacuum(session, plan, catalog)
    removed = f"{counted(len(steps), 'step')}; " if steps else "nothing to remove; "
    landed = f"{version['table']} is now at {version['to']}" if version else "the change has landed"
    return StageResult("contract", "done", removed + landed)


def _vacuum(session: Session, plan: Plan, catalog: Catalog) -> None:
    """Make the dead rows of backfills reusable, or give their space back. It has landed: trouble here is only told."""
    full = session.options.vacuum_full
    tables = plan.written if full else tuple(s.backfill.table for s in plan.steps if s.backfill is not None)
    lock = LockMode.ACCESS_EXCLUSIVE if full else LockMode.SHARE_UPDATE_EXCLUSIVE
    executor = session.steps.executor.in_process()
    for table in (t for t in dict.fromkeys(tables) if catalog.get(t) is not None):
        try:
            # The stage has done its work, and would not do this again.
            executor.autocommit((vacuum_analyze(table, full=full),), tables=(table,), lock=lock)
        except SchemaChangeError as error:
            session.note(f"VACUUM of {table} is left to autovacuum: {error.message}")


def _assert_filled(session: Session, row: StepRow) -> None:
    """Raise BackfillError when rows are still to be filled; rows that are ours to sweep are swept first."""
    backfill = row.planned.backfill
    assert backfill is not None  # noqa: S101 - the caller has looked
    left = remaining(session.side, backfill)
    if (left or row.status != "done") and backfill.new_rows is NewRows.SWEEP:
        session.steps.sweep(row)
        left = remaining(session.side, backfill)
    if left:
        whose = " by the application" if backfill.new_rows is NewRows.APPLICATION else ""
        raise BackfillError(
            f"{left} rows of {backfill.table} are still to be {backfill.verb}{whose}",
            hint="the application still writes such rows; change it first, then start a new run"
            if backfill.batch
            else "use new_rows: trigger, so that rows written meanwhile are filled as they are written",
        )


def _check_again(session: Session, checked: StageRow) -> None:
    """Run the pre-checks again when the run has waited since, for its window or a worker."""
    assert checked.finished_at is not None  # noqa: S101 - it is done
    if session.journal.run.status == "planned" and dt.datetime.now(dt.UTC) - checked.finished_at > _CHECKS_HOLD:
        session.note("the pre-checks are old; checking again")
        pre_check(session)


def _ensure_filled_by_dag(session: Session) -> None:
    other = session.surroundings.backfill_dag
    stage = session.journal.stages().get(BACKFILL_DAG)
    if other is not None and (stage is None or stage.status != "done"):
        raise JournalError(
            f"DAG {other.dag_id}, which fills data, has not ended well", hint="the change's own DAG triggers it"
        )


def _ensure_soaked(session: Session) -> None:
    stage = session.journal.stages().get("soak")
    if session.surroundings.soak is not None and (stage is None or stage.status != "done"):
        raise JournalError("the change has not soaked yet", hint="run soak first; it says how long it lasts")


def _ensure_running(session: Session) -> None:
    status = session.journal.run.status
    if status not in {"running", "validated"}:
        raise JournalError(f"the run is {status}, not running", hint="run the stages in order, from migrate")


def _finish(stage: str, steps: list[Step], hooks: Sequence[str] = ()) -> StageResult:
    if not steps and not hooks:
        return StageResult(stage, "skipped", f"this change has nothing to do in {stage}")
    data = {"steps": [step.title for step in steps], "hooks": list(hooks)}
    done = counted(len(steps), "step") + (f", {counted(len(hooks), 'hook')}" if hooks else "")
    return StageResult(stage, "done", done, data)
