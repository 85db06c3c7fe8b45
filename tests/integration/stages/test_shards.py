"""Whole runs whose backfill is cut into shards: in this process, and as tasks that begin one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from schema_change.core.backfill.engine import BackfillSettings
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError, OwnershipError
from schema_change.core.journal.fence import fenced
from schema_change.core.stages.local import LocalRunner
from schema_change.core.stages.runner import Runner
from tests.bench import Bench, Run

Rows = Callable[[str], list[Any]]

SHARDS = 3
BEFORE = ("plan", "backup", "pre_check", "rehearse", "migrate")
FILL: dict[str, Any] = {
    "add_column": {
        "table": "public.readings",
        "column": {"name": "fahrenheit", "type": "numeric(6,2)"},
        "fill": "readings.celsius * 9 / 5 + 32",
    }
}
SECOND: dict[str, Any] = {
    "add_column": {
        "table": "public.readings",
        "column": {"name": "kelvin", "type": "numeric(6,2)"},
        "fill": "readings.celsius + 273.15",
    }
}
WRONG = "SELECT count(*) FROM readings WHERE fahrenheit IS DISTINCT FROM celsius * 9 / 5 + 32"
DONE = (
    "SELECT count(*), sum(rows_done), bool_and(status = 'done') FROM schema_change.backfill GROUP BY seq ORDER BY seq"
)
STAGE = "SELECT status, tries FROM schema_change.stage WHERE stage = 'backfill'"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of a few thousand rows is large enough."""
    monkeypatch.setattr("schema_change.core.stages.session.BackfillSettings", partial(BackfillSettings, max_rows=200))


def begun(bench: Bench, *operations: dict[str, Any], **options: Any) -> Run:
    """Return a run that has done everything before its backfill."""
    change = bench.write("001_fill", {"operations": list(operations or (FILL,))})
    run = bench.run(bench.request(change, **{"shards": SHARDS, "skip_backup": True, **options}), stop_before="backfill")
    assert run.error is None
    return run


def go_on(run: Run) -> None:
    for stage in ("cutover", "validate", "soak", "contract"):
        assert run.try_stage(stage), run.error


def test_the_steps_of_a_run_are_filled_by_threads_in_order(bench: Bench, rows: Rows) -> None:
    run = begun(bench, FILL, SECOND, skip_backup=False)
    lines: list[str] = []
    LocalRunner(run.request, progress=lines.append).run("backfill")
    assert rows(DONE) == [(SHARDS, 5000, True)] * 2
    steps = rows(
        "SELECT status, rows, started_at, finished_at FROM schema_change.step WHERE phase = 'backfill' ORDER BY seq"
    )
    assert [step[:2] for step in steps] == [("done", 5000)] * 2
    assert steps[0][3] <= steps[1][2]
    assert rows("SELECT count(*) FROM schema_change.event WHERE kind = 'step_done' AND seq = 3") == [(1,)]
    assert rows(STAGE) == [("done", 1)]
    assert any(line.startswith("fill public.readings.fahrenheit, shard ") for line in lines)
    go_on(run)
    assert rows(WRONG) == [(0,)]


def test_shards_that_begin_one_after_the_other_all_end_well(bench: Bench, rows: Rows) -> None:
    """With one free worker, the first task fills everything, and those after it find it done."""
    run = begun(bench)
    results = [Runner(run.request).run("backfill", shard) for shard in (1, 0, 2)]
    assert [result.status for result in results] == ["done"] * 3
    assert rows(DONE) == [(SHARDS, 5000, True)]
    assert rows(STAGE) == [("done", 1)]
    go_on(run)
    assert rows(WRONG) == [(0,)]


def test_a_shard_that_fails_rolls_the_change_back(bench: Bench, rows: Rows) -> None:
    before = bench.state()
    fill = {"add_column": {**FILL["add_column"], "fill": "100 / (readings.id - 4000)"}}
    run = begun(bench, fill)
    with pytest.raises(BackfillError, match=r"the row with id = 4000 cannot be filled: division by zero"):
        LocalRunner(run.request).run("backfill")
    assert rows("SELECT status FROM schema_change.stage WHERE stage = 'backfill'") == [("failed",)]
    run.finish()
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert "id = 4000" in rows("SELECT error FROM schema_change.run")[0][0]
    assert bench.state() == before
    assert rows("SELECT count(*) FROM schema_change.backfill") == [(0,)]


def test_shards_keep_other_stages_out(bench: Bench, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(bench)
    monkeypatch.setattr("schema_change.core.stages.session.fenced", partial(fenced, wait_s=0))
    with bench.target.connect("another shard") as session, fenced(session, run.request.run_id, shared=True):
        for stage in ("cutover", "rollback"):
            with pytest.raises(OwnershipError, match="still at work"):
                Runner(run.request).run(stage)
        assert Runner(run.request).run("backfill", 1).status == "done"
    with (
        bench.target.connect("rollback") as session,
        fenced(session, run.request.run_id),
        pytest.raises(OwnershipError, match="still at work"),
    ):
        Runner(run.request).run("backfill", 1)


def test_a_cancelled_thread_ends_all_of_them(bench: Bench, rows: Rows) -> None:
    run = begun(bench)
    rows(f"INSERT INTO schema_change.control (run_id, paused) VALUES ('{run.request.run_id}', true)")
    paused: set[str] = set()
    everybody = threading.Event()

    def progress(line: str) -> None:
        if "paused by" in line:
            paused.add(line)
            if len(paused) == SHARDS:
                everybody.set()

    runner = LocalRunner(run.request, progress=progress)
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(runner.run, "backfill")
        assert everybody.wait(20)
        runner.cancel()
        assert filling.exception(20) is not None
    rows("UPDATE schema_change.control SET paused = false")
    assert LocalRunner(run.request).run("backfill").status == "done"
    assert rows(DONE) == [(SHARDS, 5000, True)]
    assert rows("SELECT status FROM schema_change.stage WHERE stage = 'backfill'") == [("done",)]


def test_an_interrupt_while_the_threads_begin_ends_them(
    bench: Bench, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(bench)
    rows(f"INSERT INTO schema_change.control (run_id, paused) VALUES ('{run.request.run_id}', true)")
    paused = threading.Event()
    submit = ThreadPoolExecutor.submit

    def interrupted(pool: ThreadPoolExecutor, *given: Any) -> None:
        submit(pool, *given)
        assert paused.wait(20)
        raise KeyboardInterrupt

    def progress(line: str) -> None:
        if "paused by" in line:
            paused.set()

    with monkeypatch.context() as patched:
        patched.setattr(ThreadPoolExecutor, "submit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            LocalRunner(run.request, progress=progress).run("backfill")
    rows("UPDATE schema_change.control SET paused = false")
    assert LocalRunner(run.request).run("backfill").status == "done"
    assert rows(WRONG) == [(0,)]


def test_a_thread_that_loses_its_session_is_no_reason_to_roll_back(bench: Bench, rows: Rows) -> None:
    run = begun(bench)
    ended = threading.Event()

    def progress(line: str) -> None:
        if ", shard 2 of 3:" in line and not ended.is_set():
            ended.set()
            rows(
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks l"
                " WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.objid = 1"
            )

    assert LocalRunner(run.request, progress=progress).run("backfill").status == "done"
    assert ended.is_set()
    assert rows(DONE) == [(SHARDS, 5000, True)]
    go_on(run)
    assert rows(WRONG) == [(0,)]
