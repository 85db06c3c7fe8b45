"""Stage ``validate``: the shape by the steps' probes, verify.sql, Great Expectations, and what lies around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from upath import UPath

from schema_change.core.backup.checksums import TableChecksum
from schema_change.core.errors import ValidationFailed
from schema_change.core.model import to_json
from schema_change.core.operations.sql import Sql
from schema_change.core.stages.before import ensure_approved
from schema_change.core.stages.plan import change_of
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.session import Session
from schema_change.core.surroundings.sentinels import compare, measure, sentinels_of
from schema_change.core.surroundings.watch import bad, look_around
from schema_change.core.validation.counts import take_counts
from schema_change.core.validation.outcomes import CheckOutcome, ValidationOutcome
from schema_change.core.validation.results import store_results
from schema_change.core.validation.suites import Suite, load_suite, suite_from_operations
from schema_change.core.wording import counted


def validate(session: Session) -> StageResult:
    """Check the changed database. Raises ValidationFailed naming every broken critical expectation."""
    ensure_approved(session)
    check_shape(session)
    run_verify_script(session)
    suites = _suites(session)
    outcome = ValidationOutcome(())
    if suites:
        outcome = _run_suites(session, suites, docs=session.request.folder / "docs", parameters=_rows_before(session))
        store_results(session.work, outcome.outcomes, run_id=str(session.run_id), dag_id=session.request.requested_from)
    counts = take_counts(session.side, session.plan().tallies)
    data = {**_describe(outcome), "counts": list(map(to_json, counts))}
    if outcome.blocking:
        raise ValidationFailed(
            "; ".join(_line(o) for o in outcome.blocking[:5]),
            hint="the run is rolled back; correct the data or the expectation, then start a new run",
            data=data,
        )
    for missing in (c for c in counts if c.error is not None):
        session.note(f"{missing.title}: could not be counted: {missing.error}")
    warnings = len(outcome.warnings) + _check_surroundings(session, data)
    session.journal.set_status("validated")
    checked = counted(len(outcome.outcomes) + len(data["sentinels"]) + len(data["looks"]), "check")
    return StageResult("validate", "done", f"{checked}, {counted(warnings, 'warning')}", data)


def _check_surroundings(session: Session, data: dict[str, Any]) -> int:
    """Compare the sentinels with before and look at services and metrics; return the number of warnings.

    ``data`` receives what was found. Raises ValidationFailed.
    """
    surroundings = session.surroundings
    checked = session.journal.stages()["pre_check"].result
    sentinels = sentinels_of(surroundings, session.plan())
    verdicts = compare(sentinels, checked.get("sentinels", ()), measure(session.side, sentinels))
    looks = look_around(surroundings, patient=True, alive=session.is_open)
    data |= {"sentinels": list(map(to_json, verdicts)), "looks": list(map(to_json, looks))}
    for warning in (v for v in verdicts if v.severity == "warning"):
        session.note(str(warning))
    wrong = [*(v for v in verdicts if v.severity == "critical"), *bad(looks)]
    if wrong:
        raise ValidationFailed(
            "; ".join(map(str, wrong)),
            hint="the run is rolled back; see docs/around-a-change.md",
            data=data,
        )
    return sum(v.severity == "warning" for v in verdicts)


def check_shape(session: Session) -> None:
    """Raise ValidationFailed when a lasting step's probe does not hold."""
    for row in session.journal.steps():
        step = row.planned
        if row.status == "done" and step.lasting and not session.steps.holds(step):
            raise ValidationFailed(
                f"what step '{step.title}' made is not there", hint="somebody changed the table meanwhile"
            )


def check_agreement(session: Session) -> None:
    """Raise ValidationFailed when two shapes no longer agree: what is written meanwhile can put them out of step.

    Triggers keep them in step, but in a transaction whose isolation is above READ COMMITTED they do not see what others
    have committed since it began.
    """
    wanted = [e for e in session.plan().expectations if e.until_contract and e.severity == "critical"]
    if not wanted:
        return
    suites = suite_from_operations(change_of(session).id, wanted)
    outcome = _run_suites(session, suites, docs=None)
    if outcome.blocking:
        raise ValidationFailed(
            "since validate: " + "; ".join(map(_line, outcome.blocking)),
            hint="the run is rolled back; let the application write them in READ COMMITTED, then start a new run",
            data=_describe(outcome),
        )


def run_verify_script(session: Session) -> None:
    """Run the verify.sql of a raw change in a transaction that is rolled back; any error fails."""
    stored = session.journal.run.change.get("operations", [])
    scripts = [Sql.model_validate(item["sql"]) for item in stored if "sql" in item]
    if not scripts:
        return
    try:
        with session.work.transaction(force_rollback=True):
            for statement in (s for script in scripts for s in script.verify_statements()):
                session.work.execute(statement.encode())
    except psycopg.Error as error:
        raise ValidationFailed(f"verify.sql: {str(error).strip()}", hint="the run is rolled back") from error


def _run_suites(
    session: Session, suites: Sequence[Suite], *, docs: UPath | None, parameters: Mapping[str, Any] | None = None
) -> ValidationOutcome:
    # Importing it takes longer than all else that a change without expectations needs.
    from schema_change.core.validation.gx import run_suites  # noqa: PLC0415

    return run_suites(session.target, suites, docs=docs, run_name=str(session.run_id), parameters=parameters)


def _rows_before(session: Session) -> dict[str, int]:
    """Return what suites may refer to as parameters: how many rows each table of the backup had."""
    tables = (session.journal.run.checksums_before or {}).get("tables", [])
    return {f"rows_before_{c.table.name}": c.rows for c in map(TableChecksum.from_json, tables)}


def _suites(session: Session) -> tuple[Suite, ...]:
    change = change_of(session)
    suites = suite_from_operations(change.id, session.plan().expectations)
    if change.expectations and session.request.expectations:
        suites += load_suite(session.request.expectations / change.expectations)
    return suites


def _describe(outcome: ValidationOutcome) -> dict[str, Any]:
    return {
        "expectations": [
            {
                "suite": o.suite,
                "table": str(o.table),
                "check_id": o.check_id,
                "severity": o.severity,
                "status": o.status,
                "observed": o.observed,
                "unexpected_count": o.unexpected_count,
                "notes": o.notes,
            }
            for o in outcome.outcomes
        ]
    }


def _line(outcome: CheckOutcome) -> str:
    found = f": {outcome.unexpected_count} rows" if outcome.unexpected_count else ""
    why = outcome.error or outcome.notes
    return f"{outcome.table} {outcome.check_id} {outcome.status}{found}{f' ({why})' if why else ''}"
