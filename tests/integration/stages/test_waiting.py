"""Long waits are parked: the stage ends, names who is in the way, leaves nothing behind, and goes on afterwards."""

from __future__ import annotations

import datetime as dt
import getpass
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest

from schema_change.core.backfill import control
from schema_change.core.backfill.engine import BackfillSettings
from schema_change.core.backfill.shards import ShardStopped
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError, LockNotAvailable
from schema_change.core.execution.waiting import LockWait, ThrottleWait, TransactionWait, Waiting
from schema_change.core.stages.request import Request, StageResult
from schema_change.core.stages.runner import Runner
from tests.bench import Bench, Run

Rows = Callable[[str], list[Any]]
Open = Callable[[str], psycopg.Connection[Any]]

FAST: dict[str, Any] = {"skip_backup": True, "skip_rehearsal": True}
PLAIN = {"add_column": {"table": "readings", "column": {"name": "remark", "type": "text"}}}
FILL = {
    "add_column": {
        "table": "readings",
        "column": {"name": "fahrenheit", "type": "numeric(6,2)"},
        "fill": "readings.celsius * 9 / 5 + 32",
    }
}
INDEX = {"create_index": {"table": "readings", "columns": ["station"]}}
#: What a stage could leave behind: a session of ours, which may hold the fence or stand in a queue.
OURS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'schema_change:%' AND pid <> pg_backend_pid()
"""
COLUMNS = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'readings'::regclass AND attname = 'remark'"


@pytest.fixture
def opened(bench: Bench) -> Iterator[Open]:
    """Opens a session of an application whose transaction stays open after one statement."""
    sessions: list[psycopg.Connection[Any]] = []

    def begin(statement: str) -> psycopg.Connection[Any]:
        session = psycopg.connect(**{**bench.target.parameters, "application_name": "reporting"})
        sessions.append(session)
        session.execute(statement.encode())
        return session

    yield begin
    for session in sessions:
        session.close()


def prepared(bench: Bench, operation: dict[str, Any], to: str, /, around: Any = None, **options: Any) -> Request:
    """Return the request of a run that has come to a stage."""
    change = bench.write("001_wait", {"operations": [operation], **(around or {})})
    run = bench.run(bench.request(change, **FAST, **options), stop_before=to)
    assert run.error is None, run.error
    return run.request


def parked(request: Request, stage: str, earlier: Waiting | None = None, *, shard: int = 0) -> Waiting:
    """Run a stage that has to wait; return what for."""
    result = Runner(request, park_after_s=0.3, earlier=earlier).run(stage, shard)
    assert result.status == "waiting"
    assert result.waits_for is not None
    assert result.waits_for.until == result.until
    # Over JSON, as it goes to the triggerer.
    return Waiting.from_json(result.waits_for.to_json())


def over(waiting: Waiting, request: Request) -> bool:
    return waiting.is_over(request.target)


def go_on(request: Request, stage: str, earlier: Waiting | None = None, *, shard: int = 0) -> StageResult:
    return Runner(request, park_after_s=30, earlier=earlier).run(stage, shard)


def nothing_is_left(rows: Rows) -> None:
    """Wait until the server has noticed that our sessions are closed."""
    for _ in range(500):
        if rows(OURS) == [(0,)]:
            return
        time.sleep(0.01)
    pytest.fail("a session of ours is left")


def began_earlier(waiting: Waiting, seconds: int) -> Waiting:
    """Let a wait look as if it had begun earlier."""
    return waiting.model_copy(update={"since": waiting.since - dt.timedelta(seconds=seconds)})


def test_a_stage_that_waits_for_a_lock_ends_and_goes_on_when_the_blocker_has_gone(
    bench: Bench, opened: Open, rows: Rows
) -> None:
    request = prepared(bench, PLAIN, "migrate")
    reader = opened("SELECT count(*) FROM public.readings")
    waiting = parked(request, "migrate")
    assert isinstance(waiting, LockWait)
    assert f"session {reader.info.backend_pid} (user {reader.info.user}, reporting" in str(waiting)
    assert "ACCESS EXCLUSIVE lock on public.readings" in str(waiting)
    nothing_is_left(rows)
    assert rows(COLUMNS) == [(0,)]
    [(summary,)] = rows("SELECT result ->> 'summary' FROM schema_change.stage WHERE status = 'started'")
    assert "reporting" in summary
    assert not over(waiting, request)
    reader.commit()
    assert over(waiting, request)
    assert go_on(request, "migrate").status == "done"
    assert rows(COLUMNS) == [(1,)]
    assert rows("SELECT status, tries FROM schema_change.stage WHERE stage = 'migrate'") == [("done", 1)]
    assert Run(request).try_stage("backfill")


def test_the_bound_counts_over_all_deferrals(bench: Bench, opened: Open) -> None:
    request = prepared(bench, PLAIN, "migrate", lock_wait_s=300)
    reader = opened("SELECT count(*) FROM public.readings")
    first = parked(request, "migrate")
    assert first.until == first.since + dt.timedelta(seconds=300)
    again = parked(request, "migrate", began_earlier(first, 200))
    assert dt.timedelta(seconds=199) < first.since - again.since < dt.timedelta(seconds=201)
    with pytest.raises(LockNotAvailable, match=f"within 300 s; blocked by session {reader.info.backend_pid}"):
        parked(request, "migrate", began_earlier(again, 100))
    # A new try, as Airflow's retries make one, has the whole time again.
    assert parked(request, "migrate").since > again.since


def test_a_wait_whose_time_is_up_is_over(bench: Bench, opened: Open) -> None:
    request = prepared(bench, PLAIN, "migrate")
    opened("SELECT count(*) FROM public.readings")
    waiting = parked(request, "migrate")
    assert not over(waiting, request)
    assert over(waiting.model_copy(update={"until": dt.datetime.now(dt.UTC)}), request)


def test_an_attempt_is_made_as_soon_as_the_next_transaction_is_young(bench: Bench, opened: Open) -> None:
    request = prepared(bench, PLAIN, "migrate")
    reader = opened("SELECT count(*) FROM public.readings")
    waiting = parked(request, "migrate")
    opened("SELECT count(*) FROM public.readings")
    reader.commit()
    patient = waiting.model_copy(update={"since": waiting.since - dt.timedelta(hours=1)})
    assert over(patient, request)


def test_a_prepared_transaction_is_waited_for_too(bench: Bench, opened: Open, connection: Connection) -> None:
    request = prepared(bench, PLAIN, "migrate")
    session = opened("INSERT INTO public.readings (station) VALUES ('x')")
    session.execute("PREPARE TRANSACTION 'forgotten'")
    waiting = parked(request, "migrate")
    assert "prepared transaction 'forgotten'" in str(waiting)
    assert not over(waiting, request)
    connection.execute("COMMIT PREPARED 'forgotten'")
    assert over(waiting, request)
    assert go_on(request, "migrate").status == "done"


def test_terminating_blockers_still_works(bench: Bench, opened: Open, rows: Rows) -> None:
    """The one who cannot be terminated is waited for; whoever blocks then is."""
    request = prepared(bench, PLAIN, "migrate", terminate_blockers=True, lock_wait_s=1000)
    with bench.target.connect("not to be terminated") as ours:
        ours.execute("BEGIN")
        ours.execute("SELECT count(*) FROM public.readings")
        waiting = parked(request, "migrate")
        assert isinstance(waiting, TransactionWait)
        reader = opened("SELECT count(*) FROM public.readings")
        assert not over(waiting, request)
    assert over(waiting, request)
    assert go_on(request, "migrate").status == "done"
    with pytest.raises(psycopg.OperationalError):
        reader.execute("SELECT 1")
    [(message,)] = rows("SELECT message FROM schema_change.event WHERE kind = 'session_terminated'")
    assert "reporting" in message


def test_an_index_build_that_waits_for_writers_is_parked_before_it_builds(
    bench: Bench, opened: Open, rows: Rows
) -> None:
    request = prepared(bench, INDEX, "migrate")
    writer = opened("INSERT INTO public.readings (station) VALUES ('x')")
    waiting = parked(request, "migrate")
    assert f"session {writer.info.backend_pid}" in str(waiting)
    assert not over(waiting, request)
    nothing_is_left(rows)
    writer.commit()
    assert over(waiting, request)
    assert go_on(request, "migrate").status == "done"
    valid = "SELECT count(*), bool_and(indisvalid) FROM pg_index WHERE indrelid = 'readings'::regclass"
    assert rows(valid) == [(2, True)]


def test_a_batch_that_waits_for_rows_is_parked(bench: Bench, opened: Open, rows: Rows) -> None:
    request = prepared(bench, FILL, "backfill")
    writer = opened("UPDATE public.readings SET note = 'mine' WHERE id = 2500")
    waiting = parked(request, "backfill")
    assert isinstance(waiting, TransactionWait)
    assert f"rows are locked by session {writer.info.backend_pid}" in str(waiting)
    assert not over(waiting, request)
    writer.commit()
    assert over(waiting, request)
    assert go_on(request, "backfill").status == "done"
    assert rows("SELECT count(*) FROM readings WHERE fahrenheit IS NULL") == [(0,)]


def test_a_paused_backfill_holds_nothing_until_it_is_resumed(bench: Bench, connection: Connection, rows: Rows) -> None:
    request = prepared(bench, FILL, "backfill")
    control.pause(connection, request.run_id, getpass.getuser())
    waiting = parked(request, "backfill")
    assert isinstance(waiting, ThrottleWait)
    assert waiting.until is None
    reason = f"paused by {getpass.getuser()}"
    assert reason in str(waiting)
    assert rows("SELECT throttle_reason FROM schema_change.backfill") == [(reason,)]
    nothing_is_left(rows)
    for _ in range(2):
        assert not over(waiting, request)
    control.resume(connection, request.run_id, "ben")
    assert over(waiting, request)
    assert go_on(request, "backfill", began_earlier(waiting, 7200)).status == "done"
    assert rows("SELECT count(*) FROM readings WHERE fahrenheit IS NULL") == [(0,)]
    assert rows("SELECT throttle_reason, throttled_ms > 7200000 FROM schema_change.backfill") == [(None, True)]
    said = "SELECT kind, actor FROM schema_change.event WHERE kind LIKE 'backfill\\_%' ORDER BY id"
    assert rows(said) == [("backfill_paused", getpass.getuser()), ("backfill_resumed", "ben")]


def test_a_pause_does_not_use_up_the_patience_for_rows(bench: Bench, opened: Open, connection: Connection) -> None:
    request = prepared(bench, FILL, "backfill")
    control.pause(connection, request.run_id, "ann")
    waiting = parked(request, "backfill")
    control.resume(connection, request.run_id, "ann")
    opened("UPDATE public.readings SET note = 'mine' WHERE id = 2500")
    assert isinstance(parked(request, "backfill", began_earlier(waiting, 7200)), TransactionWait)


def test_a_paused_backfill_that_is_cancelled_is_rolled_back(bench: Bench, connection: Connection, rows: Rows) -> None:
    before = bench.state()
    request = prepared(bench, FILL, "backfill")
    control.pause(connection, request.run_id, "ann")
    waiting = parked(request, "backfill")
    control.cancel(connection, request.run_id, "ann")
    assert over(waiting, request)
    with pytest.raises(BackfillError, match="cancelled by ann"):
        go_on(request, "backfill")
    Run(request).finish()
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert bench.state() == before


def test_a_run_that_is_given_up_while_it_waits_is_rolled_back(bench: Bench, connection: Connection, rows: Rows) -> None:
    """Cleared, killed or marked failed: there is nothing but the journal, so the way back is the usual one."""
    before = bench.state()
    request = prepared(bench, FILL, "backfill")
    control.pause(connection, request.run_id, "ann")
    waiting = parked(request, "backfill")
    Run(request).finish()
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert bench.state() == before
    assert over(waiting, request) in {True, False}  # it may be asked once more, and must not fail


STAGE = "SELECT status, tries FROM schema_change.stage WHERE stage = 'backfill'"


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of a few thousand rows is large enough to be cut."""
    monkeypatch.setattr("schema_change.core.stages.session.BackfillSettings", partial(BackfillSettings, max_rows=200))


