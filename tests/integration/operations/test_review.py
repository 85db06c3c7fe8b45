"""Odd names, texts and privileges through whole runs: forward, back, forward."""

from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import ChangeRolledBack
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows

ODD = 'a "100%" {x} %s %(y)s $$ \\'
QUOTED = '"' + ODD.replace('"', '""') + '"'


@pytest.fixture
def odd(connection: Connection) -> None:
    connection.execute(f"CREATE TABLE public.{QUOTED} (id int PRIMARY KEY, {QUOTED} text)".encode())
    connection.execute(f"INSERT INTO {QUOTED} SELECT g, 'x%' || g FROM generate_series(1, 3000) g".encode())
    connection.execute(f"ANALYZE {QUOTED}".encode())


TABLE = f"public.{QUOTED}"
CASES: dict[str, list[dict[str, Any]]] = {
    "fill": [
        {
            "add_column": {
                "table": TABLE,
                "column": {"name": "new " + ODD, "type": "text", "comment": ODD, "nullable": False},
                "fill": f"{QUOTED}.{QUOTED} || ' %s {{x}} %(y)s' || $q$ 'quoted' $q$",
            }
        }
    ],
    "volatile": [
        {"add_column": {"table": TABLE, "column": {"name": "u", "type": "text", "default": "random()::text || '%{}'"}}}
    ],
    "identity": [
        {"add_column": {"table": TABLE, "column": {"name": "n " + ODD, "type": "bigint", "identity": "always"}}}
    ],
    "generated": [
        {
            "add_column": {
                "table": TABLE,
                "column": {"name": "g", "type": "text", "generated": {"expression": f"{QUOTED} || '%{{}}'"}},
            }
        }
    ],
    "index": [
        {
            "create_index": {
                "table": TABLE,
                "columns": [ODD],
                "unique": True,
                "name": "i " + ODD,
                "where": f"{QUOTED} LIKE 'x%' AND {QUOTED} <> '{{}}'",
                "include": ["id"],
            }
        },
        {"comment": {"index": '"i ' + QUOTED[1:], "text": ODD}},
    ],
    "comment": [
        {"comment": {"table": TABLE, "text": ODD}},
        {"comment": {"table": TABLE, "column": ODD, "text": ODD}},
    ],
    "view": [
        {
            "create_view": {
                "view": '"v ' + QUOTED[1:],
                "query": f"SELECT id, {QUOTED} || '%{{}}' AS {QUOTED} FROM {QUOTED} WHERE {QUOTED} LIKE '%s' -- x",
                "options": {"security_barrier": True, "security_invoker": True},
                "comment": ODD,
                "grants": {"public": ["select"]},
            }
        },
        {
            "create_view": {
                "view": '"m ' + QUOTED[1:],
                "query": f"SELECT id, {QUOTED} FROM {QUOTED} WHERE {QUOTED} LIKE 'x%'",
                "materialized": True,
                "comment": ODD,
            }
        },
        {"create_index": {"table": '"m ' + QUOTED[1:], "columns": ["id"], "unique": True}},
    ],
}


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("name", CASES)
def test_odd_names_and_texts_are_taken_as_they_are(bench: Bench, name: str) -> None:
    comes_back(bench, CASES[name])
    lands(bench, CASES[name])


VIEW = f"""
CREATE ROLE review_keeper;
CREATE ROLE review_reader;
CREATE ROLE {QUOTED};
CREATE VIEW {QUOTED} WITH (security_barrier, check_option = local) AS
    SELECT id, station, celsius FROM readings WHERE station LIKE 'S%';
ALTER VIEW {QUOTED} ALTER COLUMN station SET DEFAULT 'S%{{}}';
COMMENT ON VIEW {QUOTED} IS '100%';
COMMENT ON COLUMN {QUOTED}.celsius IS '%s';
GRANT SELECT ON {QUOTED} TO review_reader, {QUOTED} WITH GRANT OPTION;
GRANT UPDATE (station), INSERT (id) ON {QUOTED} TO PUBLIC;
SET ROLE review_reader;
GRANT SELECT ON public.{QUOTED} TO PUBLIC;
RESET ROLE;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER {QUOTED} INSTEAD OF DELETE ON {QUOTED} FOR EACH ROW EXECUTE FUNCTION nothing('%s', '{{}}');
COMMENT ON TRIGGER {QUOTED} ON {QUOTED} IS '%';
CREATE RULE {QUOTED} AS ON INSERT TO {QUOTED} DO ALSO NOTIFY "a%b";
ALTER VIEW {QUOTED} OWNER TO review_keeper;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO review_reader;
GRANT CREATE ON SCHEMA public TO review_keeper;
GRANT SELECT ON readings TO review_keeper;
"""
CLEAN = f"""
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM review_reader;
DROP OWNED BY review_keeper, review_reader, {QUOTED} CASCADE;
DROP ROLE review_keeper, review_reader, {QUOTED};
"""


