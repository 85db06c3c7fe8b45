"""The migration guide of a plan: what changes, how much it can hurt, every step and how it is taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pglast import ast
from pglast.enums import AlterTableType

from schema_change.core import templates
from schema_change.core.catalog.model import Catalog
from schema_change.core.changes.spec import Change
from schema_change.core.model import LockMode, Phase, Plan, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation
from schema_change.core.planning.risk import unrated
from schema_change.core.prechecks import CheckResult
from schema_change.core.sqltext.grammar import SqlError, is_a
from schema_change.core.sqltext.statements import Statement, split


@dataclass(frozen=True, slots=True)
class Guide:
    """The guide as Markdown and as a self-contained page."""

    markdown: str
    html: str


@dataclass(frozen=True, slots=True)
class Rating:
    """One line of the impact assessment: a word, and why."""

    word: str
    why: str


def render_guide(
    change: Change, plan: Plan, catalog: Catalog, checks: Sequence[CheckResult], rehearsal: Mapping[str, Any] | None
) -> Guide:
    """Render the guide; ``rehearsal`` is the result of the change's latest stage ``rehearse``, None without one."""
    context = _context(change, plan, catalog, checks, rehearsal)
    return Guide(templates.render("guide.md", **context), templates.render("guide.html", **context))


def _context(
    change: Change, plan: Plan, catalog: Catalog, checks: Sequence[CheckResult], rehearsal: Mapping[str, Any] | None
) -> dict[str, Any]:
    took = {step["title"]: step["seconds"] for step in rehearsal["steps"]} if rehearsal else {}
    return {
        "change": change,
        "plan": plan,
        "server": catalog.server_version // 10000,
        "summary": _summary(change, plan),
        "impact": {
            "Risk": Rating(plan.risk.value, "; ".join((*map(unrated, plan.risk_reasons[:1]), *plan.risk_reasons[1:]))),
            "Data-loss risk": data_loss(plan),
            "Downtime": downtime(plan),
            "Rollback complexity": rollback_complexity(change, plan),
        },
        "expected": f"{templates.duration(sum(took.values()))} for the steps, in the latest rehearsal"
        if rehearsal
        else "unknown: never rehearsed",
        "steps": [_step(number, step, catalog, took) for number, step in enumerate(plan.steps, start=1)],
        "undo": [step for step in reversed(plan.steps) if step.phase is not Phase.CONTRACT and _has_undo(step)],
        "one_way": any(step.phase is Phase.CONTRACT for step in plan.steps),
        # The check of that name says again what the findings are.
        "problems": sorted(
            (c for c in checks if c.status in _URGENT and c.name != "lint"), key=lambda c: _URGENT[c.status]
        ),
        "checked": sum(c.status != "skipped" for c in checks),
        "passed": sum(c.status == "pass" for c in checks),
        "skipped": sum(c.status == "skipped" for c in checks),
        "window": str(change.window) if change.window else "",
    }


_URGENT = {"fail": 0, "warn": 1, "unknown": 2}


def _step(number: int, step: Step, catalog: Catalog, took: Mapping[str, float]) -> dict[str, Any]:
    relation = catalog.get(step.backfill.table) if step.backfill else None
    return {
        "number": number,
        "step": step,
        "tables": ", ".join(map(str, step.tables)),
        "lock": step.lock.sql if step.lock is not LockMode.NONE else "none",
        "blocks": _blocks(step),
        "sql": ";\n".join(step.statements) + ";" if step.statements else "",
        "undo": ";\n".join(step.undo) + ";" if step.undo else "",
        "rows": relation.rows if relation else None,
        "took": took.get(step.title),
    }


def _blocks(step: Step) -> str:
    if step.lock < LockMode.SHARE:
        return "blocks nothing an application does"
    how_long = "for as long as it runs" if step.long else "briefly; the lock is never queued for"
    return f"blocks {step.lock.blocks} {how_long}"


def _has_undo(step: Step) -> bool:
    return bool(step.undo) or (step.backfill is not None and step.backfill.remember)


# -- what changes ---------------------------------------------------------------------------------------------------