@pytest.mark.usefixtures("small_shards")
def test_a_shard_is_parked_while_the_other_goes_on(bench: Bench, opened: Open, rows: Rows) -> None:
    """The one that has filled its own range takes the one that is left, waits for the same rows, and is parked too."""
    request = prepared(bench, FILL, "backfill", shards=2)
    writer = opened("UPDATE public.readings SET note = 'mine' WHERE id = 4000")
    second = parked(request, "backfill", shard=1)
    first = parked(request, "backfill", shard=0)
    nothing_is_left(rows)
    assert rows("SELECT status FROM schema_change.backfill ORDER BY shard") == [("done",), ("running",)]
    for waiting in (first, second):
        assert f"rows are locked by session {writer.info.backend_pid}" in str(waiting)
        assert not over(waiting, request)
    writer.commit()
    assert over(first, request)
    assert over(second, request)
    for shard, waiting in enumerate((first, second)):
        assert go_on(request, "backfill", waiting, shard=shard).status == "done"
    assert rows("SELECT count(*) FROM readings WHERE fahrenheit IS NULL") == [(0,)]
    assert rows(STAGE) == [("done", 1)]


@pytest.mark.usefixtures("small_shards")
def test_the_patience_of_each_shard_counts_over_its_own_deferrals(bench: Bench, opened: Open) -> None:
    request = prepared(bench, FILL, "backfill", shards=2, lock_wait_s=300)
    opened("UPDATE public.readings SET note = 'mine'")  # not even a smaller batch gets through
    second, first = parked(request, "backfill", shard=1), parked(request, "backfill")
    again = parked(request, "backfill", began_earlier(first, 200))
    assert again.since < first.since < second.since + dt.timedelta(seconds=60)
    with pytest.raises(LockNotAvailable, match="within 300 s"):
        parked(request, "backfill", began_earlier(second, 300), shard=1)


