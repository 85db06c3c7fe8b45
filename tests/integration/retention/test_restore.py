"""A whole restore carries what is kept; the restored database can get it back."""

from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.database import Connection, Target
from schema_change.core.errors import PreCheckFailed
from schema_change.core.names import quote
from schema_change.core.retention.purge import purge
from schema_change.core.retention.recover import recover
from schema_change.core.stages.restore import restore_run
from tests.bench import Bench
from tests.integration.operations.running import forward, lands
from tests.integration.stages.test_restore import ask, drop_kept

__all__ = ["drop_kept"]

DROP: list[dict[str, Any]] = [
    {"drop_column": {"table": "readings", "column": "note"}},
    {"drop_table": {"table": "old"}},
]


@pytest.fixture
def whole(bench: Bench, connection: Connection) -> Bench:
    connection.execute("CREATE TABLE old (id integer PRIMARY KEY); INSERT INTO old VALUES (1)")
    return bench


def put_back(target: Target, run: Any) -> tuple[str, ...]:
    return restore_run(target, run.request.run_id, database=True, terminate_sessions=True, note=lambda _: None).notices


def test_what_is_kept_is_carried_to_the_restored_database(whole: Bench) -> None:
    add = [{"add_column": {"table": "readings", "column": {"name": "n", "type": "integer"}}}]
    first = lands(whole, add, "001_add", skip_backup=False, skip_rehearsal=True, backup_scope="database")
    lands(whole, DROP, "002_drop")
    assert put_back(whole.target, first) == ()
    assert ask(whole.target, "SELECT count(*), count(note) FROM readings") == [(5000, 1666)]
    kept = ask(whole.target, "SELECT kept_name, kind FROM schema_change.retired ORDER BY id")
    assert [kind for _, kind in kept] == ["column", "table"]
    for (name, _), rows in zip(kept, (1666, 1), strict=True):
        assert ask(whole.target, f"SELECT count(*) FROM schema_change_retired.{quote(name)}") == [(rows,)]
    assert recover(whole.target, 1, note=lambda _: None).rows == 0
    # The change can be made again once what an earlier run of it kept is out of the way.
    lands(whole, add, "001_add")
    run = forward(whole, "002_drop")
    assert isinstance(run.error, PreCheckFailed)
    assert "kept by an earlier run of this change" in run.error.message
    for number in (1, 2):
        assert [p.state for p in purge(whole.target, only=number, note=lambda _: None)] == ["purged"]
    lands(whole, DROP, "002_drop")


def test_what_cannot_be_carried_is_said(whole: Bench, connection: Connection) -> None:
    add = [{"add_column": {"table": "readings", "column": {"name": "n", "type": "integer"}}}]
    first = lands(whole, add, "001_add", skip_backup=False, skip_rehearsal=True, backup_scope="database")
    connection.execute("CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE older (m mood)")
    lands(whole, [*DROP, {"drop_table": {"table": "older"}}], "002_drop")
    (notice,) = [n for n in put_back(whole.target, first) if "schema_change_retired" in n]
    assert "could not be carried over" in notice
    assert ask(whole.target, "SELECT count(*) FROM pg_tables WHERE schemaname = 'schema_change_retired'") == [(0,)]
    lands(whole, add, "001_add")
    lands(whole, DROP, "002_drop")
