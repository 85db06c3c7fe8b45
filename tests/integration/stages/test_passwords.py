"""The password of a target is used, and found nowhere: not in the journal, artifacts, logs, errors or arguments."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql

from demo.postgres import free_port
from schema_change.core.database import Connection, Target
from schema_change.core.errors import ChangeRolledBack, ConfigurationError, ValidationFailed
from tests.bench import Bench

#: What of it stays as it is in any encoding, and around it all that is special in URLs, pgpass files and SQL.
CORE = "s3cr3tw0rd"
PASSWORD = rf":/@%\ '{CORE}'#?"
OPERATIONS: list[dict[str, Any]] = [
    {
        "add_column": {
            "table": "public.readings",
            "column": {"name": "fahrenheit", "type": "numeric(6,2)"},
            "fill": "readings.celsius * 9 / 5 + 32",
        }
    }
]
NEVER = """
name: readings
table: public.readings
expectations:
  - {type: expect_column_min_to_be_between, kwargs: {column: celsius, min_value: 500}, meta: {check_id: never}}
"""


def everything(target: Target) -> str:
    """Return every row of our schema and of the application's, as text."""
    with target.connect("look") as session:
        names = session.execute(
            "SELECT nspname, relname FROM pg_class INNER JOIN pg_namespace AS n ON n.oid = relnamespace"
            " WHERE nspname IN ('schema_change', 'public') AND relkind IN ('r', 'v')"
        ).fetchall()
        rows = sql.SQL("SELECT t::text FROM {} AS t")
        return "\n".join(row[0] for name in names for row in session.execute(rows.format(sql.Identifier(*name))))


@pytest.fixture
def secretive(target: Target, connection: Connection) -> Iterator[Target]:
    """The target, as a role with a password."""
    name = f"secretive_{uuid4().hex[:8]}"
    role = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(role, sql.Literal(PASSWORD)))
    yield Target("target", {**target.parameters, "user": name, "password": PASSWORD})
    connection.execute(sql.SQL("REASSIGN OWNED BY {0} TO CURRENT_USER; DROP OWNED BY {0}; DROP ROLE {0}").format(role))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments and environments of the programs that were started."""
    seen: list[str] = []
    start = subprocess.Popen.__init__

    def record(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.append(repr((args, kwargs)))
        start(self, *args, **kwargs)

    monkeypatch.setattr(subprocess.Popen, "__init__", record)
    return seen


@pytest.mark.parametrize("server", [18], indirect=True, ids=["pg18"])
def test_a_run_that_is_rolled_back_tells_nobody(
    bench: Bench,
    secretive: Target,
    started: list[str],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    bench.target = secretive
    bench.expectations("never.yaml", NEVER)
    change = bench.write("001_secret", {"operations": OPERATIONS, "expectations": "never.yaml"})
    run = bench.run(bench.request(change))
    assert isinstance(run.error, ValidationFailed)
    assert isinstance(run.outcome_error, ChangeRolledBack)

    assert any("pg_dump" in call for call in started)
    assert any("pg_restore" in call for call in started)
    assert [call for call in started if CORE in call] == []
    files = [f for f in bench.folder.rglob("*") if f.is_file()]
    assert {"guide.html", "report.html", "report.json", "manifest.json", "index.html"} <= {f.name for f in files}
    assert [f for f in files if CORE.encode() in f.read_bytes()] == []
    journal = everything(secretive)
    assert "001_secret" in journal
    assert CORE not in journal
    assert any(record.name.startswith("schema_change") for record in caplog.records)
    assert [r.getMessage() for r in caplog.records if CORE in r.getMessage() or CORE in (r.exc_text or "")] == []
    said = [json.dumps(dict(result.data)) + result.summary for result in run.results.values()]
    said += [str(run.error), str(run.outcome_error), repr(run.error.data), repr(run.request), *capfd.readouterr()]
    assert [text for text in said if CORE in text] == []


def test_a_server_that_is_not_there_tells_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    target = Target("target", {"host": "127.0.0.1", "port": str(free_port()), "user": "u", "password": PASSWORD})
    with pytest.raises(ConfigurationError) as caught:
        target.connect("test")
    chain = [str(caught.value), repr(caught.value), str(caught.value.__cause__), repr(target), caplog.text]
    assert [text for text in chain if CORE in text] == []
