"""The record of a run: the journal as JSON, as a page, and as a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from schema_change.core import sqlfiles, templates
from schema_change.core.journal.journal import Journal, RunRow, StageRow, StepRow
from schema_change.core.model import Phase
from schema_change.core.wording import counted

#: Status → how it ended, in the words a reader looks for first.
ANSWERS = {
    "applied": "The change landed",
    "rolled_back": "The change was rolled back",
    "restored": "The change was undone by putting the backup back",
    "rollback_failed": "The rollback failed: a person must decide",
    "stopped": "The run stopped before anything was changed",
    "planned": "Nothing has been changed yet",
    "contracting": "Past the point of no return, not finished: run contract again",
}


def run_report(journal: Journal) -> dict[str, Any]:
    """Return the record of a run as JSON data. It holds nothing but what is in the journal, so no secret can be in it.

    Raises JournalError when the run was never planned.
    """
    run, stages, steps = journal.run, journal.stages(), journal.steps()
    events = journal.events()
    return {
        "run_id": str(run.run_id),
        "change": {"id": run.change_id, "description": run.description, "checksum": run.checksum},
        "conn_id": run.conn_id,
        "status": run.status,
        "answer": ANSWERS.get(run.status, "The run is not over"),
        "landed": run.status == "applied",
        "reason": _reason(run, stages),
        "requested_by": run.requested_by,
        "requested_from": run.requested_from,
        "options": run.options,
        "risk": run.risk,
        "started_at": run.started_at.isoformat(),
        "finished_at": _iso(run.finished_at),
        "seconds": _seconds(run.started_at, run.finished_at),
        "version": _version(run),
        "fingerprint_before": run.fingerprint_before,
        "fingerprint_after": run.fingerprint_after,
        "proof": _proof(run, stages),
        "stages": [_stage(stage) for stage in stages.values()],
        "steps": [_step(step) for step in steps],
        "point_of_no_return": _iso(_first_contract(steps)),
        "approvals": [
            {"role": e.object_name, "user": e.actor, "at": e.at.isoformat(), "comment": e.message}
            for e in events
            if e.kind == "approved"
        ],
        "checks": _result(stages, "pre_check").get("checks") or _result(stages, "plan").get("checks", []),
        "findings": _result(stages, "plan").get("findings", []),
        "backup": run.backup,
        "rehearsal": _rehearsal(stages),
        "validation": _validation(journal),
        "counts": _result(stages, "validate").get("counts", []),
        "around": _around(stages),
        "events": [
            {
                "at": e.at.isoformat(),
                "actor": e.actor,
                "kind": e.kind,
                "object": e.object_name,
                "message": e.message,
                "sql": e.sql_statement,
            }
            for e in events
        ],
    }


def render_report(report: Mapping[str, Any]) -> str:
    """Return the record as a self-contained page: the answer first, then the proof, then the timeline."""
    return templates.render("report.html", r=report)


def report_text(report: Mapping[str, Any]) -> str:
    """Return about ten lines for a terminal."""
    stages = [f"{s['stage']} {templates.duration(s['seconds'])}" for s in report["stages"] if s["status"] == "done"]
    filled = sum(s["rows"] or 0 for s in report["steps"])
    done = sum(s["status"] == "done" for s in report["steps"])
    undone = sum(s["status"] == "undone" for s in report["steps"])
    took = templates.duration(report["seconds"]) or "not over yet"
    lines = [
        f"{report['answer']}: {report['change']['id']} on {report['conn_id']}",
        *([f"reason      {report['reason']}"] if report["reason"] else []),
        f"run         {report['run_id']}, asked for by {report['requested_by'] or 'nobody named'}",
        *(f"approved    by {a['user']} ({a['role']})" for a in report["approvals"]),
        f"took        {took}: {', '.join(stages) or 'no stage done'}",
        f"steps       {done} done, {undone} undone, of {len(report['steps'])}; {counted(filled, 'row')} filled",
        f"validation  {_validation_text(report['validation'])}",
        *(f"around      {a['stage']}: {a['what']}" for a in report["around"] if a["status"] != "passed"),
        *(
            [f"backup      {counted(report['backup']['rows'], 'row')} in {report['backup']['folder']}"]
            if report["backup"]
            else []
        ),
        *([f"version     {report['version']}"] if report["version"] and report["landed"] else []),
        *(f"proof       {line}" for line in report["proof"]),
    ]
    return "\n".join(lines)


def _reason(run: RunRow, stages: Mapping[str, StageRow]) -> str:
    """Return why the run did not land; empty when it did, or is on its way."""
    if run.status == "applied":
        return ""
    if run.error:
        return run.error
    failed = [s for s in stages.values() if s.status == "failed"]
    if not failed:
        return ""
    latest = max(failed, key=lambda s: s.started_at)
    return f"{latest.stage} failed: {latest.result.get('error', 'no reason recorded')}"


def _proof(run: RunRow, stages: Mapping[str, StageRow]) -> list[str]:
    """Return what shows that the answer is true."""
    proof = []
    verified = _result(stages, "verify_rollback")
    if run.status in {"rolled_back", "restored"} and run.fingerprint_after:
        equal = "equals" if run.fingerprint_after == run.fingerprint_before else "DIFFERS FROM"
        proof.append(f"the catalog's fingerprint {run.fingerprint_after[:16]} {equal} the one before")
    proof += [f"rows of {table}: {state}" for table, state in verified.get("tables", {}).items()]
    proof += [f"different from before: {line}" for line in verified.get("differences", [])]
    if run.status == "stopped":
        proof.append("no step was begun; the tables are released")
    if run.status == "applied":
        shown = [stages[name] for name in ("cutover", "validate", "soak") if name in stages]
        proof += [stage.result["summary"] for stage in shown if _proves(stage)]
        if run.fingerprint_after:
            proof.append(f"the catalog's fingerprint is now {run.fingerprint_after[:16]}")
    return proof


def _around(stages: Mapping[str, StageRow]) -> list[dict[str, str]]:
    """Return what the stages saw around the change: queries, services and metrics, the latest look of each stage."""
    severities = {"critical": "failed", "warning": "warn", "": "passed"}
    found: list[dict[str, str]] = []
    for name in ("validate", "soak", "verify_rollback"):
        result = _result(stages, name)
        for verdict in result.get("sentinels", ()):
            what = f"sentinel {verdict['name']}: {verdict['message']}"
            found.append({"stage": name, "status": severities[verdict["severity"]], "what": what})
        for look in result.get("looks", ()):
            what = f"{look['kind']} {look['name']}: {look['message']}"
            found.append({"stage": name, "status": "passed" if look["ok"] else "failed", "what": what})
    return found


def _proves(stage: StageRow) -> bool:
    """Tell whether a stage that has ended did something: one that was skipped, or checked nothing, shows nothing."""
    checked = [stage.result[key] for key in ("expectations", "sentinels", "looks") if key in stage.result]
    return stage.status == "done" and bool(stage.result.get("summary")) and (not checked or any(checked))


def _stage(stage: StageRow) -> dict[str, Any]:
    return {
        "stage": stage.stage,
        "status": stage.status,
        "tries": stage.tries,
        "summary": stage.result.get("summary") or stage.result.get("error") or "",
        "hint": stage.result.get("hint"),
        "started_at": stage.started_at.isoformat(),
        "seconds": _seconds(stage.started_at, stage.finished_at),
    }


def _step(row: StepRow) -> dict[str, Any]:
    step = row.planned
    return {
        "seq": row.seq,
        "phase": step.phase.value,
        "title": step.title,
        "lock": step.lock.sql,
        "status": row.status,
        "rows": row.rows,
        "lock_attempts": row.lock_attempts,
        "error": row.error,
        "seconds": _seconds(row.started_at, row.finished_at),
        "statements": list(step.statements),
        "undone_at": _iso(row.undone_at),
    }


def _first_contract(steps: Sequence[StepRow]) -> datetime | None:
    return min((s.started_at for s in steps if s.planned.phase is Phase.CONTRACT and s.started_at), default=None)


def _validation(journal: Journal) -> list[dict[str, Any]]:
    """Return this run's rows of ``data_quality_results``; samples of rows stay in the database."""
    with journal.connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            sqlfiles.block("queries/report", "validation_outcomes"), {"run_id": str(journal.run_id)}
        ).fetchall()


def _rehearsal(stages: Mapping[str, StageRow]) -> dict[str, Any] | None:
    stage = stages.get("rehearse")
    return None if stage is None else {**stage.result, **_stage(stage)}


def _version(run: RunRow) -> str:
    registry = run.change.get("registry")
    return f"{registry['table']} {registry['from'] or 'new'} → {registry['to']}" if registry else ""


def _validation_text(outcomes: Sequence[Mapping[str, Any]]) -> str:
    if not outcomes:
        return "no expectation was checked"
    broken = [f"{o['check_id']} {o['status']}" for o in outcomes if o["status"] != "passed"]
    return (
        f"{len(outcomes) - len(broken)} of {len(outcomes)} expectations hold{': ' if broken else ''}{', '.join(broken)}"
    )


def _result(stages: Mapping[str, StageRow], name: str) -> dict[str, Any]:
    return stages[name].result if name in stages else {}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 3) if start and end else None