@pytest.mark.usefixtures("small_shards")
def test_a_pause_is_recorded_for_the_shard_that_was_parked(bench: Bench, connection: Connection, rows: Rows) -> None:
    request = prepared(bench, FILL, "backfill", shards=2)
    control.pause(connection, request.run_id, "ann")
    waits = [parked(request, "backfill", shard=shard) for shard in (0, 1)]
    assert rows("SELECT throttle_reason FROM schema_change.backfill") == [("paused by ann",)] * 2
    control.resume(connection, request.run_id, "ann")
    assert go_on(request, "backfill", began_earlier(waits[1], 7200), shard=1).status == "done"
    waited = "SELECT throttled_ms > 7200000, status FROM schema_change.backfill ORDER BY shard"
    assert rows(waited) == [(False, "done"), (True, "done")]
    assert go_on(request, "backfill", waits[0]).status == "done"
    assert rows(STAGE) == [("done", 1)]


@pytest.mark.usefixtures("small_shards")
def test_a_shard_that_fails_ends_those_that_are_parked(bench: Bench, connection: Connection, rows: Rows) -> None:
    fill = {"add_column": {**FILL["add_column"], "fill": "100 / (readings.id - 4000)"}}
    before = bench.state()
    request = prepared(bench, fill, "backfill", shards=2)
    control.pause(connection, request.run_id, "ann")
    waiting = parked(request, "backfill")
    control.resume(connection, request.run_id, "ann")
    with pytest.raises(BackfillError, match="id = 4000"):
        go_on(request, "backfill", shard=1)
    control.pause(connection, request.run_id, "ann")
    assert over(waiting, request)
    with pytest.raises(ShardStopped, match=r"another shard failed: .*id = 4000"):
        go_on(request, "backfill", waiting)
    assert rows("SELECT status FROM schema_change.stage WHERE stage = 'backfill'") == [("failed",)]
    Run(request).finish()
    assert bench.state() == before


