"""A trigger that fills a column in rows the application writes while a backfill is under way.

It is in place before the backfill starts and goes away in contract. Our own batches bypass it by a session setting,
so they stay plain set-based updates. Its function runs with our rights: the application's role may not be allowed to
read the tables that the expression reads.
"""

from __future__ import annotations

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import probe, raw, text
from schema_change.core.sqltext.expression import Expression

_HOME = "schema_change"
_OTHERS = sql.SQL("current_setting('schema_change.bypass', true) IS DISTINCT FROM 'on'")


def _function(table: Table, column: str) -> sql.Identifier:
    return sql.Identifier(_HOME, hashed_name("fill", table.schema, table.name, column))


def _trigger(table: Table, column: str, *, of_inserts: bool = False) -> str:
    # Triggers fire in the order of their names; ours must see what the user's made of the row.
    kind = "zz_schema_change_fill_new" if of_inserts else "zz_schema_change_fill"
    return hashed_name(kind, table.schema, table.name, column)


def keep_filled(table: Table, column: str, column_type: str, expression: str) -> tuple[str, ...]:
    """Return the statements that create triggers which fill the column of every row written.

    The value is kept in step with the row until the application writes the column itself.
    """
    name = sql.Identifier(column)
    # Our batches turn NULL into a value: the server sees that in the row, faster than it looks up a setting.
    of_updates = sql.SQL("(OLD.{0} IS DISTINCT FROM NULL OR NEW.{0} IS NOT DISTINCT FROM NULL) AND {1}")
    body = sqlfiles.block("queries/recipes", "fill_body").format(
        column=name,
        type=raw(column_type),
        expression=raw(expression),
        row=sql.Identifier(table.name),
    )
    return (
        _function_of(table, column, body),
        _trigger_of(table, column, "INSERT", _OTHERS, _trigger(table, column, of_inserts=True)),
        _trigger_of(table, column, "UPDATE", of_updates.format(name, _OTHERS), _trigger(table, column)),
    )


def replace_nulls(table: Table, column: str, expression: str, key: tuple[str, ...]) -> tuple[str, ...]:
    """Return the statements that create a trigger which replaces every NULL written to the column.

    It remembers such rows by their key, as the backfill of the run that owns the table does: a rollback gives them
    their NULL back.
    """
    body = sqlfiles.block("queries/recipes", "replace_null_body").format(
        column=sql.Identifier(column),
        expression=raw(expression),
        row=sql.Identifier(table.name),
        table=table.identifier,
        key=sql.SQL(", ").join(sql.SQL("NEW.{}::text").format(sql.Identifier(k)) for k in key),
        same_key=sql.SQL(" AND ").join(sql.SQL("t.{0} = NEW.{0}").format(sql.Identifier(k)) for k in key),
        schema_name=sql.Literal(table.schema),
        table_name=sql.Literal(table.name),
        column_name=sql.Literal(column),
    )
    condition = sql.SQL("NEW.{} IS NULL AND {}").format(sql.Identifier(column), _OTHERS)
    return (
        _function_of(table, column, body),
        _trigger_of(table, column, "INSERT OR UPDATE", condition, _trigger(table, column)),
    )


def refuse_generated(relation: Relation, column: str, fill: Expression, remedy: str) -> None:
    """Raise PlanError when the expression reads a generated column: a BEFORE trigger sees NULL there."""
    generated = [c.name for c in relation.columns if c.generated]
    if read := [name for name in generated if fill.may_read(relation.table.name, name)]:
        raise PlanError(
            f"{relation.table}.{column} is to be filled from the generated column {', '.join(read)}, which is not "
            "computed yet when the trigger fills a row that is written",
            hint=remedy,
        )


def _function_of(table: Table, column: str, body: sql.Composed) -> str:
    # The function works under the settings of our batches, so that the same row gives the same value, and text.
    function = sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = public, pg_temp SET datestyle FROM CURRENT SET intervalstyle FROM CURRENT"
        " SET timezone FROM CURRENT SET extra_float_digits FROM CURRENT SET bytea_output FROM CURRENT AS {body}"
    ).format(name=_function(table, column), body=sql.Literal(text(body)))
    return text(function)


def _trigger_of(table: Table, column: str, events: str, condition: sql.Composable, name: str) -> str:
    trigger = sql.SQL(
        "CREATE TRIGGER {name} BEFORE {events} ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {function}()"
    ).format(
        name=sql.Identifier(name),
        events=raw(events),
        table=table.identifier,
        condition=condition,
        function=_function(table, column),
    )
    return text(trigger)


def drop(table: Table, column: str) -> tuple[str, ...]:
    """Return the statements that remove the triggers and their function."""
    names = (_trigger(table, column, of_inserts=True), _trigger(table, column))
    triggers = (
        sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(name), table.identifier) for name in names
    )
    return *map(text, triggers), text(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(table, column)))


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
