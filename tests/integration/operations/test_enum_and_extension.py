from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Connection
from schema_change.core.errors import PlanError, PreCheckFailed
from schema_change.core.operations.base import PlanContext
from schema_change.core.operations.enum_add_value import EnumAddValue
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows

ENUM = '"My Schema"."Type, of ""it"""'
LABELS = f"SELECT array_agg(e::text ORDER BY e) FROM unnest(enum_range(NULL::{ENUM})) AS e"


@pytest.fixture
def enum(bench: Bench, connection: Connection) -> None:
    connection.execute('CREATE SCHEMA "My Schema"')
    connection.execute(f"CREATE TYPE {ENUM} AS ENUM (E'it''s, \\\\', 'last')".encode())
    connection.execute(f"ALTER TABLE readings ADD COLUMN kind {ENUM}".encode())


@pytest.mark.usefixtures("enum")
def test_values_are_added_in_contract_in_their_places(bench: Bench, connection: Connection, rows: Rows) -> None:
    values: list[dict[str, Any]] = [
        {"value": "first", "before": "it's, \\"},
        {"value": "between", "after": "it's, \\"},
        {"value": "it's the end"},
        {"value": "before the end", "before": "it's the end"},
    ]
    operations = [{"enum_add_value": {"type": ENUM, **value}} for value in values]
    comes_back(bench, operations)
    planned = EnumAddValue.model_validate({"type": ENUM, **values[1]}).plan(read_catalog(connection), PlanContext("1"))
    lands(bench, operations, skip_backup=False, skip_rehearsal=False)
    labels = ["first", "it's, \\", "between", "last", "before the end", "it's the end"]
    assert rows(LABELS) == [(labels,)]
    connection.execute(f"DROP TYPE {ENUM} CASCADE".encode())
    connection.execute(f"CREATE TYPE {ENUM} AS ENUM (E'it''s, \\\\', 'between', 'last')".encode())
    assert dict(read_catalog(connection).objects) == dict(planned.catalog.objects)


@pytest.mark.usefixtures("enum")
def test_a_value_is_not_used_in_the_change_that_adds_it(bench: Bench, rows: Rows) -> None:
    before = bench.state()
    operations = [
        {"enum_add_value": {"type": ENUM, "value": "new"}},
        {"add_column": {"table": "readings", "column": {"name": "k", "type": ENUM, "default": "'new'"}}},
    ]
    run = forward(bench, bench.write("001_early", {"operations": operations}))
    assert run.error
    assert "invalid input value for enum" in run.error.message
    assert bench.state() == before
    assert rows(LABELS) == [(["it's, \\", "last"],)]


def test_an_extension_comes_and_goes(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute('CREATE SCHEMA "My Schema"')
    operations: list[dict[str, Any]] = [
        {"create_extension": {"name": "citext"}},
        {"create_extension": {"name": "pg_trgm", "into": "My Schema"}},
        {"create_extension": {"name": "plpgsql"}},
    ]
    comes_back(bench, operations)
    lands(bench, operations)
    found = "SELECT e.extname, n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON e.extnamespace = n.oid"
    assert rows(f"{found} ORDER BY 1") == [("citext", "public"), ("pg_trgm", "My Schema"), ("plpgsql", "pg_catalog")]


def test_an_extension_that_the_server_does_not_have_stops_the_change(bench: Bench) -> None:
    run = forward(bench, bench.write("001_none", {"operations": [{"create_extension": {"name": "citexxt"}}]}))
    assert isinstance(run.error, PreCheckFailed)
    assert "no extension citexxt" in run.error.message


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"create_extension": {"name": "citext", "into": "nope"}}, "no schema nope"),
        ({"create_extension": {"name": "plpgsql", "version": "99"}}, "not version 99"),
        ({"enum_add_value": {"type": "mood", "value": "x"}}, "no enum public.mood"),
    ],
)
def test_what_does_not_fit_is_refused(bench: Bench, operation: dict[str, Any], message: str) -> None:
    run = forward(bench, bench.write("001_no", {"operations": [operation]}))
    assert isinstance(run.error, PlanError)
    assert message in run.error.message
    assert run.error.hint


@pytest.mark.parametrize("server", [18], indirect=True)  # where a database may say where extensions are
def test_an_extension_that_would_leave_a_schema_behind_is_refused_until_that_is_there(
    bench: Bench, connection: Connection
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "extension"
        home.mkdir()
        Path(folder).chmod(0o755)
        (home / "own_home.control").write_text("default_version = '1'\nschema = own_home\nrelocatable = false\n")
        (home / "own_home--1.sql").write_text("CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1';\n")
        connection.execute(
            f"ALTER DATABASE {connection.info.dbname} SET extension_control_path = '{folder}:$system'".encode()
        )
        operations = [{"create_extension": {"name": "own_home"}}]
        refused = forward(bench, bench.write("900_back", {"operations": operations}))
        assert isinstance(refused.error, PreCheckFailed)
        assert "extension own_home would make a schema" in refused.error.message
        connection.execute("CREATE SCHEMA own_home")
        comes_back(bench, operations)
