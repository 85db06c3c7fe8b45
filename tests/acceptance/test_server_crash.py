"""PostgreSQL crashes in the middle of a run: after its recovery the run goes on, or is rolled back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.postgres import Server, free_port
from schema_change.core.backfill.engine import Progress
from schema_change.core.backfill.pace import Meter
from schema_change.core.binaries import installations
from schema_change.core.database import Target
from schema_change.core.errors import SchemaChangeError
from schema_change.core.journal.journal import Journal
from schema_change.core.model import Backfill
from schema_change.core.names import Table
from schema_change.core.stages.reconcile import reconcile
from schema_change.core.stages.request import Request
from schema_change.core.stages.runner import Runner
from tests.acceptance.test_kill import CHANGING, prepare
from tests.bench import Bench, Run
from tests.integration.backfill.conftest import filling
from tests.integration.backfill.filling import Filling

__all__ = ["filling"]

#: Not to be done twice: every row would show it.
COUNTED = Backfill(
    table=Table("public", "counted"), column="fills", expression="counted.fills + 1", pending="true", key=("id",)
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own: others' tests must not crash with it."""
    installation = next((i for i in installations() if i.major == 18), None)
    if installation is None:
        pytest.skip("PostgreSQL 18 is not installed here")
    folder = Path(tempfile.mkdtemp(prefix="crash_"))
    folder.chmod(0o755)
    server = Server(installation, folder / "data", free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def crashing(bench: Bench, server: Server) -> Callable[[int, Request], bool]:
    """Run the changing stages, crash the server at the n-th line of progress and start it again."""

    def run(number: int, request: Request) -> bool:
        lines = count(1)

        def progress(_: str) -> None:
            if next(lines) == number:
                server.stop("immediate")
                server.start()

        try:
            for stage in CHANGING:
                Runner(request, progress=progress).run(stage)
        except (SchemaChangeError, psycopg.Error):
            return True
        return False

    return run


def ask(target: Target, statement: str) -> list[Any]:
    with target.connect("look") as session:
        session.execute("SET search_path = public")
        return session.execute(statement.encode()).fetchall()


@pytest.mark.parametrize("number", [1, 3, 6, 9])
def test_a_run_goes_on_after_a_crash(bench: Bench, crashing: Callable[[int, Request], bool], number: int) -> None:
    request = prepare(bench, "001_crash")
    assert crashing(number, request)
    run = Run(request)
    for stage in CHANGING:
        if ask(bench.target, "SELECT status FROM schema_change.run") != [("applied",)]:
            run.try_stage(stage)
    assert ask(bench.target, "SELECT status FROM schema_change.run") == [("applied",)], run.error
    wrong = "SELECT count(*) FROM readings WHERE fahrenheit IS DISTINCT FROM celsius * 9 / 5 + 32 OR note IS NULL"
    assert ask(bench.target, wrong) == [(0,)]
    assert ask(bench.target, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


@pytest.mark.parametrize("number", [1, 3, 6, 9])
def test_reconcile_rolls_back_after_a_crash(
    bench: Bench, crashing: Callable[[int, Request], bool], number: int
) -> None:
    before = bench.state()
    request = prepare(bench, "001_crash")
    assert crashing(number, request)
    reconcile(
        bench.target,
        is_over=lambda run: True,
        build=lambda run: replace(request, change=None, run_id=run.run_id),
        progress=lambda line: None,
    )
    assert ask(bench.target, "SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert bench.state() == before


@pytest.fixture
def forgetful(server: Server, filling: Filling, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filling]:
    """A server that writes its WAL as late as it may, so that a crash loses what was committed asynchronously."""
    monkeypatch.setattr("schema_change.core.backfill.engine.Meter", lambda tell: Meter(tell, every_s=0))
    filling.connection.execute("CREATE TABLE counted AS SELECT i AS id, 0 AS fills FROM generate_series(1, 300) AS i")
    filling.connection.execute("ALTER TABLE counted ADD PRIMARY KEY (id)")
    filling.connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    filling.connection.execute("SELECT pg_reload_conf()")
    yield filling
    filling.connection.close()
    filling.side.close()
    with server.target().connect("reset") as session:
        session.execute("ALTER SYSTEM RESET wal_writer_delay")
        session.execute("SELECT pg_reload_conf()")


def crash(server: Server, filling: Filling) -> None:
    server.stop("immediate")
    server.start()
    filling.reconnect()
    filling.connection.close()
    filling.side.close()
    filling.connection, filling.side = filling.target.connect("test"), filling.target.connect("side")


def test_a_crash_takes_a_batch_and_its_checkpoint_or_neither(server: Server, forgetful: Filling) -> None:
    """Batches are committed asynchronously: whatever a crash loses, the checkpoint claims what is there."""
    lost = 0
    for batches in (3, 9, 15):
        done = 0

        def at(progress: Progress, batches: int = batches) -> None:
            nonlocal done
            if progress.batches >= batches and not progress.done:
                done = progress.rows_done
                raise InterruptedError

        with pytest.raises(InterruptedError):
            forgetful.run(COUNTED, on_progress=at)
        crash(server, forgetful)
        claimed = forgetful.one("SELECT coalesce(sum(rows_done), 0)::integer FROM schema_change.backfill")
        assert forgetful.one("SELECT count(*) FROM public.counted WHERE fills = 1") == claimed
        lost += done - claimed
    assert lost, "nothing was lost, so this has shown nothing"
    assert forgetful.run(COUNTED) == 300
    assert forgetful.one("SELECT min(fills) = 1 AND max(fills) = 1 FROM public.counted")


def test_a_crash_takes_nothing_of_a_fill_that_the_journal_calls_done(server: Server, forgetful: Filling) -> None:
    forgetful.run(COUNTED)
    Journal(forgetful.work, forgetful.run_id).set_step(1, "done", rows=300)
    crash(server, forgetful)
    assert forgetful.one("SELECT status FROM schema_change.step WHERE seq = 1") == "done"
    assert forgetful.one("SELECT count(*) FROM public.counted WHERE fills = 1") == 300
