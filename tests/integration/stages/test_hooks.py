"""Hooks and health around whole runs: in order, once, audited, and with the way back when they fail."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schema_change.core.errors import ChangeRolledBack, ExecutionError, RollbackFailed, ValidationFailed
from schema_change.core.stages.restore import restore_run
from schema_change.core.stages.runner import Runner
from tests.bench import Bench, Run
from tests.web import Web

#: Nothing here differs between versions of PostgreSQL.
pytestmark = pytest.mark.parametrize("server", [18], indirect=True)

Rows = Callable[[str], list[Any]]

FAST: dict[str, Any] = {"skip_backup": True, "skip_rehearsal": True}
PLAIN: dict[str, Any] = {"add_column": {"table": "readings", "column": {"name": "remark", "type": "text"}}}
FORWARD = ("before_migrate", "after_migrate", "before_cutover", "after_cutover")
BACK = ("before_rollback", "after_rollback")


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """A file into which the hooks write."""
    return tmp_path / "diary"


def writes(diary: Path, text: str, then: str = "true") -> dict[str, Any]:
    """Return a hook that writes a line, and then does something."""
    return {"run": ["sh", "-c", f'echo "{text}" >> "$0" && {then}', str(diary)]}


def lines(diary: Path) -> list[str]:
    return diary.read_text().split("\n")[:-1] if diary.exists() else []


def start(bench: Bench, around: dict[str, Any], **options: Any) -> Run:
    return bench.run(bench.request(bench.write("001_around", {"operations": [PLAIN], **around}), **{**FAST, **options}))


def has_column(rows: Rows) -> bool:
    return bool(rows("SELECT 1 FROM pg_attribute WHERE attrelid = 'readings'::regclass AND attname = 'remark'"))


def test_hooks_run_in_order_and_are_audited_without_secrets(
    bench: Bench, rows: Rows, diary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "hunter2-hunter2")
    monkeypatch.setenv("NOT_ASKED_FOR", "x")
    hooks = {point: [writes(diary, point)] for point in FORWARD}
    said = "$DEPLOY_TOKEN $NOT_ASKED_FOR $SCHEMA_CHANGE_ID $SCHEMA_CHANGE_HOOK"
    deploy = writes(diary, said, then=f"echo using {said} && env")
    hooks["after_cutover"].append({**deploy, "env": ["DEPLOY_TOKEN"]})
    run = start(bench, {"hooks": hooks})
    assert run.error is None
    assert lines(diary) == [*FORWARD, "hunter2-hunter2  001_around after_cutover[1]"]
    audit = rows(
        "SELECT operation_type, object_name, description FROM schema_change.schema_audit WHERE object_type = 'hook'"
    )
    assert [(kind, name) for kind, name, _ in audit[:2]] == [
        ("hook_started", "before_migrate[0]"),
        ("hook", "before_migrate[0]"),
    ]
    last = audit[-1][2]
    assert "sh -c" in last
    assert "exit code 0" in last
    assert "using *** " in last
    everything = rows(
        "SELECT to_jsonb(r)::text FROM schema_change.run r UNION ALL SELECT to_jsonb(e)::text"
        " FROM schema_change.event e UNION ALL SELECT to_jsonb(s)::text FROM schema_change.stage s"
    )
    assert not [row for (row,) in everything if "hunter2" in row]


def test_a_smoke_test_that_fails_rolls_the_database_back(bench: Bench, rows: Rows, diary: Path, web: Web) -> None:
    web.answers["/smoke"] = (500, "column remark is not in the model")
    smoke = {"http": {"url": f"{web.url}/smoke"}}
    before = bench.state()
    hooks = {"after_cutover": [smoke], **{point: [writes(diary, point)] for point in BACK}}
    run = start(bench, {"hooks": hooks})
    assert isinstance(run.error, ExecutionError)
    assert "after_cutover[0] failed" in run.error.message
    assert "column remark is not in the model" in run.error.message
    assert isinstance(run.outcome_error, ChangeRolledBack)
    assert lines(diary) == list(BACK)
    assert bench.state() == before


def test_what_was_stopped_before_migrate_failed_is_started_again(bench: Bench, rows: Rows, diary: Path) -> None:
    """Nothing was changed yet, but the service stands still: the way back must be gone all the same."""
    hooks = {
        "before_migrate": [writes(diary, "stop"), writes(diary, "drain", then="exit 4")],
        "after_rollback": [writes(diary, "start")],
    }
    run = start(bench, {"hooks": hooks})
    assert "before_migrate[1] failed" in str(run.error)
    assert "exit code 4" in str(run.error)
    assert lines(diary) == ["stop", "drain", "start"]
    assert not has_column(rows)
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]


def test_a_retried_stage_repeats_no_hook_that_succeeded(bench: Bench, rows: Rows, diary: Path) -> None:
    again = writes(diary, "drain", then=f"test $(grep -c drain {diary}) = 2")
    hooks = {"before_migrate": [writes(diary, "stop"), again], "after_migrate": [writes(diary, "done")]}
    request = bench.request(bench.write("001_around", {"operations": [PLAIN], "hooks": hooks}), **FAST)
    run = bench.run(request, stop_before="migrate")
    assert not run.try_stage("migrate")
    assert run.try_stage("migrate"), run.error
    assert run.try_stage("migrate"), run.error
    assert lines(diary) == ["stop", "drain", "drain", "done"]
    assert has_column(rows)


def test_a_hook_of_the_way_back_that_fails_does_not_stop_it_but_is_loud(bench: Bench, rows: Rows, diary: Path) -> None:
    hooks = {
        "after_migrate": [writes(diary, "deploy", then="false")],
        "before_rollback": [writes(diary, "stop", then="exit 9"), writes(diary, "page")],
        "after_rollback": [writes(diary, "start")],
    }
    before = bench.state()
    start(bench, {"hooks": hooks})
    assert lines(diary) == ["deploy", "stop", "page", "start"]
    assert bench.state() == before
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert rows("SELECT count(*) FROM schema_change.owner") == [(0,)]
    [(status, result)] = rows("SELECT status, result FROM schema_change.stage WHERE stage = 'verify_rollback'")
    assert status == "failed"
    assert "the database is as it was, but before_rollback[0]" in result["error"]
    assert "exit code 9" in result["error"]


def test_a_hook_that_takes_too_long_is_ended(bench: Bench, diary: Path) -> None:
    hooks = {"before_migrate": [{"run": ["sleep", "600"], "timeout_s": 0.1}]}
    run = start(bench, {"hooks": hooks})
    assert "sleep 600: ended after 0.1 s" in str(run.error)


def test_a_service_that_is_not_well_after_the_change_rolls_it_back(bench: Bench, rows: Rows, web: Web) -> None:
    """It was well before, is not after the change, and is well again after the rollback."""
    web.answers["/health"] = [(200, {"ok": True}), (503, "no column remark"), (200, {"ok": True})]
    before = bench.state()
    health = [{"url": f"{web.url}/health", "json_schema": {"required": ["ok"]}, "within_s": 0}]
    run = start(bench, {"health": health})
    assert isinstance(run.error, ValidationFailed)
    assert f"health GET {web.url}/health: 503" in run.error.message
    assert bench.state() == before
    assert web.paths() == ["/health"] * 3
    assert run.results["verify_rollback"].data["looks"][0]["ok"]
    checks = run.results["pre_check"].data["checks"]
    assert next(c for c in checks if c["name"] == "health")["status"] == "pass"


def test_a_service_that_stays_ill_after_the_rollback_is_loud(bench: Bench, rows: Rows, web: Web) -> None:
    web.answers["/health"] = (503, "down")
    run = start(bench, {"health": [{"url": f"{web.url}/health", "within_s": 0}]})
    assert isinstance(run.error, ValidationFailed)
    checks = run.results["pre_check"].data["checks"]
    assert next(c for c in checks if c["name"] == "health")["status"] == "warn"
    [(error,)] = rows("SELECT result ->> 'error' FROM schema_change.stage WHERE stage = 'verify_rollback'")
    assert "the database is as it was, but health" in error
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert isinstance(run.outcome_error, (ChangeRolledBack, RollbackFailed))


def test_a_healthy_service_and_a_good_metric_let_the_change_land(bench: Bench, web: Web) -> None:
    sample = {"metric": {}, "value": [1, "0.1"]}
    web.answers |= {
        "/health": (200, {"ok": True}),
        "/api/v1/query": (200, {"status": "success", "data": {"resultType": "vector", "result": [sample]}}),
    }
    around = {
        "health": [{"url": f"{web.url}/health"}],
        "prometheus": [{"url": web.url, "query": "rate(api_errors_total[5m])", "max": 0.5}],
    }
    run = start(bench, around)
    assert (run.error, run.outcome_error) == (None, None)
    assert [look["ok"] for look in run.results["validate"].data["looks"]] == [True, True]
    assert "2 checks" in run.results["validate"].summary
    report = json.loads((run.request.folder / "report.json").read_text())
    assert [(a["stage"], a["status"]) for a in report["around"]] == [("validate", "passed")] * 2


def test_every_restore_stops_and_starts_the_services(bench: Bench, rows: Rows, diary: Path) -> None:
    hooks = {"before_restore": [writes(diary, "stop")], "after_restore": [writes(diary, "start", then="false")]}
    run = start(bench, {"hooks": hooks}, skip_backup=False)
    assert run.error is None
    rows("DELETE FROM readings WHERE id < 100")
    for _ in range(2):
        result = restore_run(bench.target, run.request.run_id, note=lambda line: None)
    assert lines(diary) == ["stop", "start"] * 2
    assert "after_restore[0] failed" in result.notices[-1]
    assert rows("SELECT count(*) FROM readings") == [(5000,)]


def test_a_killed_task_ends_its_hook_and_goes_on_when_tried_again(bench: Bench, rows: Rows, diary: Path) -> None:
    """The first hook succeeded and is not repeated; the second was cut off and is."""
    slow = writes(diary, "drain", then=f"test $(grep -c drain {diary}) = 2 || sleep 600")
    hooks = {"before_migrate": [writes(diary, "stop"), slow]}
    request = bench.request(bench.write("001_around", {"operations": [PLAIN], "hooks": hooks}), **FAST)
    run = bench.run(request, stop_before="migrate")
    runner = Runner(request)
    with ThreadPoolExecutor() as pool:
        task = pool.submit(runner.run, "migrate")
        deadline = time.monotonic() + 30
        while "drain" not in lines(diary):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        runner.cancel()
        assert task.exception(timeout=30) is not None
    assert run.try_stage("migrate"), run.error
    assert lines(diary) == ["stop", "drain", "drain"]
    assert has_column(rows)