@pytest.mark.usefixtures("small_shards")
def test_what_a_shard_waits_for_does_not_cover_up_that_another_failed(
    bench: Bench, connection: Connection, opened: Open, rows: Rows
) -> None:
    request = prepared(bench, FILL, "backfill", shards=2, lock_wait_s=1)
    opened("UPDATE public.readings SET note = 'mine' WHERE id = 4000")
    with pytest.raises(LockNotAvailable):
        go_on(request, "backfill", shard=1)
    control.pause(connection, request.run_id, "ann")
    waiting = parked(request, "backfill")
    control.resume(connection, request.run_id, "ann")
    with pytest.raises(LockNotAvailable):
        go_on(request, "backfill", shard=1)
    control.pause(connection, request.run_id, "ann")
    parked(request, "backfill", waiting)
    [(status, error)] = rows("SELECT status, result ->> 'error' FROM schema_change.stage WHERE stage = 'backfill'")
    assert status == "failed"
    assert "no batch got through" in error


@pytest.mark.usefixtures("small_shards")
def test_the_statistics_are_waited_for_whatever_other_shards_record(bench: Bench, opened: Open, rows: Rows) -> None:
    request = prepared(bench, FILL, "backfill", shards=2)
    other = opened("LOCK TABLE public.readings IN SHARE UPDATE EXCLUSIVE MODE")
    waiting = parked(request, "backfill")
    assert isinstance(waiting, LockWait)
    assert go_on(request, "backfill", shard=1).status == "done"
    with pytest.raises(LockNotAvailable):
        parked(request, "backfill", began_earlier(waiting, 600))
    other.commit()
    assert over(waiting, request)
    assert go_on(request, "backfill", waiting).status == "done"
    assert rows("SELECT tries FROM schema_change.stage WHERE stage = 'backfill'") == [(1,)]


