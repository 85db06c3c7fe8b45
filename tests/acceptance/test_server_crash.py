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
from schema_change.core.binaries import installations
from schema_change.core.database import Target
from schema_change.core.errors import SchemaChangeError
from schema_change.core.stages.reconcile import reconcile
from schema_change.core.stages.request import Request
from schema_change.core.stages.runner import Runner
from tests.acceptance.test_kill import CHANGING, prepare
from tests.bench import Bench, Run


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
