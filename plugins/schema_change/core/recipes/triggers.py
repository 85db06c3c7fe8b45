"""Functions and triggers of ours: they run with our rights, under pinned settings, and our own batches bypass them."""

from __future__ import annotations

from psycopg import sql

from schema_change.core.names import Table
from schema_change.core.recipes import text

_HOME = "schema_change"
_NONE, _TRIGGER = sql.SQL(""), sql.SQL("trigger")
OTHERS = sql.SQL("current_setting('schema_change.bypass', true) IS DISTINCT FROM 'on'")


def function(
    name: str,
    body: sql.Composable,
    *,
    arguments: sql.Composable = _NONE,
    returns: sql.Composable = _TRIGGER,
) -> str:
    """Return the statement that creates a trigger function, or another one, in our schema; the body is PL/pgSQL."""
    # It works under the settings of our batches, so that the same row gives the same value, and text. The application's
    # role may not be allowed to use the other table.
    return text(
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS {returns} LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = public, pg_temp SET datestyle FROM CURRENT SET intervalstyle FROM CURRENT"
            " SET timezone FROM CURRENT SET extra_float_digits FROM CURRENT SET bytea_output FROM CURRENT AS {body}"
        ).format(name=sql.Identifier(_HOME, name), arguments=arguments, returns=returns, body=sql.Literal(text(body)))
    )


def trigger(name: str, table: Table, when: str, called: str, *, transition: str = "", each: str = "ROW") -> str:
    """Return the statement that creates a trigger, which our own batches bypass.

    ``when`` is such as ``AFTER INSERT OR UPDATE``, ``transition`` names transition tables, ``each`` is ROW or
    STATEMENT.
    """
    return text(
        sql.SQL(
            "CREATE TRIGGER {name} {when} ON {table}{transition} FOR EACH {each} WHEN ({others})"
            " EXECUTE FUNCTION {function}()"
        ).format(
            name=sql.Identifier(name),
            when=sql.SQL(when),
            table=table.identifier,
            transition=sql.SQL(" REFERENCING {}").format(sql.SQL(transition)) if transition else sql.SQL(""),
            each=sql.SQL(each),
            others=OTHERS,
            function=sql.Identifier(_HOME, called),
        )
    )


def drop_trigger(name: str, table: Table) -> str:
    """Return the statement that removes a trigger, if it is there."""
    return text(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(name), table.identifier))


def drop_function(name: str) -> str:
    """Return the statement that removes a trigger function, if it is there."""
    return text(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(sql.Identifier(_HOME, name)))
