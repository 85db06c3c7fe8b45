"""Whole runs on the real engine, from plan to outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from schema_change.core.errors import (
    BackupError,
    ChangeRolledBack,
    JournalError,
    OwnershipError,
    PreCheckFailed,
    RollbackFailed,
    ValidationFailed,
)
from schema_change.core.stages.runner import Runner
from tests.bench import FORWARD, Bench, Run

Rows = Callable[[str], list[Any]]

FILL: dict[str, Any] = {
    "add_column": {
        "table": "public.readings",
        "column": {"name": "fahrenheit", "type": "numeric(6,2)", "comment": "°F"},
        "fill": "readings.celsius * 9 / 5 + 32",
    }
}
NEVER_BELOW_32 = """
name: readings
table: public.readings
expectations:
  - {type: expect_column_min_to_be_between, kwargs: {column: fahrenheit, min_value: 32}, meta: {check_id: not_frozen}}
"""


def landed(run: Run) -> bool:
    return run.error is None and run.outcome_error is None


def test_a_filled_column_lands_and_leaves_nothing_behind(bench: Bench, rows: Rows) -> None:
    run = bench.run(bench.request(bench.write("001_fahrenheit", {"operations": [FILL]})))
    assert landed(run), (run.error, run.outcome_error)
    assert rows("SELECT count(*) FROM readings WHERE fahrenheit IS DISTINCT FROM celsius * 9 / 5 + 32") == [(0,)]
    assert rows("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'readings'::regclass") == [(0,)]
    assert rows("SELECT count(*) FROM pg_proc WHERE pronamespace = 'schema_change'::regnamespace") == [(0,)]
    assert rows("SELECT count(*) FROM schema_change.owner") == [(0,)]
    assert rows("SELECT count(*) FROM pg_database WHERE datname LIKE 'schema_change_scratch%'") == [(0,)]
    assert rows("SELECT success, description FROM schema_change.schema_migrations") == [(True, "a test")]
    assert rows("SELECT count(*) FROM schema_change.schema_audit WHERE sql_statement LIKE 'ALTER TABLE%'")[0][0] >= 1
    assert run.skipped() == {"approve", "soak", "rollback", "verify_rollback"}
    assert run.results["backfill"].status == "done"


def test_a_computed_column_with_not_null_and_an_index_lands(bench: Bench, rows: Rows) -> None:
    """Runbook R1, scenario 2."""
    operations = [
        FILL,
        {"set_not_null": {"table": "readings", "column": "celsius"}},
        {"create_index": {"table": "readings", "columns": ["fahrenheit"], "name": "idx_fahrenheit"}},
    ]
    operations[0] = {
        "add_column": {**FILL["add_column"], "column": {**FILL["add_column"]["column"], "nullable": False}}
    }
    run = bench.run(bench.request(bench.write("002_computed", {"operations": operations})))
    assert landed(run), (run.error, run.outcome_error)
    not_null = (
        "SELECT attname::text FROM pg_attribute"
        " WHERE attrelid = 'readings'::regclass AND attnotnull AND attnum > 0 AND NOT attisdropped"
    )
    assert {row[0] for row in rows(not_null)} == {"id", "station", "celsius", "fahrenheit"}
    assert rows("SELECT indisvalid FROM pg_index WHERE indexrelid = 'idx_fahrenheit'::regclass") == [(True,)]
    assert rows("SELECT count(*) FROM pg_constraint WHERE conname LIKE 'schema_change%not_null'") == [(0,)]


def test_a_broken_expectation_rolls_everything_back(bench: Bench, rows: Rows) -> None:
    bench.expectations("frozen.yaml", NEVER_BELOW_32)
    operations = [FILL, {"create_index": {"table": "readings", "columns": ["fahrenheit", "station"]}}]
    change = bench.write("003_frozen", {"operations": operations, "expectations": "frozen.yaml"})
    before = bench.state()
    run = bench.run(bench.request(change))
    assert isinstance(run.error, ValidationFailed)
    assert "not_frozen" in run.error.message
    assert isinstance(run.outcome_error, ChangeRolledBack)
    assert bench.state() == before
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert rows("SELECT status FROM schema_change.data_quality_results WHERE check_id = 'not_frozen'") == [("failed",)]
    assert rows("SELECT count(*) FROM schema_change.owner") == [(0,)]


ROW_COUNT = """
name: same_rows
table: public.readings
expectations:
  - type: expect_table_row_count_to_equal
    kwargs: {value: {$PARAMETER: rows_before_readings}}
