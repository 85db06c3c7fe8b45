"""The migration guide of a plan: what changes, how much it can hurt, every step and how it is taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from schema_change.core import templates
from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.changes.spec import Change
from schema_change.core.model import Backfill, LockMode, NewRows, Phase, Plan, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, Planned
from schema_change.core.operations.sql import Sql
from schema_change.core.planning.around import timetable, watched
from schema_change.core.planning.draft import Draft, compatibility, draft_of
from schema_change.core.planning.history import History
from schema_change.core.planning.ratings import (
    UNANALYSABLE,
    Downtime,
    Rating,
    analysed,
    data_loss,
    downtime,
    gives_rows_back,
    has_undo,
    reversible,
    rollback_complexity,
)
from schema_change.core.planning.risk import unrated
from schema_change.core.prechecks import CheckResult
from schema_change.core.sqltext.statements import Statement, split
from schema_change.core.wording import counted


@dataclass(frozen=True, slots=True)
class Guide:
    """The guide as Markdown and as a self-contained page; ``of_plan`` is what the templates show of the plan alone."""

    markdown: str
    html: str
    of_plan: Mapping[str, Any]

    def after(self, checks: Sequence[CheckResult]) -> Guide:
        """Return the guide of the same plan when more pre-checks have run."""
        return _rendered(self.of_plan, checks)


def render_guide(
    change: Change, plan: Plan, catalog: Catalog, checks: Sequence[CheckResult], history: History
) -> Guide:
    """Render the guide of a plan made on this catalog; ``checks`` are the pre-checks that have run so far."""
    return _rendered(_of_plan(change, plan, catalog, history), checks)


def _rendered(of_plan: Mapping[str, Any], checks: Sequence[CheckResult]) -> Guide:
    context = {**of_plan, **_of_checks(of_plan, checks)}
    return Guide(templates.render("guide.md", **context), templates.render("guide.html", **context), of_plan)


def _of_plan(change: Change, plan: Plan, catalog: Catalog, history: History) -> dict[str, Any]:
    draft = draft_of(change, catalog, plan)
    steps = [_step(number, step, plan, catalog, history.seconds) for number, step in enumerate(plan.steps, start=1)]
    return {
        "change": change,
        "plan": plan,
        "server": catalog.server_version // 10000,
        "planned_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "history": history,
        "summary": _summary(draft),
        "impact": impact_of(draft),
        "expected": history.expected(plan, catalog),
        "phases": [(p, _meaning(p, change), list(i)) for p, i in groupby(steps, key=lambda item: item["step"].phase)],
        "undo": rollback_steps(plan),
        "contracts": any(step.phase is Phase.CONTRACT for step in plan.steps),
        "fills": any(step.backfill is not None for step in plan.steps),
        "timetable": list(timetable(change)),
        "verification": verification(change, plan),
        "window": str(change.window) if change.window else "",
    }


def _of_checks(of_plan: Mapping[str, Any], checks: Sequence[CheckResult]) -> dict[str, Any]:
    change, plan, impact, history = (of_plan[k] for k in ("change", "plan", "impact", "history"))
    done = {c.name: c for c in checks}
    return {
        "checklist": list(_checklist(change, plan, impact["Downtime"], done, history)),
        # The check of that name says again what the findings are.
        "problems": sorted(
            (c for c in checks if c.status in _URGENT and c.name != "lint"), key=lambda c: _URGENT[c.status]
        ),
        "checked": sum(c.status != "skipped" for c in checks),
        "passed": sum(c.status == "pass" for c in checks),
        "skipped": sum(c.status == "skipped" for c in checks),
        "fit": _fit(plan, done.get("data_fit")),
    }


_URGENT = {"fail": 0, "warn": 1, "unknown": 2}
_PHASES = {
    Phase.EXPAND: "What is added. The application goes on with the shape it knows; nothing is taken away.",
    Phase.BACKFILL: "Rows are worked on in batches that can be paused and resumed, while the application goes on.",
    Phase.CUTOVER: "The short switch. It begins only when no row is left to do and none differs.",
    Phase.CONTRACT: "The old shape goes. Its first step is the point of no return; from there the way is forward only.",
}


def _meaning(phase: Phase, change: Change) -> str:
    if phase is Phase.EXPAND and any(operation.kind == "sql" for operation in change.operations):
        return "What is added, and all of deploy.sql: what that takes away is gone at once."
    return _PHASES[phase]


def impact_of(draft: Draft) -> dict[str, Rating]:
    """Return the impact assessment: ratings by their name."""
    plan = draft.plan
    risk = "; ".join((*map(unrated, plan.risk_reasons[:1]), *plan.risk_reasons[1:]))
    return {
        "Risk": Rating(plan.risk.value, risk),
        "Data-loss risk": data_loss(plan, draft.before),
        "Downtime": downtime(plan, draft.before),
        "Rollback complexity": rollback_complexity(draft.change, plan),
        "Backward compatible": compatibility(draft),
    }


def verification(change: Change, plan: Plan) -> list[str]:
    """Return what is asserted after the switch, a sentence each."""
    lasting = sum(s.lasting and s.probe is not None for s in plan.steps)
    found = [f"the result of {counted(lasting, 'step')} is looked at again in the catalog"] if lasting else []
    found += [
        f"{e.table}, {e.check_id} ({e.severity}): {e.notes or _readable(e.type, e.kwargs)}" for e in plan.expectations
    ]
    if any(getattr(operation, "verify", None) for operation in change.operations):
        found.append("verify.sql runs in a transaction that is rolled back; an error in it fails the run")
    if change.expectations:
        found.append(f"the suite {change.expectations}")
    found += (f"counted for the report: {tally.title}" for tally in plan.tallies)
    return [*found, *watched(change, plan)]


def _readable(kind: str, kwargs: Mapping[str, Any]) -> str:
    details = ", ".join(f"{key} {value}" for key, value in kwargs.items())
    return f"{kind.replace('_', ' ')} ({details})"


# -- what changes ---------------------------------------------------------------------------------------------------


def _summary(draft: Draft) -> list[dict[str, Any]]:
    """Return a row per kind of change: how many, where, and whether it can be taken back."""
    counts: Counter[str] = Counter()
    where: dict[str, dict[Table, None]] = {}
    ways_back: dict[str, dict[str, None]] = {}
    for operation, part in zip(draft.change.operations, draft.parts, strict=True):
        for kind, tables in _kinds(operation, part):
            counts[kind] += 1
            where.setdefault(kind, {}).update(dict.fromkeys(tables))
            way_back = "yes, by revert.sql" if operation.kind == "sql" else reversible(part)
            ways_back.setdefault(kind, {})[way_back] = None
    return [
        {
            "kind": kind,
            "count": count,
            "where": ", ".join(map(str, where[kind])),
            "reversible": " / ".join(ways_back[kind]),
        }
        for kind, count in counts.items()
    ]


def _kinds(operation: Operation, part: Planned) -> Iterator[tuple[str, Sequence[Table]]]:
    """Yield an operation as what it is called; raw SQL as each of its statements."""
    if isinstance(operation, Sql):
        for statement in (s for script in operation.runs for s in split(script)):
            yield statement.kind, statement.tables
        return
    named = [t for step in part.steps for t in step.tables if not t.schema.startswith("schema_change")]
    yield operation.kind.replace("_", " "), named or part.written


# -- steps ----------------------------------------------------------------------------------------------------------


def _step(number: int, step: Step, plan: Plan, catalog: Catalog, took: Mapping[str, float]) -> dict[str, Any]:
    relation = catalog.get(step.backfill.table) if step.backfill else None
    return {
        "number": number,
        "step": step,
        "tables": ", ".join(map(str, step.tables)),
        "lock": step.lock.sql if step.lock is not LockMode.NONE else "none",
        "blocks": _blocks(step.lock, long=step.long),
        "sql": _sql(step, plan, catalog),
        "batch": _batch(step.backfill) if step.backfill else "",
        "does": _does(step.backfill, relation) if step.backfill else "",
        "took": took.get(step.title),
        "undone": has_undo(step),
    }


def _blocks(lock: LockMode, *, long: bool) -> str:
    if lock < LockMode.SHARE:
        return f"blocks {lock.blocks}"
    how_long = "for as long as it runs" if long else "briefly; the lock is never queued for"
    return f"blocks {lock.blocks} {how_long}"


def _sql(step: Step, plan: Plan, catalog: Catalog) -> str:
    """Return a step's statements; where they are several, each behind its own locks on what is there already."""
    texts = list(analysed(step))
    unknown = {f.statement.strip() for f in plan.findings if f.rule == UNANALYSABLE}
    several = sum(found != () for _, found in texts) > 1
    lines = []
    for text, found in texts:
        if several and text.strip() in unknown:
            lines.append("-- what it locks is known only when it runs; ACCESS EXCLUSIVE is assumed")
        elif several and found:
            lines += _locks(found, catalog)
        lines.append(f"{text};")
    return "\n".join(lines)


