"""A warehouse that has functions of its own instead of the toolkit: the runbook's, or the same under later names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from psycopg import sql

from schema_change.core.errors import PlanError

#: What the runbook calls, and what later installations call the same functions.
LATER_NAMES = MappingProxyType(
    {
        "drop_public_view_by_template": "union_view_drop_public_by_template",
        "drop_all_tenant_union_views_by_template": "union_view_drop_all_by_template",
        "add_column_to_yearly_tables_by_template": "year_table_add_column_by_template",
        "drop_current_year_mvs_by_template": "mv_drop_current_year_by_template",
        "update_mv_window_by_template": "mv_update_window_by_template",
        "update_tenant_union_view_by_template": "union_view_update_tenant_by_template",
        "update_public_view_by_template": "union_view_update_public_by_template",
    }
)
#: Installations differ in whether the window function can leave the tenant's view alone, its sixth argument.
WINDOW, WITH_VIEW = "update_mv_window_by_template", 6


@dataclass(frozen=True, slots=True)
class Own:
    """The functions of a warehouse and what to call them with for one template.

    ``names`` has what is installed by the runbook's names. ``months`` are a schema with the first and the last day, in
    ISO form, that it has in a month; ``connections`` are the tenant connections that a schema may belong to.
    """

    names: Mapping[str, str]
    has_view_argument: bool
    months: tuple[tuple[str, str, str], ...]
    connections: Mapping[str, tuple[str, ...]]
    shows_passwords: bool

    def call(self, name: str, *values: Any) -> sql.Composable:
        """Return the call of a function by the runbook's name; values are literals, or SQL. Raises PlanError."""
        if name not in self.names:
            raise PlanError(
                f"this warehouse has no function _wh.{name}, nor _wh.{LATER_NAMES[name]}",
                hint="schema-change warehouse install makes all of them, in a warehouse without functions of its own",
            )
        given = (v if isinstance(v, sql.Composable) else sql.Literal(v) for v in values)
        return sql.SQL("{}({})").format(sql.Identifier("_wh", self.names[name]), sql.SQL(", ").join(given))

    def window(self, template: str, schema: str, first: str, last: str) -> sql.Composable:
        """Return the call that makes the days of a schema, or brings them up to date. Raises PlanError."""
        found = self.connections.get(schema, ())
        if len(found) != 1:
            raise PlanError(
                f"it cannot be told which of _wh.tenant_connections is that of schema {schema}: "
                f"{', '.join(found) or 'none begins with its name'}",
                hint=f"call one of them {schema}, or {schema}-…",
            )
        days = (sql.SQL("{}::date").format(sql.Literal(day)) for day in (first, last))
        more = (False,) if self.has_view_argument else ()
        return self.call(WINDOW, template, found[0], schema, *days, *more)
