"""Stage ``plan``: snapshot, steps, lint, risk, the cheap pre-checks, the guide. Also all of a dry run."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from schema_change.core.catalog.model import Catalog
from schema_change.core.catalog.read import on_catalog, read_catalog
from schema_change.core.changes.spec import CHECKSUM_ALGORITHM, Change
from schema_change.core.errors import ConfigurationError, PreCheckFailed
from schema_change.core.journal import registry
from schema_change.core.model import Plan, to_json
from schema_change.core.planning.approval import Approval, required
from schema_change.core.planning.guide import Guide, render_guide
from schema_change.core.planning.history import read_history
from schema_change.core.planning.plan import make_plan
from schema_change.core.prechecks import CheckContext, CheckResult, raise_if_failed, run_checks
from schema_change.core.prechecks.history import earlier_scopes
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.session import Session
from schema_change.core.warehouse.read import templates_of
from schema_change.core.wording import counted

#: Seconds for which what plan has found holds in the same process, when nobody was waited for.
_HOLDS_S = 5.0


@dataclass(frozen=True)
class Prepared:
    """A plan with the catalog it was made on, what the pre-checks said, and the guide; ``made_at`` is monotonic."""

    change: Change
    catalog: Catalog
    plan: Plan
    checks: tuple[CheckResult, ...]
    approvals: tuple[Approval, ...]
    guide: Guide
    made_at: float


def prepare(session: Session, *, cheap: bool) -> Prepared:
    """Read the catalog, plan on it and check it. Writes nothing."""
    change, made_at = change_of(session), time.monotonic()
    templates = templates_of(session.side, change)
    near = change.mentioned | earlier_scopes(session.side) | {t for x in (templates or {}).values() for t in x.years}

    def on(catalog: Catalog) -> Prepared:
        catalog = replace(catalog, templates=templates)
        plan = make_plan(change, catalog)
        checks = run_checks(_context(session, change, plan, catalog), cheap=cheap)
        approvals = required(plan, session.request.approvers, session.options.approvers)
        guide = render_guide(change, plan, catalog, checks, read_history(session.side, change.version))
        return Prepared(change, catalog, plan, checks, approvals, guide, made_at)

    return on_catalog(session.side, near, on)


def prepare_again(session: Session, stored: Plan) -> Prepared:
    """Prepare as right before the first change; what plan has found a moment ago in this process is not asked again.

    That is so when the tables are still as they were planned on: by then this run owns them.
    """
    found: Prepared | None = session.known.get("prepared", lambda: None)
    if (
        found is None
        or time.monotonic() - found.made_at > _HOLDS_S
        or not stored.scope
        or read_catalog(session.side, stored.scope).fingerprint != stored.fingerprint
    ):
        return prepare(session, cheap=False)
    context = _context(session, found.change, found.plan, found.catalog)
    checks = run_checks(context, known=found.checks)
    return replace(found, checks=checks, guide=found.guide.after(checks))


def _context(session: Session, change: Change, plan: Plan, catalog: Catalog) -> CheckContext:
    return CheckContext(
        connection=session.side,
        target=session.target,
        plan=plan,
        catalog=catalog,
        change=change,
        options=session.options,
        artifacts=session.request.artifacts,
        scratch=session.request.scratch,
        blackouts=session.request.blackouts(),
        run_id=session.run_id,
    )


def plan(session: Session) -> StageResult:
    """Plan, store the plan in the journal, write the guide. Raises PreCheckFailed when the change cannot run."""
    started_at = datetime.now(UTC)
    change = change_of(session)
    change.ensure_startable()
    if session.options.vacuum_full and change.window is None:
        raise ConfigurationError(
            "vacuum_full keeps everybody out of the tables while they are rewritten, and the change has no window",
            hint="add window: to the change file, or leave vacuum_full out",
        )
    session.target.refuse_pooler(session.work)
    registry.install(session.work)
    prepared = prepare(session, cheap=True)
    session.journal.record_plan(
        prepared.plan,
        change_version=change.version,
        change_name=change.name,
        description=change.description,
        checksum=change.checksum,
        parent_checksum=change.parent_checksum,
        checksum_algorithm=CHECKSUM_ALGORITHM,
        files_sha256=change.files_sha256,
        conn_id=session.target.conn_id,
        requested_by=session.request.requested_by,
        requested_from=session.request.requested_from,
        options=Jsonb(session.options.model_dump(mode="json")),
        change=Jsonb(change.canonical()),
        catalog_before=Jsonb(prepared.catalog.restricted(prepared.plan.scope).to_json()),
    )
    # The stage's row was not there to be started before the run's.
    session.journal.start_stage("plan", started_at)
    session.journal.event("planned", f"{counted(len(prepared.plan.steps), 'step')}, risk {prepared.plan.risk.value}")
    for rule, reason in {f.rule: f.waived for f in prepared.plan.findings if f.waived is not None}.items():
        session.journal.event("waived", f"{rule}: {reason}", about=("rule", rule))
    session.known.keep("prepared", prepared)
    result = describe(session, prepared)
    with reported(result):
        raise_if_failed(prepared.checks)
    return StageResult("plan", "done", _summary(prepared), result)


def dry_run(session: Session, stage: str) -> StageResult:
    """Plan, or plan and check in full; the target is only read."""
    prepared = prepare(session, cheap=stage == "plan")
    result = describe(session, prepared)
    with reported(result):
        raise_if_failed(prepared.checks)
    return StageResult(stage, "done", f"dry run: {_summary(prepared)}", result)


def change_of(session: Session) -> Change:
    """Return the change of the request. Raises ConfigurationError for a run that has only its journal."""
    if session.request.change is None:
        raise ConfigurationError("this stage needs the change's files", hint="run it from the change's DAG or folder")
    return session.request.change


class reported:  # noqa: N801 - reads as a sentence where it is used
    """Add data for the report to a PreCheckFailed that passes through."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PreCheckFailed):
            error.data.update(self.data)


def describe(session: Session, prepared: Prepared) -> dict[str, Any]:
    """Return the plan for the report and write the guide beside it."""
    _write_guide(session, prepared.guide)
    return {
        "run_id": str(session.run_id),
        "risk": prepared.plan.risk.value,
        "risk_reasons": list(prepared.plan.risk_reasons),
        "steps": [{"phase": s.phase.value, "title": s.title, "lock": s.lock.sql} for s in prepared.plan.steps],
        "findings": [to_json(f) for f in prepared.plan.findings],
        "checks": [to_json(c) for c in prepared.checks],
        "approvals": [to_json(a) for a in prepared.approvals],
        "notices": list(prepared.plan.notices),
        "guide": prepared.guide.markdown,
    }


def _write_guide(session: Session, guide: Guide) -> None:
    folder = session.request.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "guide.md").write_text(guide.markdown, encoding="utf-8")
    (folder / "guide.html").write_text(guide.html, encoding="utf-8")


def _summary(prepared: Prepared) -> str:
    plan = prepared.plan
    needed = ", ".join(a.role for a in prepared.approvals) or "nobody"
    return f"{counted(len(plan.steps), 'step')}, risk {plan.risk.value}, to be approved by {needed}"
