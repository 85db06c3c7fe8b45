"""What earlier runs measured in this database: the change's latest rehearsal, and how fast backfills were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schema_change.core import sqlfiles, templates
from schema_change.core.catalog.model import Catalog
from schema_change.core.database import Connection
from schema_change.core.journal import registry
from schema_change.core.model import Phase, Plan
from schema_change.core.wording import counted


@dataclass(frozen=True, slots=True)
class History:
    """``rehearsal`` is the result of the change's latest stage ``rehearse``; None where nothing was measured."""

    rehearsal: Mapping[str, Any] | None = None
    rows_per_second: float | None = None

    @property
    def seconds(self) -> Mapping[str, float]:
        """Return how long each step took in the rehearsal, by its title."""
        steps: Sequence[Mapping[str, Any]] = self.rehearsal["steps"] if self.rehearsal else ()
        return {step["title"]: step["seconds"] for step in steps}

    def expected(self, plan: Plan, catalog: Catalog) -> str:
        """Say how long the plan's steps will take, as far as anything like it was ever measured."""
        took = self.seconds
        steps = [s.title for s in plan.steps if s.phase is not Phase.CONTRACT]
        known = [took[title] for title in steps if title in took]
        if known:
            new = len(steps) - len(known)
            besides = f"; {counted(new, 'step')} of the plan {'is' if new == 1 else 'are'} newer than it" if new else ""
            return f"{templates.duration(sum(known))} for the steps, in the latest rehearsal{besides}"
        rows = _rows_to_fill(plan, catalog)
        if not rows or not self.rows_per_second:
            return "unknown: never rehearsed"
        return (
            f"about {templates.duration(rows / self.rows_per_second)} for the backfill of {counted(rows, 'row')}, at "
            f"the {counted(round(self.rows_per_second), 'row')} a second of earlier backfills in this database; the "
            "other steps are unknown: never rehearsed"
        )


def read_history(connection: Connection, change_version: str) -> History:
    """Read what was measured from the registry; nothing when it is not installed."""
    if not registry.is_installed(connection):
        return History()
    rehearsal = connection.execute(
        sqlfiles.block("queries/journal", "last_rehearsal"), {"change_version": change_version}
    ).fetchone()
    pace = connection.execute(sqlfiles.block("queries/impact", "backfill_pace")).fetchone()
    return History(rehearsal[0] if rehearsal else None, float(pace[0]) if pace and pace[0] else None)


def _rows_to_fill(plan: Plan, catalog: Catalog) -> int:
    tables = [step.backfill.table for step in plan.steps if step.backfill is not None]
    return sum(relation.rows for table in tables if (relation := catalog.get(table)) is not None)