@pytest.mark.parametrize("recreate", [False, True])
def test_a_replaced_view_gets_everything_back(bench: Bench, connection: Connection, rows: Rows, recreate: bool) -> None:
    connection.execute(VIEW.encode())
    try:
        operations = [
            {
                "replace_view": {
                    "view": TABLE,
                    "query": "SELECT id, station, celsius FROM readings WHERE station LIKE '%1'",
                    "recreate": recreate,
                }
            }
        ]
        comes_back(bench, operations)
        lands(bench, operations)
    finally:
        connection.execute("RESET ROLE")
        connection.execute(CLEAN.encode())


def test_settings_of_the_database_change_neither_what_sql_means_nor_how_names_look(
    bench: Bench, connection: Connection, rows: Rows
) -> None:
    for setting in ("quote_all_identifiers = on", "standard_conforming_strings = off"):
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {setting}".encode())
    connection.execute("CREATE VIEW v AS SELECT station FROM readings")
    connection.execute("CREATE TYPE mood AS ENUM ('a')")
    connection.execute("CREATE FUNCTION f(mood) RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    operations: list[dict[str, Any]] = [
        {"comment": {"function": "f(public.mood)", "text": "x"}},
        {"replace_view": {"view": "v", "query": "SELECT station || 'x' AS station FROM readings", "recreate": True}},
        {
            "add_column": {
                "table": "readings",
                "column": {"name": "path", "type": "text"},
                "fill": r"'C:\' || station || '\'",
            }
        },
    ]
    comes_back(bench, operations)
    lands(bench, [*operations, {"enum_add_value": {"type": "mood", "value": "b"}}])
    assert rows("SELECT DISTINCT path FROM readings WHERE station = 'S1'") == [("C:\\S1\\",)]


@pytest.mark.parametrize("name", ["new", "filled_row"])
def test_names_of_our_trigger_functions_are_free_for_tables_and_columns(
    bench: Bench, connection: Connection, rows: Rows, name: str
) -> None:
    columns = ("was", "old", '"new"', "tg_op", '"row"', "value", "run_id", "seq", "key")
    typed = ", ".join(f"{column} text" for column in columns)
    connection.execute(f'CREATE TABLE "{name}" (id integer PRIMARY KEY, {typed})'.encode())
    values = ", ".join(f"'{n}'" for n in range(len(columns)))
    connection.execute(f'INSERT INTO "{name}" SELECT g, {values} FROM generate_series(1, 10) g'.encode())
    fill = " || ".join(f'"{name}".{column}' if n % 2 else column for n, column in enumerate(columns))
    change = bench.write(
        "900_back",
        {
            "operations": [
                {
                    "add_column": {
                        "table": f'public."{name}"',
                        "column": {"name": "x", "type": "text"},
                        "fill": fill,
                    }
                }
            ]
        },
    )
    run = forward(bench, change, stop_before="contract")
    connection.execute(f'INSERT INTO "{name}" SELECT 11, {values}'.encode())
    connection.execute(f"UPDATE \"{name}\" SET was = 'W' WHERE id = 1".encode())
    assert rows(f'SELECT x FROM "{name}" WHERE id IN (1, 2, 11) ORDER BY id') == [
        ("W12345678",),
        ("012345678",),
        ("012345678",),
    ]
    run.finish()
    assert isinstance(run.outcome_error, ChangeRolledBack)
    connection.execute(f'UPDATE "{name}" SET was = NULL WHERE id = 2'.encode())
    nulls = {"fill": fill.replace("was", "'w'").replace(f"\"{name}\".'w'", "'w'")}
    comes_back(bench, [{"set_not_null": {"table": f'public."{name}"', "column": "was", "nulls": nulls}}])
