"""Soak, window and blackouts: stages that wait, go on, refuse, and roll back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.changes.spec import Window
from schema_change.core.errors import ChangeRolledBack, ExecutionError, JournalError, ValidationFailed
from schema_change.core.stages.request import Request
from schema_change.core.stages.runner import Runner
from tests.bench import Bench, Run
from tests.web import Web

#: Nothing here differs between versions of PostgreSQL.
pytestmark = pytest.mark.parametrize("server", [18], indirect=True)

Rows = Callable[[str], list[Any]]

FAST: dict[str, Any] = {"skip_backup": True, "skip_rehearsal": True}
FILL: dict[str, Any] = {
    "add_column": {
        "table": "readings",
        "column": {"name": "fahrenheit", "type": "numeric(6,2)"},
        "fill": "readings.celsius * 9 / 5 + 32",
    }
}
HOUR = dt.timedelta(hours=1)
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'readings'::regclass AND NOT tgisinternal"


def prepared(bench: Bench, around: dict[str, Any], *, to: str = "soak") -> Run:
    """Return a run that has come to a stage."""
    change = bench.write("001_around", {"operations": [FILL], **around})
    run = bench.run(bench.request(change, **FAST), stop_before=to)
    assert run.error is None, run.error
    return run


def began_earlier(rows: Rows, hours: int) -> None:
    rows(f"UPDATE schema_change.stage SET started_at = started_at - interval '{hours} hours' WHERE stage = 'soak'")


def test_a_soak_keeps_both_shapes_until_its_time_is_over(bench: Bench, rows: Rows, web: Web) -> None:
    web.answers["/health"] = (200, {"ok": True})
    run = prepared(bench, {"soak": {"hours": 48}, "health": [{"url": f"{web.url}/health"}]})
    result = Runner(run.request).run("soak")
    assert result.status == "waiting"
    assert result.until is not None
    assert 50 < (result.until - dt.datetime.now(dt.UTC)).total_seconds() <= 60
    assert rows(TRIGGERS) == [(2,)]  # rows written meanwhile, inserted or updated, are still filled
    rows("INSERT INTO readings (station, celsius) VALUES ('new', 100)")
    assert rows("SELECT fahrenheit FROM readings WHERE station = 'new'") == [(212,)]
    assert not run.try_stage("contract")
    assert isinstance(run.error, JournalError)
    assert "not soaked yet" in run.error.message
    began_earlier(rows, 47)
    assert Runner(run.request).run("soak").status == "waiting"
    assert rows("SELECT tries FROM schema_change.stage WHERE stage = 'soak'") == [(1,)]
    began_earlier(rows, 1)
    done = Runner(run.request).run("soak")
    assert (done.status, done.data["count"]) == ("done", 3)
    assert run.try_stage("contract"), run.error
    assert rows("SELECT status FROM schema_change.run") == [("applied",)]
    assert rows(TRIGGERS) == [(0,)]


def test_a_soak_that_turns_bad_rolls_back_and_loses_no_write(bench: Bench, rows: Rows, web: Web) -> None:
    web.answers["/health"] = (200, {"ok": True})
    before = bench.state()["fingerprint"]
    around = {"soak": {"hours": 1, "failures": 2}, "health": [{"url": f"{web.url}/health", "within_s": 0}]}
    run = prepared(bench, around)
    for answer, status in (((500, "a"), "waiting"), ((200, {}), "waiting"), ((500, "b"), "waiting")):
        web.answers["/health"] = answer
        assert Runner(run.request).run("soak").status == status
    rows("INSERT INTO readings (station, celsius) VALUES ('during the soak', 1)")
    assert not run.try_stage("soak")
    assert isinstance(run.error, ValidationFailed)
    assert "turned bad" in run.error.message
    web.answers["/health"] = (200, {"ok": True})
    run.finish()
    assert isinstance(run.outcome_error, ChangeRolledBack)
    assert "soak failed: turned bad" in run.outcome_error.message
    assert bench.state()["fingerprint"] == before
    assert rows("SELECT count(*) FROM readings WHERE station = 'during the soak'") == [(1,)]
    [first, *_] = rows("SELECT message FROM schema_change.event WHERE kind = 'soak' ORDER BY id")
    assert first[0].startswith("bad look 1 of 2: health GET")


def test_a_soak_ends_with_a_good_look_only(bench: Bench, rows: Rows, web: Web) -> None:
    around = {"soak": {"hours": 1}, "health": [{"url": f"{web.url}/health", "within_s": 0}]}
    change = bench.write("001_around", {"operations": [FILL], **around})
    web.answers["/health"] = [(200, {}), (200, {}), (200, {}), (500, "a moment"), (200, {})]
    run = bench.run(bench.request(change, **FAST), stop_before="soak")
    assert Runner(run.request).run("soak").status == "waiting"
    began_earlier(rows, 2)
    assert Runner(run.request).run("soak").status == "waiting"
    assert Runner(run.request).run("soak").status == "done"


def test_a_soak_notices_that_somebody_took_the_change_back(bench: Bench, rows: Rows) -> None:
    run = prepared(bench, {"soak": {"hours": 1}})
    rows("ALTER TABLE readings DROP COLUMN fahrenheit CASCADE")
    assert not run.try_stage("soak")
    assert isinstance(run.error, ValidationFailed)


def test_a_soak_goes_on_though_the_file_was_edited(bench: Bench) -> None:
    """The journal has what was planned; a corrected window must not roll the change back."""
    run = prepared(bench, {"soak": {"hours": 48}})
    bench.write("001_around", {"operations": [FILL], "soak": {"hours": 1}, "contacts": {"owner": "ann"}})
    again = Runner(bench.request("001_around", run_id=run.request.run_id, **FAST)).run("soak")
    assert again.status == "waiting"
    assert "47 h 59 min left" in again.summary or "48 h 00 min left" in again.summary


def test_a_look_that_could_not_be_had_does_not_begin_the_soak_anew(bench: Bench, rows: Rows) -> None:
    run = prepared(bench, {"soak": {"hours": 48}})
    assert Runner(run.request).run("soak").status == "waiting"
    rows("UPDATE schema_change.stage SET finished_at = finished_at - interval '40 hours' WHERE stage = 'validate'")
    rows("UPDATE schema_change.event SET at = at - interval '40 hours' WHERE kind = 'soak_begun'")
    # As a connection that is lost leaves it.
    lost = "status = 'failed', finished_at = now(), result = '{\"error\": \"lost\"}'"
    rows(f"UPDATE schema_change.stage SET {lost} WHERE stage = 'soak'")
    again = Runner(run.request).run("soak")
    assert again.status == "waiting"
    assert "7 h 59 min left" in again.summary or "8 h 00 min left" in again.summary


# -- window and blackouts ---------------------------------------------------------------------------------------------


def away(hours: int) -> dt.datetime:
    """Return the moment so many hours from now; not from the import, which a long run leaves far behind."""
    return dt.datetime.now(dt.UTC) + hours * HOUR


def later(*, outside: str = "wait") -> Window:
    """Return a window that opens in two hours."""
    return Window(away(2).time(), away(3).time(), outside=outside)


def closed(*, outside: str = "wait") -> dict[str, Any]:
    """Return the same as a change file has it."""
    return {"window": {"from": f"{away(2):%H:%M}", "to": f"{away(3):%H:%M}", "outside": outside}}


def moved(request: Request, window: Window) -> Request:
    """Return the request with another window, as if time had passed."""
    assert request.change is not None
    return replace(request, change=replace(request.change, window=window))


def blackout() -> dict[str, Any]:
    return {"blackouts": [{"from": str(away(-1)), "to": str(away(1)), "reason": "sale"}]}


@pytest.mark.parametrize("around", [closed, blackout], ids=["window", "blackout"])
def test_migrate_waits_for_its_time_and_changes_nothing_meanwhile(
    bench: Bench, rows: Rows, around: Callable[[], dict[str, Any]]
) -> None:
    run = prepared(bench, around(), to="migrate")
    checks = {c["name"]: c["status"] for c in run.results["pre_check"].data["checks"]}
    assert checks["window"] == "warn"
    before = bench.state()
    for _ in range(2):
        result = Runner(run.request).run("migrate")
        assert result.status == "waiting"
        assert result.until is not None
        assert dt.timedelta() < result.until - away(0) <= 2 * HOUR
    assert bench.state() == before
    assert rows("SELECT status, tries FROM schema_change.stage WHERE stage = 'migrate'") == [("started", 1)]
    assert rows("SELECT status FROM schema_change.run") == [("planned",)]


def test_a_migrate_that_waited_checks_again(bench: Bench, rows: Rows) -> None:
    run = prepared(bench, {}, to="migrate")
    rows("UPDATE schema_change.stage SET finished_at = finished_at - interval '2 hours' WHERE stage = 'pre_check'")
    rows("ALTER TABLE readings ADD COLUMN sneaked_in text")
    assert not run.try_stage("migrate")
    assert "sneaked_in" in str(run.error)
    run.finish()
    assert rows("SELECT status FROM schema_change.run") == [("stopped",)]


def test_a_change_may_refuse_instead(bench: Bench, rows: Rows) -> None:
    change = bench.write("001_around", {"operations": [FILL], **closed(outside="refuse")})
    run = bench.run(bench.request(change, **FAST))
    assert "the change may not start now: outside" in str(run.error)
    assert rows("SELECT status FROM schema_change.run") == [("stopped",)]


@pytest.mark.parametrize("stage", ["cutover", "contract"])
def test_the_later_stages_keep_to_the_window_too(bench: Bench, rows: Rows, stage: str) -> None:
    """The window closes while the run goes on: it waits, or refuses and is rolled back, as the file says."""
    open_now = {"from": f"{away(-1):%H:%M}", "to": f"{away(1):%H:%M}"}
    run = prepared(bench, {"window": open_now}, to=stage)
    assert Runner(moved(run.request, later())).run(stage).status == "waiting"
    refused = Run(moved(run.request, later(outside="refuse")))
    assert not refused.try_stage(stage)
    assert isinstance(refused.error, ExecutionError)
    assert f"{stage} may not start now" in refused.error.message
    refused.finish()
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert rows(TRIGGERS) == [(0,)]


def test_a_contract_that_has_begun_goes_on_outside_the_window(bench: Bench, rows: Rows) -> None:
    run = prepared(bench, {}, to="contract")
    rows("UPDATE schema_change.run SET status = 'contracting'")
    again = Run(moved(run.request, later()))
    assert again.try_stage("contract"), again.error
    assert again.results["contract"].status == "done"


def test_a_cutover_that_has_stopped_a_service_goes_on_outside_the_window(bench: Bench, rows: Rows) -> None:
    """A hook, or a step, was through when the task was lost; the next try must not wait for the next night."""
    run = prepared(bench, {"hooks": {"before_cutover": [{"run": ["true"]}, {"run": ["false"]}]}}, to="cutover")
    assert not run.try_stage("cutover")
    again = Run(moved(run.request, later()))
    assert not again.try_stage("cutover")
    assert "before_cutover[1] failed" in str(again.error)
    assert rows("SELECT count(*) FROM schema_change.event WHERE kind = 'hook' AND message LIKE 'true%'") == [(1,)]


def test_a_migrate_that_has_begun_goes_on_outside_the_window(bench: Bench, rows: Rows) -> None:
    run = prepared(bench, {"hooks": {"before_migrate": [{"run": ["false"]}]}}, to="migrate")
    assert not run.try_stage("migrate")
    again = Run(moved(run.request, later(outside="refuse")))
    assert not again.try_stage("migrate")
    assert "before_migrate[0] failed" in str(again.error)