def _locks(statements: Sequence[Statement], catalog: Catalog) -> Iterator[str]:
    for table, mode in (lock for s in statements for lock in s.locks.items()):
        if mode is not LockMode.NONE and catalog.get(table) is not None:
            yield f"-- {mode.sql} on {table}: blocks {mode.blocks}"


_WHO_FILLS = {
    NewRows.TRIGGER: "a trigger",
    NewRows.SWEEP: "a sweep",
    NewRows.APPLICATION: "the application",
}


def _does(fill: Backfill, relation: Relation | None) -> str:
    rows = f"about {counted(relation.rows, 'row')}" if relation else "an unknown number of rows"
    text = f"{rows} to be {fill.verb} ({fill.what}), in batches that can be paused and resumed"
    if fill.batch is not None:
        return text
    return f"{text}; rows written meanwhile are filled by {_WHO_FILLS[fill.new_rows]}"


def _batch(fill: Backfill) -> str:
    if fill.batch is None:
        return fill.expression
    return f"{fill.batch.head}<a range of keys> AND ({fill.pending}){fill.batch.tail}"


def rollback_steps(plan: Plan) -> list[dict[str, Any]]:
    """Return what a rollback before contract does, in its order: an item per step that has something to undo."""
    numbered = enumerate(plan.steps, start=1)
    return [_undo(n, s) for n, s in reversed(list(numbered)) if s.phase is not Phase.CONTRACT and has_undo(s)]


