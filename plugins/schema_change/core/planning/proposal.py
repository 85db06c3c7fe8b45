"""The proposal of a change: what it is for, both shapes, whom it concerns, how it is taken back and tested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schema_change.core import templates
from schema_change.core.catalog.diff import diff
from schema_change.core.catalog.model import Catalog
from schema_change.core.catalog.read import read_catalog
from schema_change.core.changes.spec import Change
from schema_change.core.database import Connection
from schema_change.core.model import Phase, Plan
from schema_change.core.operations.sql import Sql
from schema_change.core.planning.definition import definition
from schema_change.core.planning.draft import Draft, changed_columns, draft_of
from schema_change.core.planning.guide import impact_of, rollback_steps, verification
from schema_change.core.planning.history import History, read_history
from schema_change.core.planning.impact import Impact, StatementUse, find_impact
from schema_change.core.wording import counted

#: Statements shown; the others are counted.
_SHOWN = 20
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Proposal:
    """The proposal as Markdown and as a self-contained page, and a title for an issue."""

    title: str
    markdown: str
    html: str


def propose(connection: Connection, change: Change) -> Proposal:
    """Plan the change on the live database and describe it; the database is only read. Raises PlanError.

    ``connection`` is an autocommit session outside a transaction.
    """
    draft = draft_of(change, read_catalog(connection))
    impact = find_impact(connection, draft.before, changed_columns(draft))
    return render_proposal(draft, impact, read_history(connection, change.version))


def render_proposal(draft: Draft, impact: Impact, history: History) -> Proposal:
    """Render what was found out."""
    change, plan, before = draft.change, draft.plan, draft.before
    uses = impact.statements.uses
    context: dict[str, Any] = {
        "change": change,
        "plan": plan,
        "server": before.server_version // 10000,
        "shapes": list(_shapes(draft)),
        "differences": diff(before.to_json(), draft.after.to_json()),
        "scripts": [script for o in change.operations if isinstance(o, Sql) for script in o.runs],
        "found": impact,
        "statements": [_shown(use) for use in uses[:_SHOWN]],
        "more": len(uses) - min(len(uses), _SHOWN),
        "impact": impact_of(draft),
        "migration": _data_migration(plan, before),
        "expected": history.expected(plan, before),
        "rehearsed": history.rehearsal is not None,
        "undo": rollback_steps(plan),
        "contracts": any(step.phase is Phase.CONTRACT for step in plan.steps),
        "verification": verification(change, plan),
        "window": str(change.window) if change.window else "",
    }
    return Proposal(
        title=f"Schema Change: {change.id}",
        markdown=templates.render("proposal.md", **context),
        html=templates.render("proposal.html", **context),
    )


def _shown(use: StatementUse) -> dict[str, Any]:
    text = use.text if len(use.text) <= _SHOWN_CHARACTERS else f"{use.text[:_SHOWN_CHARACTERS]} …"
    what = "every column" if "*" in use.columns else ", ".join(use.columns) or "the relation"
    return {
        "text": text,
        "calls": use.calls,
        "mean": templates.duration(use.mean_ms / 1000) if use.mean_ms >= 1 else f"{use.mean_ms:.2f} ms",
        "what": f"{what} (through {use.through})" if use.through else what,
    }


def _shapes(draft: Draft) -> Iterator[dict[str, Any]]:
    """Yield both definitions of each relation; None for one that is not there yet, or not any more."""
    for table, old, new in draft.shapes():
        texts = [definition(relation) if relation else None for relation in (old, new)]
        yield {
            "table": table,
            "before": texts[0],
            "after": texts[1],
            "rows": old.rows if old and old.kind != "v" else None,
        }


def _data_migration(plan: Plan, before: Catalog) -> str:
    fills = [step.backfill for step in plan.steps if step.backfill is not None]
    parts = []
    for fill in fills:
        relation = before.get(fill.table)
        rows = f"about {counted(relation.rows, 'row')}" if relation else "rows"
        parts.append(f"{rows} to be {fill.verb} ({fill.what})")
    if parts:
        return f"yes: {'; '.join(parts)}"
    return "yes: data that exists is changed or moved" if plan.data_migration else "no"