def _summary(change: Change, plan: Plan) -> list[dict[str, Any]]:
    """Return a row per kind of change: how many, where, and whether it can be taken back."""
    counts: Counter[str] = Counter()
    where: dict[str, dict[Table, None]] = {}
    by_hand: set[str] = set()
    for operation in change.operations:
        for kind, tables in _kinds(operation):
            counts[kind] += 1
            where.setdefault(kind, {}).update(dict.fromkeys(tables))
            by_hand |= {kind} if operation.kind == "sql" else set()
    return [
        {
            "kind": kind,
            "count": count,
            "where": ", ".join(map(str, where[kind])),
            "reversible": "yes, by revert.sql" if kind in by_hand else _reversible(plan, where[kind]),
        }
        for kind, count in counts.items()
    ]


def _kinds(operation: Operation) -> Iterator[tuple[str, list[Table]]]:
    """Yield an operation as what it is called; raw SQL as each of its statements."""
    deploy = getattr(operation, "deploy", None)
    if deploy is not None:
        for statement in split(deploy):
            yield statement.kind, list(statement.tables)
        return
    table = getattr(operation, "table", None)
    yield operation.kind.replace("_", " "), [Table.parse(table)] if table else []


def _reversible(plan: Plan, tables: Mapping[Table, None]) -> str:
    steps = [s for s in plan.steps if not tables or set(s.tables) & set(tables)]
    if any(_without_undo(s) for s in steps):
        return "partly" if any(map(_has_undo, steps)) else "no"
    return "yes, until contract" if any(s.phase is Phase.CONTRACT for s in plan.steps) else "yes, until it has landed"


def _without_undo(step: Step) -> bool:
    """Tell whether a step leaves something behind that neither it nor an earlier step takes back."""
    return bool(
        step.phase is not Phase.CONTRACT and step.statements and step.lasting and not step.undo and not step.long
    )


# -- how much it can hurt -------------------------------------------------------------------------------------------


def data_loss(plan: Plan) -> Rating:
    """Rate the risk of losing data: high when something is removed, medium when values are replaced."""
    removed: list[str] = []
    unknown = False
    for step in plan.steps:
        try:
            removed += [r for text in step.statements for statement in split(text) for r in _removed(statement)]
        except SqlError:
            unknown = True
    if removed:
        return Rating("high", f"removes {', '.join(dict.fromkeys(removed))}")
    if unknown:
        return Rating("unknown", "SQL that cannot be analysed; see the findings")
    if plan.data_migration:
        return Rating("medium", "values that exist already are changed; the backup has them")
    return Rating("low", "no existing value is changed or removed")


def _removed(statement: Statement) -> Iterator[str]:
    tables = ", ".join(map(str, statement.tables))
    if statement.kind in {"DROP TABLE", "DROP SCHEMA", "DROP MATERIALIZED VIEW"}:
        yield f"{statement.kind.removeprefix('DROP ').lower()} {tables}".strip()
    elif statement.kind in {"TRUNCATE", "DELETE"}:
        yield f"rows of {tables}"
    elif is_a(statement.node, ast.AlterTableStmt):
        dropped = [c.name for c in statement.node.cmds or () if c.subtype == AlterTableType.AT_DropColumn]
        yield from (f"column {tables}.{name}" for name in dropped)


def downtime(plan: Plan) -> Rating:
    """Rate the downtime by the steps that hold a blocking lock while they work."""
    blocking = [s for s in plan.steps if s.lock >= LockMode.SHARE and s.long]
    if blocking:
        return Rating("yes", "; ".join(f"'{s.title}' blocks {s.lock.blocks} for as long as it runs" for s in blocking))
    if errors := [f.rule for f in plan.findings if f.level == "error"]:
        return Rating("possible", f"see the findings {', '.join(dict.fromkeys(errors))}")
    if any(f.rule == "unanalysable" for f in plan.findings):
        return Rating("unknown", "SQL that cannot be analysed; see the findings")
    return Rating("no", "locks that block the application are held briefly and never queued for")


def rollback_complexity(change: Change, plan: Plan) -> Rating:
    """Rate how hard it is to take the change back before contract."""
    if left := [s.title for s in plan.steps if _without_undo(s)]:
        return Rating("high", f"no undo of its own: {', '.join(left)}")
    raw = [operation for operation in change.operations if operation.kind == "sql"]
    if any(getattr(operation, "backfill", None) for operation in raw):
        return Rating("medium", "revert.sql was written by hand, and the rows filled are its to set back")
    if raw:
        return Rating("medium", "revert.sql was written by hand; the rehearsal proves it")
    if any(s.backfill is not None and s.backfill.remember for s in plan.steps):
        return Rating("medium", "rows filled are set back one by one, where they still hold what was filled in")
    return Rating("low", "every step has an undo that needs no rows")
