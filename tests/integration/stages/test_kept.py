"""What a process that runs all stages keeps from one to the next, and what it must look at again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import psycopg
import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import ChangeRolledBack, JournalError, PlanError, PreCheckFailed
from schema_change.core.journal.fence import release_fence, try_fence
from schema_change.core.journal.journal import Journal
from schema_change.core.journal.known import Known
from schema_change.core.stages.runner import Runner
from schema_change.core.stages.session import Pair
from tests.bench import Bench

EXTRA = {
    "operations": [{"add_column": {"table": "public.readings", "column": {"name": "extra", "type": "integer"}}}],
    "conn_id": "target",
}


@pytest.fixture
def runner(bench: Bench) -> Iterator[Runner]:
    bench.write("001_extra", EXTRA)
    with Pair(bench.target) as pair:
        yield Runner(
            bench.request("001_extra", skip_backup=True, skip_rehearsal=True),
            pair=pair,
            ahead=True,
        )


def until(runner: Runner, last: str) -> None:
    for stage in ("plan", "approve", "backup", "pre_check", "rehearse", "migrate"):
        runner.run(stage)
        if stage == last:
            return


def is_free(connection: Connection, run_id: UUID) -> bool:
    free = try_fence(connection, run_id)
    if free:
        release_fence(connection, run_id)
    return free


def test_nobody_comes_between_two_stages(runner: Runner, connection: Connection) -> None:
    until(runner, "plan")
    assert not is_free(connection, runner.request.run_id)
    runner.rest()
    assert is_free(connection, runner.request.run_id)
    runner.run("backup")
    assert not is_free(connection, runner.request.run_id)


def test_what_others_write_while_it_rests_is_seen(runner: Runner, connection: Connection) -> None:
    until(runner, "rehearse")
    runner.rest()
    Journal(connection, runner.request.run_id).set_status("stopped", "somebody had enough")
    with pytest.raises(JournalError, match="stopped"):
        runner.run("migrate")
    with pytest.raises(ChangeRolledBack, match="somebody had enough"):
        runner.run("outcome")


def test_a_failure_gives_the_fence_back(runner: Runner, connection: Connection) -> None:
    until(runner, "backup")
    connection.execute("ALTER TABLE readings ADD COLUMN extra integer")
    with pytest.raises(PlanError):
        runner.run("pre_check")
    assert is_free(connection, runner.request.run_id)


def test_a_catalog_that_somebody_changed_after_the_plan_is_found(runner: Runner, connection: Connection) -> None:
    until(runner, "backup")
    connection.execute("ALTER TABLE readings ADD COLUMN other integer")
    with pytest.raises(PreCheckFailed, match="no longer the one"):
        runner.run("pre_check")
    assert connection.execute("SELECT status FROM schema_change.run").fetchone() == ("planned",)


def test_what_plan_did_not_ask_is_asked_before_the_first_change(bench: Bench, runner: Runner) -> None:
    options = runner.request.options.model_copy(update={"long_transaction_s": 1})
    runner.request = replace(runner.request, options=options)
    with psycopg.connect(**bench.target.parameters, application_name="report") as session:
        session.execute("SELECT FROM readings")
        time.sleep(1.1)
        until(runner, "backup")
        with pytest.raises(PreCheckFailed, match=r"long_transactions.*report"):
            runner.run("pre_check")


def test_the_journal_reads_the_same_for_everybody(runner: Runner, connection: Connection) -> None:
    until(runner, "migrate")
    for stage in ("backfill", "cutover", "validate", "soak", "contract"):
        runner.run(stage)
        theirs = Journal(connection, runner.request.run_id)
        with runner.looking() as session:
            assert runner.pair is not None
            ours = Journal(session, theirs.run_id, known=runner.pair.known(theirs.run_id))
            assert (ours.run, ours.stages(), ours.steps(), ours.plan(), ours.events()) == (
                theirs.run,
                theirs.stages(),
                theirs.steps(),
                theirs.plan(),
                theirs.events(),
            )


def test_what_could_be_taken_back_is_not_kept(connection: Connection) -> None:
    known = Known(connection)
    assert known.get("run", lambda: 1) == 1
    assert known.get("run", lambda: 2) == 1
    with connection.transaction(force_rollback=True):
        known.amend("run", lambda run: run + 1)
        assert known.get("run", lambda: 3) == 3
        assert known.get("stages", lambda: "begun") == "begun"
    assert known.get("run", lambda: 4) == 4
    known.amend("run", lambda run: run + 1)
    assert known.get("run", lambda: 6) == 5
    assert known.get("stages", lambda: "none") == "none"
    with connection.pipeline(), connection.transaction(force_rollback=True):
        connection.execute("SELECT 1").fetchone()
        assert known.get("steps", lambda: 1) == 1
    assert known.get("steps", lambda: 2) == 2
    assert Known().get("run", lambda: 7) == 7


def test_a_lost_session_takes_the_fence_anew(runner: Runner, connection: Connection) -> None:
    until(runner, "backup")
    assert runner.pair is not None
    lost = runner.pair.work
    connection.execute("SELECT pg_terminate_backend(%s)", [lost.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        lost.execute("SELECT 1")
    runner.run("pre_check")
    assert runner.pair.work is not lost
    assert not is_free(connection, runner.request.run_id)