def _undo(number: int, step: Step) -> dict[str, Any]:
    fill = step.backfill
    rows = ""
    if fill is not None and gives_rows_back(step):
        remembered = "Rows that still hold what was filled in become NULL again."
        rows = f"The rows of {fill.table} that were {fill.verb} are put back." if fill.batch else remembered
    return {
        "number": number,
        "title": step.title,
        "sql": "".join(f"{text};\n" for text in step.undo).rstrip(),
        "lock": step.undo_lock.sql if step.undo_lock is not LockMode.NONE else "none",
        "blocks": _blocks(step.undo_lock, long=False),
        "rows": rows,
    }


# -- before it starts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Item:
    """One line of the checklist; ``done`` is False for what is left to a person, or to a later task."""

    done: bool
    what: str
    answer: str


def _checklist(
    change: Change, plan: Plan, stop: Rating, checks: Mapping[str, CheckResult], history: History
) -> Iterator[_Item]:
    tables = ", ".join(map(str, dict.fromkeys((*plan.written, *plan.read)))) or "no table"
    yield _Item(
        done=True,
        what="Backup",
        answer=f"task backup dumps the whole schema and the rows of {tables} with their foreign-key parents, and "
        "proves the dump by restoring it; a run that skips it says so in its report",
    )
    for what, name in (("Disk space", "disk_space"), ("Server", "server_version"), ("Extensions", "extensions")):
        yield _answered(what, checks.get(name))
    yield _Item(
        done=history.rehearsal is not None,
        what="Tested on a copy",
        answer="rehearsed: forward, back (catalog and data equal) and forward again"
        if history.rehearsal
        else "not yet; task rehearse does it on a copy restored from the run's own backup, before anything is touched",
    )
    yield _window(change, stop)
    whom = ", ".join(f"{who} ({role})" for role, who in change.contacts.items())
    yield _Item(done=False, what="Tell the stakeholders", answer=whom or "nobody is named; add contacts: to the change")
    back = sum(map(has_undo, plan.steps))
    yield _Item(
        done=back > 0 and not plan.one_way,
        what="Rollback plan",
        answer=f"{counted(back, 'step')} with an undo, taken back by the run itself; see below"
        + ("; one-way after cutover" if plan.one_way else ""),
    )


def _window(change: Change, stop: Rating) -> _Item:
    what = "Maintenance window"
    if change.window:
        return _Item(done=True, what=what, answer=f"the change starts between {change.window} only")
    if stop.word in {Downtime.NONE, Downtime.BRIEF}:
        return _Item(done=True, what=what, answer=f"not needed: downtime {stop.word}")
    return _Item(done=False, what=what, answer=f"downtime {stop.word}, but the change has no window:")


def _answered(what: str, check: CheckResult | None) -> _Item:
    if check is None:
        return _Item(done=False, what=what, answer="not looked at yet; task pre_check does")
    remedy = f" → {check.remedy}" if check.remedy and check.status in _URGENT else ""
    return _Item(done=check.status in {"pass", "skipped"}, what=what, answer=f"{check.message}{remedy}")


def _fit(plan: Plan, counted_now: CheckResult | None) -> dict[str, Any] | None:
    """Return the demands on existing rows and what was counted; None when the change makes none."""
    if not plan.data_checks:
        return None
    if counted_now is None:
        said = "not counted yet: task pre_check does, right before anything is touched, and so does schema-change plan"
    else:
        said = counted_now.message
    return {"said": said, "demands": plan.data_checks}
