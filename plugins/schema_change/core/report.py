"""The record of a run."""

from __future__ import annotations

from typing import Any

from schema_change.core.journal.journal import Journal


def run_report(journal: Journal) -> dict[str, Any]:
    """Return the record of a run as JSON data."""
    return {"status": journal.run.status}


def render_report(report: dict[str, Any]) -> str:
    """Return the record as a page."""
    return str(report)
