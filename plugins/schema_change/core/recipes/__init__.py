"""The building blocks operations are composed of. Each returns steps or statements, purely."""

from __future__ import annotations

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.names import Table


def text(query: sql.Composable) -> str:
    """Return composed SQL as the text that is stored in the journal and executed."""
    return query.as_string(None)


def raw(fragment: str) -> sql.SQL:
    """Return a type or an expression as SQL; it must have gone through the parser before."""
    return sql.SQL(fragment)


def probe(name: str, **values: str | list[str]) -> str:
    """Return the probe ``name`` of ``queries/probes.sql`` with its values filled in."""
    return text(sqlfiles.block("queries/probes", name).format(**{k: sql.Literal(v) for k, v in values.items()}))


def analyze(table: Table) -> str:
    """Return the statement that refreshes the planner's statistics."""
    return text(sql.SQL("ANALYZE {}").format(table.identifier))


def vacuum_analyze(table: Table, *, full: bool = False) -> str:
    """Return the statement that makes dead rows reusable and refreshes the planner's statistics.

    ``full`` rewrites the table instead, which gives the space back and keeps everybody out meanwhile.
    """
    statement = sql.SQL("VACUUM (FULL, ANALYZE) {}") if full else sql.SQL("VACUUM (ANALYZE) {}")
    return text(statement.format(table.identifier))
