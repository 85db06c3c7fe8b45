"""Store what checks found in ``schema_change.data_quality_results``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.validation.outcomes import CheckOutcome


def store_results(connection: Connection, outcomes: Sequence[CheckOutcome], *, run_id: str, dag_id: str | None) -> int:
    """Insert one row per check in one statement, and return their number; a retried run replaces its own rows."""
    rows = Jsonb([_row(outcome) for outcome in outcomes])
    stored = connection.execute(
        sqlfiles.block("queries/quality", "store_results"), {"run_id": run_id, "dag_id": dag_id, "outcomes": rows}
    )
    return stored.rowcount


def _row(outcome: CheckOutcome) -> dict[str, Any]:
    return {
        "suite": outcome.suite,
        "table_name": outcome.table,
        "check_id": outcome.check_id,
        "expectation_type": outcome.type,
        "column_name": outcome.column,
        "severity": outcome.severity,
        "status": outcome.status,
        "observed": outcome.observed,
        "element_count": outcome.element_count,
        "unexpected_count": outcome.unexpected_count,
        "unexpected_percent": outcome.unexpected_percent,
        "sample": [dict(key) for key in outcome.sample] or None,
        "error": outcome.error,
        "kwargs": dict(outcome.kwargs),
    }
