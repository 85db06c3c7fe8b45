"""Read what a change of a template has to know of the warehouse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pglast import ast
from pglast.parser import ParseError
from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.changes.spec import Change
from schema_change.core.database import Connection
from schema_change.core.errors import PlanError
from schema_change.core.sqltext import grammar
from schema_change.core.warehouse.own import LATER_NAMES, WINDOW, WITH_VIEW, Own
from schema_change.core.warehouse.template import Template


def names_of_templates(change: Change) -> list[str]:
    """Return the names of the templates that a change is of."""
    return [operation.template for operation in change.operations if operation.of_templates]  # type: ignore[attr-defined]


def templates_of(connection: Connection, change: Change) -> Mapping[str, Template] | None:
    """Return the templates that a change names, by name; None without a warehouse, or when it is no change of any."""
    names = names_of_templates(change)
    if not names:
        return None
    installed = connection.execute(sqlfiles.block("queries/warehouse", "is_installed")).fetchone()
    if installed is None or not installed[0]:
        return _by_own(connection, names)
    rows = connection.execute(sqlfiles.block("queries/warehouse", "templates"), {"names": names})
    return {row[0]: Template.from_row(row) for row in rows}


def _by_own(connection: Connection, names: Sequence[str]) -> dict[str, Template] | None:
    """Return templates of a warehouse that has functions of its own, by name; None where there are none of these."""
    known = {*LATER_NAMES, *LATER_NAMES.values()}
    found: dict[str, int] = dict(connection.execute(_block("functions"), {"names": sorted(known)}).fetchall())
    if not found:
        return None
    installed = {runbook: name for runbook, later in LATER_NAMES.items() for name in (later, runbook) if name in found}
    has_view_argument = found.get(installed.get(WINDOW, ""), 0) >= WITH_VIEW
    rows = connection.execute(_block("templates"), {"names": list(names)})
    return {row[0]: _template(row, installed, has_view_argument) for row in rows}


def _template(row: Sequence[Any], installed: Mapping[str, str], has_view_argument: bool) -> Template:
    name, query, indexes, definitions, tenants, years, days, rows, months, connections, shows_passwords = row
    types = {column: type_ for _, found, _ in reversed(tenants) for column, type_ in (found or {}).items()}
    columns = [(column, types[column]) for column in _names_in(name, definitions) if column in types]
    if missing := [column for column in _names_in(name, definitions) if column not in types]:
        raise PlanError(
            f"no tenant's view of template {name} has the column {', '.join(missing)}",
            hint="bring the views up to date first, as the template says",
        )
    own = Own(
        names=installed,
        has_view_argument=has_view_argument,
        months=tuple((schema, first, last) for schema, first, last in months),
        connections={schema: tuple(found) for schema, found in connections.items()},
        shows_passwords=shows_passwords,
    )
    return Template.from_row((name, query, indexes, columns, tenants, years, days, rows, (), None), own)


def _names_in(template: str, definitions: str) -> Iterator[str]:
    """Yield the names of a list of column definitions. Raises PlanError when it is none."""
    try:
        statement = grammar.parse(f"CREATE TABLE template ({definitions}\n)")[0].stmt
    except ParseError as error:
        raise PlanError(
            f"the column definitions of template {template} cannot be read: {grammar.reason(error)}",
            hint="correct them in _wh.mv_templates",
        ) from error
    yield from (element.colname for element in statement.tableElts if grammar.is_a(element, ast.ColumnDef))


def _block(name: str) -> sql.SQL:
    return sqlfiles.block("queries/warehouse_own", name)