"""


def test_rows_are_as_many_as_before(bench: Bench, rows: Rows) -> None:
    bench.expectations("rows.yaml", ROW_COUNT)
    change = bench.write("001_rows", {"operations": [FILL], "expectations": "rows.yaml"})
    run = Run(bench.request(change, skip_rehearsal=True))
    for stage in FORWARD[: FORWARD.index("validate")]:
        assert run.try_stage(stage), run.error
    rows("DELETE FROM readings WHERE id = 1")
    assert not run.try_stage("validate")
    assert "row_count" in str(run.error)


def test_nulls_that_were_filled_are_nulls_again_after_a_rollback(bench: Bench, rows: Rows) -> None:
    bench.expectations("no.yaml", NEVER_BELOW_32.replace("fahrenheit", "celsius").replace("32", "100"))
    change = bench.write(
        "004_notes",
        {
            "operations": [{"set_not_null": {"table": "readings", "column": "note", "nulls": {"fill": "'none'"}}}],
            "expectations": "no.yaml",
        },
    )
    request = bench.request(change, skip_rehearsal=True)
    before = bench.state()
    run = Run(request)
    for stage in ("plan", "backup", "pre_check", "rehearse", "migrate", "backfill"):
        for approval in Runner(request).approvals() if stage != "plan" else ():
            Runner(request).record_approval(role=approval.role, user="somebody else")
        assert run.try_stage(stage), run.error
    assert rows("SELECT count(*) FROM readings WHERE note IS NULL") == [(0,)]
    assert run.try_stage("cutover")
    assert not run.try_stage("validate")
    run.finish()
    assert isinstance(run.outcome_error, ChangeRolledBack)
    assert bench.state() == before


def test_a_fill_is_kept_in_step_until_contract_and_the_applications_own_value_wins(bench: Bench, rows: Rows) -> None:
    request = bench.request(bench.write("005_step", {"operations": [FILL]}))
    run = bench.run(request, stop_before="backfill")
    assert run.error is None
    rows("INSERT INTO readings (station, celsius) VALUES ('new', 100)")
    rows("UPDATE readings SET celsius = 0 WHERE id = 1")
    rows("UPDATE readings SET fahrenheit = -1 WHERE id = 2")
    rows("UPDATE readings SET celsius = 50 WHERE id = 2")
    for stage in ("backfill", "cutover", "validate", "contract"):
        assert run.try_stage(stage), run.error
    assert rows("SELECT fahrenheit FROM readings WHERE station = 'new'") == [(212,)]
    assert rows("SELECT fahrenheit FROM readings WHERE id IN (1, 2) ORDER BY id") == [(32,), (-1,)]


def test_duplicates_stop_a_unique_index_before_anything_is_touched(bench: Bench) -> None:
    operation = {"create_index": {"table": "readings", "columns": ["station"], "unique": True}}
    before = bench.state()
    run = bench.run(bench.request(bench.write("006_unique", {"operations": [operation]})))
    assert isinstance(run.error, PreCheckFailed)
    assert "duplicates" in run.error.message
    assert isinstance(run.outcome_error, ChangeRolledBack)
    assert bench.state() == before


def test_a_dry_run_writes_nothing(bench: Bench, rows: Rows) -> None:
    run = bench.run(bench.request(bench.write("007_dry", {"operations": [FILL]}), dry_run=True))
    assert landed(run)
    assert {name for name, result in run.results.items() if result.status == "done"} == {"plan", "pre_check", "outcome"}
    assert rows("SELECT to_regnamespace('schema_change')") == [(None,)]


def test_a_version_mismatch_stops_the_run(bench: Bench) -> None:
    registry = {"table": "readings", "from": "v1.0.0", "to": "v1.1.0"}
    run = bench.run(bench.request(bench.write("008_version", {"operations": [FILL], "registry": registry})))
    assert isinstance(run.error, PreCheckFailed)
    assert "v1.0.0" in run.error.message


def test_the_version_is_recorded_when_the_change_lands(bench: Bench, rows: Rows) -> None:
    registry = {"table": "readings", "from": None, "to": "v1.0.0"}
    run = bench.run(bench.request(bench.write("009_version", {"operations": [FILL], "registry": registry})))
    assert landed(run), run.error
    assert rows("SELECT table_name, version FROM schema_change.schema_registry") == [("readings", "v1.0.0")]


def test_a_table_changed_after_the_plan_asks_for_approval_again(bench: Bench, rows: Rows) -> None:
    request = bench.request(bench.write("010_drift", {"operations": [FILL]}))
    run = bench.run(request, stop_before="pre_check")
    rows("ALTER TABLE readings ALTER COLUMN note SET DEFAULT 'x'")
    assert not run.try_stage("pre_check")
    assert isinstance(run.error, PreCheckFailed)
    assert "no longer the one" in run.error.message


def test_a_table_that_has_left_the_scope_since_the_plan_is_in_the_difference(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE alarm (id integer PRIMARY KEY, reading integer CONSTRAINT of_reading REFERENCES readings)")
    renaming = {"rename_table": {"table": "readings", "to": "measurements"}}
    run = Run(bench.request(bench.write("010_drift", {"operations": [renaming]}), skip_rehearsal=True))
    assert run.try_stage("plan"), run.error
    run.approve()
    assert run.try_stage("backup"), run.error
    rows("ALTER TABLE alarm DROP CONSTRAINT of_reading")
    assert not run.try_stage("pre_check")
    assert isinstance(run.error, PreCheckFailed)
    assert "no longer the one" in run.error.message
    assert "of_reading" in run.error.message


def test_a_file_edited_under_the_run_is_refused(bench: Bench) -> None:
    change = bench.write("011_edit", {"operations": [FILL]})
    request = bench.request(change)
    run = bench.run(request, stop_before="migrate")
    bench.write("011_edit", {"operations": [FILL], "description": "edited"})
    edited = Run(bench.request(change, run_id=request.run_id))
    assert not edited.try_stage("migrate")
    assert isinstance(edited.error, JournalError)
    run.finish()
    assert isinstance(run.outcome_error, ChangeRolledBack)


def test_two_runs_on_one_table_do_not_meet(bench: Bench, rows: Rows) -> None:
    first = bench.request(bench.write("012_first", {"operations": [FILL]}))
    run = bench.run(first, stop_before="rehearse")
    assert run.error is None
    note = {"add_column": {"table": "readings", "column": {"name": "other", "type": "text"}}}
    second = bench.run(bench.request(bench.write("013_second", {"operations": [note]})))
    assert isinstance(second.error, (OwnershipError, PreCheckFailed))
    assert "012_first" in str(second.error)
    run.finish()
    assert rows("SELECT count(*) FROM schema_change.owner") == [(0,)]


def test_a_high_risk_change_waits_for_every_role_and_nobody_approves_their_own(bench: Bench) -> None:
    operation = {"set_not_null": {"table": "readings", "column": "note", "nulls": {"fill": "'none'"}}}
    request = bench.request(bench.write("014_risky", {"operations": [operation]}))
    run = Run(request)
    assert run.try_stage("plan")
    assert not run.try_stage("approve")
    needed = Runner(request).approvals()
    assert [a.role for a in needed] == ["database_administrator", "lead_developer", "product_owner"]
    with pytest.raises(PreCheckFailed, match="cannot approve"):
        Runner(request).record_approval(role=needed[0].role, user="tester")
    assert not run.try_stage("backup")
    for approval in needed:
        Runner(request).record_approval(role=approval.role, user="somebody else")
    assert run.try_stage("approve"), run.error


RAW: dict[str, Any] = {
    "deploy": "BEGIN;\nCREATE TABLE audit_log (id bigint PRIMARY KEY, action text NOT NULL);\nCOMMIT;",
    "revert": "DROP TABLE IF EXISTS audit_log;",
    "verify": "SELECT id, action FROM audit_log WHERE false;",
}


def test_a_raw_triple_lands(bench: Bench, rows: Rows) -> None:
    run = bench.run(bench.request(bench.write("015_raw", **RAW)))
    assert landed(run), (run.error, run.outcome_error)
    assert rows("SELECT to_regclass('audit_log') IS NOT NULL") == [(True,)]


def test_a_raw_change_whose_verify_fails_is_reverted(bench: Bench) -> None:
    before = bench.state()
    scripts = {**RAW, "verify": "SELECT nothing FROM audit_log;"}
    run = bench.run(bench.request(bench.write("016_raw", **scripts), skip_rehearsal=True))
    assert isinstance(run.error, ValidationFailed)
    assert isinstance(run.outcome_error, ChangeRolledBack)
    assert bench.state() == before


def test_the_rehearsal_finds_a_revert_that_does_not_revert_before_anything_is_touched(bench: Bench) -> None:
    before = bench.state()
    run = bench.run(bench.request(bench.write("017_raw", **{**RAW, "revert": "SELECT 1;"})))
    assert isinstance(run.error, PreCheckFailed)
    assert "rehearsed rollback" in run.error.message
    assert bench.state() == before


def test_a_revert_that_fails_is_a_loud_separate_failure(bench: Bench, rows: Rows) -> None:
    scripts = {**RAW, "verify": "SELECT 1/0;", "revert": "DROP TABLE no_such_table;"}
    run = bench.run(bench.request(bench.write("018_raw", **scripts), skip_rehearsal=True))
    assert isinstance(run.outcome_error, RollbackFailed)
    assert rows("SELECT status FROM schema_change.run") == [("rollback_failed",)]
    assert rows("SELECT count(*) FROM schema_change.owner")[0][0] >= 0


def test_a_backup_that_cannot_be_verified_stops_the_run(bench: Bench, rows: Rows) -> None:
    """The catalog changes between plan and backup, so the copy is not what was planned on."""
    request = bench.request(bench.write("019_backup", {"operations": [FILL]}))
    run = bench.run(request, stop_before="backup")
    rows("ALTER TABLE readings ADD COLUMN sneaked integer")
    assert not run.try_stage("backup")
    assert isinstance(run.error, BackupError)
    run.finish()
    assert isinstance(run.outcome_error, ChangeRolledBack)


def test_a_run_unknown_to_the_journal_says_so(bench: Bench) -> None:
    request = bench.request(bench.write("020_unknown", {"operations": [FILL]}), run_id=uuid4())
    assert Runner(request).run("rollback").status == "skipped"
    with pytest.raises(JournalError, match="never planned"):
        Runner(request).run("outcome")
