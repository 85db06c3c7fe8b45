"""The record of a run, from what the journal holds."""

from __future__ import annotations

from schema_change.core.database import Connection
from schema_change.core.report import run_report
from tests.integration.journal.conftest import NewRun


def test_a_step_in_a_transaction_takes_as_long_as_its_transaction(installed: Connection, new_run: NewRun) -> None:
    journal = new_run()
    with installed.transaction():
        installed.execute("SELECT pg_sleep(0.02)")
        journal.set_step(1, "done")
    journal.set_status("applied")
    report = run_report(journal)
    assert 0 < report["steps"][0]["seconds"] <= report["seconds"]


def test_a_step_outside_one_takes_from_its_start_to_its_end(new_run: NewRun) -> None:
    journal = new_run()
    journal.set_step(1, "started")
    (begun,) = journal.steps()
    journal.set_step(1, "done")
    (done,) = journal.steps()
    assert done.started_at is not None
    assert done.finished_at is not None
    assert begun.started_at == done.started_at < done.finished_at


def test_only_what_was_done_and_checked_is_proof(new_run: NewRun) -> None:
    journal = new_run()
    for stage, status, result in (
        ("cutover", "skipped", {"summary": "no cutover step"}),
        ("validate", "done", {"summary": "0 expectations checked, 0 warnings", "expectations": []}),
    ):
        journal.start_stage(stage)
        journal.finish_stage(stage, status, result)
    journal.set_status("applied")
    assert run_report(journal)["proof"] == []
    journal.finish_stage("cutover", "done", {"summary": "2 steps"})
    journal.finish_stage("validate", "done", {"summary": "1 expectation checked", "expectations": [{}]})
    assert run_report(journal)["proof"] == ["2 steps", "1 expectation checked"]
