"""A trigger that fills a column in rows the application writes while a backfill is under way.

It is in place before the backfill starts and goes away in contract. Our own batches bypass it by a session setting,
so they stay plain set-based updates. Its function runs with our rights: the application's role may not be allowed to
read the tables that the expression reads.
"""

from __future__ import annotations

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, short_name
from schema_change.core.recipes import probe, raw, text

_HOME = "schema_change"


def _function(table: Table, column: str) -> sql.Identifier:
    return sql.Identifier(_HOME, short_name("fill", table.schema, table.name, column))


def _trigger(table: Table, column: str) -> str:
    # Triggers fire in the order of their names; ours must see what the user's made of the row.
    return short_name("zz_schema_change_fill", table.name, column)


def create(table: Table, column: str, column_type: str, expression: str, *, only_nulls: bool) -> tuple[str, ...]:
    """Return the statements that create the trigger.

    ``only_nulls`` replaces every NULL written (for a column that must not have any); otherwise the value is kept in
    step with the row until the application writes the column itself.
    """
    body = sqlfiles.block("queries/recipes", "replace_null_body" if only_nulls else "fill_body").format(
        column=sql.Identifier(column),
        type=raw(column_type),
        expression=raw(expression),
        row=sql.Identifier(table.name),
    )
    function = sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = public, pg_temp AS {body}"
    ).format(name=_function(table, column), body=sql.Literal(text(body)))
    condition: sql.Composable = sql.SQL("current_setting('schema_change.bypass', true) IS DISTINCT FROM 'on'")
    if only_nulls:
        condition = sql.SQL("NEW.{} IS NULL AND {}").format(sql.Identifier(column), condition)
    trigger = sql.SQL(
        "CREATE TRIGGER {name} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN ({condition})"
        " EXECUTE FUNCTION {function}()"
    ).format(
        name=sql.Identifier(_trigger(table, column)),
        table=table.identifier,
        condition=condition,
        function=_function(table, column),
    )
    return text(function), text(trigger)


def drop(table: Table, column: str) -> tuple[str, ...]:
    """Return the statements that remove the trigger and its function."""
    trigger = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(
        sql.Identifier(_trigger(table, column)), table.identifier
    )
    return text(trigger), text(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(table, column)))


def contract(table: Table, column: str) -> Step:
    """Return the contract step that removes the trigger."""
    return Step(
        phase=Phase.CONTRACT,
        title=f"drop the trigger that fills {table}.{column}",
        tables=(table,),
        statements=drop(table, column),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("trigger_absent", table=table.quoted, trigger=_trigger(table, column)),
    )
