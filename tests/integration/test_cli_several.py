"""Several changes with one command: one pair of sessions, and no more queries than are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from schema_change.cli.main import main
from schema_change.core.database import Connection, Target
from tests.bench import Bench

SKIP = ("--yes", "--skip-backup", "--skip-rehearsal", "--changes", "changes")
#: A trivial change sends about 125 statements; more is a stage that does work nobody asked for, or twice.
MOST_QUERIES = 130


@pytest.fixture
def bench(target: Target, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    connection.execute("CREATE TABLE readings (id integer PRIMARY KEY, note text)")
    monkeypatch.chdir(tmp_path)
    p = target.parameters
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", f"postgresql://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}")
    return Bench(target, tmp_path)


def add(bench: Bench, number: int, column: str, table: str = "readings") -> str:
    operation = {"add_column": {"table": table, "column": {"name": column, "type": "integer"}}}
    return bench.write(f"{number:03}_{column}", {"operations": [operation]})


def spied(method: Callable[..., Any], seen: list[Any]) -> Callable[..., Any]:
    def spy(*arguments: Any, **more: Any) -> Any:
        seen.append(arguments[1])
        return method(*arguments, **more)

    return spy


def statuses(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT change_name, status FROM schema_change.run ORDER BY started_at").fetchall()


def test_changes_land_one_after_the_other_on_two_sessions(
    bench: Bench, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [add(bench, number, f"c{number}") for number in (1, 2, 3)]
    opened: list[str] = []
    sent: list[Any] = []
    connect, execute = Target.connect, psycopg.Cursor.execute
    with monkeypatch.context() as patch:
        patch.setattr(Target, "connect", spied(connect, opened))
        patch.setattr(psycopg.Cursor, "execute", spied(execute, sent))
        assert main(["apply", *ids, *SKIP]) == 0
    assert opened == ["apply", "apply:side"]
    assert len(sent) / len(ids) <= MOST_QUERIES
    assert statuses(connection) == [("c1", "applied"), ("c2", "applied"), ("c3", "applied")]
    skipped = connection.execute(
        "SELECT DISTINCT stage FROM schema_change.stage WHERE status = 'skipped' AND finished_at IS NOT NULL"
    ).fetchall()
    assert {"approve", "backfill", "cutover", "soak", "rollback", "verify_rollback"} <= {row[0] for row in skipped}
    kinds = {row[0] for row in connection.execute("SELECT kind FROM schema_change.event").fetchall()}
    assert {"planned", "backup_skipped", "rehearsal_skipped", "step_done", "applied"} <= kinds


def test_the_first_that_fails_is_undone_and_ends_the_command(bench: Bench, connection: Connection) -> None:
    good, bad, never = add(bench, 1, "c1"), add(bench, 2, "c2", "missing"), add(bench, 3, "c3")
    assert main(["apply", good, bad, never, *SKIP]) != 0
    assert statuses(connection) == [("c1", "applied")]


def test_a_run_to_go_on_with_is_one(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [add(bench, number, f"c{number}") for number in (1, 2)]
    assert main(["apply", *ids, "--run", "00000000-0000-0000-0000-000000000000", *SKIP]) == 2
    assert "--run" in capsys.readouterr().err


def test_what_changes_something_waits_for_the_disk(
    bench: Bench, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = add(bench, 1, "c1")
    seen: dict[str, set[str]] = {}
    execute = psycopg.Cursor.execute

    def spy(cursor: psycopg.Cursor[Any], query: Any, *a: Any, **k: Any) -> Any:
        text = query.as_string(None) if hasattr(query, "as_string") else str(query)
        result = execute(cursor, query, *a, **k)
        word = next(
            (w for w in ("ADD COLUMN", "UPDATE schema_change.run", "INSERT INTO schema_change.run (") if w in text),
            None,
        )
        if word:
            shown = execute(psycopg.Cursor(cursor.connection), "SHOW synchronous_commit").fetchone()
            seen.setdefault(word, set()).add(str(shown))
        return result

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", spy)
        assert main(["apply", change, *SKIP]) == 0
    default = str(connection.execute("SHOW synchronous_commit").fetchone())
    assert seen["ADD COLUMN"] == {default}
    assert default in seen["UPDATE schema_change.run"]
    assert statuses(connection) == [("c1", "applied")]
