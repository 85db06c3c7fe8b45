"""The journal of a run: planned until it begins, told by two views, and the versions it records."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from schema_change.core.database import Connection, Target
from schema_change.core.errors import JournalError
from schema_change.core.journal.journal import Journal, applied_since, list_runs, unfinished_runs
from tests.integration.journal.conftest import PLAN, STEP, NewRun, plan_run

MIGRATIONS = "SELECT version, installed_by, description, success FROM schema_change.schema_migrations ORDER BY 1"


def test_what_was_planned_is_what_is_read(new_run: NewRun) -> None:
    journal = new_run()
    assert journal.plan() == PLAN
    assert journal.run.change_id == "001_first"
    assert journal.run.status == "planned"


def test_a_run_is_planned_again_until_it_has_begun(new_run: NewRun) -> None:
    journal = new_run()
    journal.start_stage("plan")
    second = replace(PLAN, steps=(STEP, replace(STEP, title="another")), fingerprint="g")
    plan_run(journal, second)
    assert journal.plan() == second
    assert journal.stages() == {}
    journal.set_status("stopped", "a check failed")
    plan_run(journal)
    assert (journal.run.status, journal.run.error, journal.run.finished_at) == ("planned", None, None)


@pytest.mark.parametrize("status", ["running", "validated", "contracting", "applied", "rolling_back", "rolled_back"])
def test_a_run_that_has_begun_is_not_planned_again(new_run: NewRun, status: str) -> None:
    journal = new_run()
    journal.set_status(status)
    before = journal.run
    with pytest.raises(JournalError, match="has begun") as caught:
        plan_run(journal, replace(PLAN, steps=(), fingerprint="other"))
    assert caught.value.hint
    assert journal.run == before
    assert journal.plan() == PLAN


def test_a_run_that_was_never_planned_is_named(installed: Connection, new_run: NewRun) -> None:
    unknown = Journal(installed, new_run().run_id.__class__(int=1))
    with pytest.raises(JournalError, match="00000001 is not in the journal"):
        _ = unknown.run


def test_a_change_is_applied_once(new_run: NewRun) -> None:
    new_run().set_status("applied")
    again = new_run()
    with pytest.raises(JournalError, match="another run of this change"):
        again.set_status("applied")


def test_runs_appear_as_migrations_when_they_have_ended(installed: Connection, new_run: NewRun) -> None:
    for number, status in enumerate(["applied", "rolled_back", "stopped", "running", "restored"], 1):
        new_run(f"00{number}", status).set_status(status)
    assert installed.execute(MIGRATIONS).fetchall() == [
        ("001_applied", "tester", "a test", True),
        ("002_rolled_back", "tester", "a test", False),
        ("005_restored", "tester", "a test", False),
    ]
    times = "SELECT bool_and(execution_time >= 0 AND installed_on <= now()) FROM schema_change.schema_migrations"
    assert installed.execute(times).fetchall() == [(True,)]
    assert len(unfinished_runs(installed)) == 1
    assert [run.change_version for run in list_runs(installed, 2)] == ["005", "004"]


def test_runs_that_landed_after_a_moment_are_found(installed: Connection, new_run: NewRun) -> None:
    new_run("001").set_status("applied")
    ((moment,),) = installed.execute("SELECT clock_timestamp()").fetchall()
    later = new_run("002")
    later.set_status("applied")
    new_run("003").set_status("rolled_back")
    assert applied_since(installed, moment) == [later.run_id]


def test_the_audit_trail_tells_who_did_what_where(installed: Connection, new_run: NewRun) -> None:
    journal = new_run()
    journal.event("step_done", "added", seq=1, tables=STEP.tables, statement="ALTER TABLE …")
    Journal(installed, journal.run_id).event("planned")
    rows = installed.execute("SELECT * FROM schema_change.schema_audit ORDER BY performed_at").fetchall()
    assert rows[0][:5] == ("001_first", "step_done", "table", "public.readings", "added")
    assert rows[0][6:] == ("tester", "ALTER TABLE …", journal.run_id)
    assert rows[1][6] == installed.info.user


def test_an_entry_commits_with_the_work_it_describes(target: Target, installed: Connection, new_run: NewRun) -> None:
    journal = new_run()

    def work() -> None:
        with installed.transaction():
            journal.set_step(1, "done")
            journal.event("step_done")
            installed.execute("SELECT 1/0")

    with target.connect("look") as other:
        with pytest.raises(psycopg.errors.DivisionByZero):
            work()
        assert journal.on(other).steps()[0].status == "planned"
        assert journal.on(other).events() == []


def test_the_current_version_is_the_latest_row(installed: Connection, new_run: NewRun) -> None:
    first, second = new_run("001"), new_run("002")
    first.record_version("readings", "v1.0.0", {"id": "integer"}, "begin")
    second.record_version("readings", "v0.9.0", None, "a step back")
    current = "SELECT version FROM schema_change.schema_registry WHERE table_name = 'readings' ORDER BY id DESC LIMIT 1"
    assert installed.execute(current).fetchall() == [("v0.9.0",)]
    second.forget_versions()
    assert installed.execute(current).fetchall() == [("v1.0.0",)]
