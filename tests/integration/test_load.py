"""The benchmark's load finds a write that was lost, a row that was overwritten, and who waited for a lock."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.bench import Bench
from benchmarks.changes import connect, table
from demo.postgres import Server
from schema_change.core.database import Target

ROWS = 2_000


@pytest.fixture
def server(server_18: Server) -> Server:
    return server_18


@pytest.fixture
def bench(server: Server, target: Target, tmp_path: Path) -> Bench:
    table(target, ROWS)
    return Bench(server, ROWS, 1, tmp_path)


def statements_seen(target: Target) -> int:
    with connect(target) as session:
        row = session.execute("SELECT count(*) FROM app WHERE value > 0").fetchone()
        assert row
        return int(row[0])


def test_every_acknowledged_write_is_compared(bench: Bench, target: Target) -> None:
    with load.running(bench, target, ROWS, rate=400) as app:
        while statements_seen(target) < 50:
            pass
    with connect(target) as session:
        app.check(session, ROWS)
        for damage in (
            "UPDATE app SET value = value + 1 WHERE id = (SELECT max(id) FROM app WHERE note = 'updated')",
            "DELETE FROM app WHERE id = (SELECT min(id) FROM app WHERE note = 'inserted')",
            "UPDATE app SET note = 'x' WHERE id = (SELECT min(id) FROM app WHERE note = 'as it was')",
        ):
            with session.transaction(force_rollback=True):
                session.execute(damage.encode())
                with pytest.raises(AssertionError, match="1 rows do not hold what the application last wrote"):
                    app.check(session, ROWS)


def test_a_statement_that_waited_for_a_lock_is_a_stall_and_its_latency_tells(bench: Bench, target: Target) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'app'::regclass"
    with load.running(bench, target, ROWS, rate=300) as app:
        # By then every client has prepared every statement, for which pgbench would wait with all of them.
        while statements_seen(target) < 200:
            pass
        began = time.time()
        with connect(target) as session, session.transaction():
            session.execute("LOCK TABLE app")
            while session.execute(waiting.encode()).fetchone() != (load.CLIENTS,):
                pass
            session.execute("SELECT pg_sleep(0.5)")
        ended = time.time()
    window = app.between(began, ended)
    assert 0 < window.longest_stall < ended - began
    assert len(window.stalls) >= load.CLIENTS
    # Those that found no free client count from when they should have begun.
    assert sum(t.latency_s >= window.longest_stall / 2 for t in window.transactions) > load.CLIENTS
    assert window.errors == 0