def test_a_rollback_waits_without_a_worker_too(bench: Bench, opened: Open, rows: Rows) -> None:
    before = bench.state()
    request = prepared(bench, PLAIN, "cutover")
    reader = opened("SELECT count(*) FROM public.readings")
    waiting = parked(request, "rollback")
    assert not over(waiting, request)
    reader.commit()
    assert over(waiting, request)
    assert go_on(request, "rollback").status == "done"
    Run(request).finish()
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert bench.state() == before


def test_a_wait_is_seen_through_here_unless_somebody_else_does(bench: Bench, opened: Open) -> None:
    request = prepared(bench, PLAIN, "migrate", lock_wait_s=1)
    opened("SELECT count(*) FROM public.readings")
    with pytest.raises(LockNotAvailable, match="within 1 s"):
        Runner(replace(request)).run("migrate")


def test_the_change_says_when_its_backfill_pauses(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE busy (why text)")
    rows("INSERT INTO busy VALUES ('the nightly report runs')")
    request = prepared(bench, FILL, "backfill", {"throttle": {"sql": "SELECT why FROM busy"}})
    waiting = parked(request, "backfill")
    assert str(waiting) == "backfill of public.readings.fahrenheit pauses: the nightly report runs"
    assert not over(waiting, request)
    rows("DELETE FROM busy")
    assert over(waiting, request)
    assert go_on(request, "backfill").status == "done"


def test_a_condition_that_cannot_be_asked_fails_the_pre_check(bench: Bench) -> None:
    change = bench.write("001_wait", {"operations": [FILL], "throttle": {"sql": "SELECT why FROM nowhere"}})
    run = bench.run(bench.request(change, **FAST))
    assert 'throttle: throttle.sql cannot be asked: relation "nowhere" does not exist' in str(run.error)
