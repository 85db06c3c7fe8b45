"""Read what a change of a template has to know of the warehouse."""

from __future__ import annotations

from collections.abc import Mapping

from schema_change.core import sqlfiles
from schema_change.core.changes.spec import Change
from schema_change.core.database import Connection
from schema_change.core.warehouse.template import Template


def templates_of(connection: Connection, change: Change) -> Mapping[str, Template] | None:
    """Return the templates that a change names, by name; None without a toolkit, or when it is no change of any."""
    names = [operation.template for operation in change.operations if operation.of_templates]  # type: ignore[attr-defined]
    if not names:
        return None
    installed = connection.execute(sqlfiles.block("queries/warehouse", "is_installed")).fetchone()
    if installed is None or not installed[0]:
        return None
    rows = connection.execute(sqlfiles.block("queries/warehouse", "templates"), {"names": names})
    return {row[0]: Template.from_row(row) for row in rows}
