"""Stages run again, out of order, on runs that have ended, and against people and objects that get in the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from schema_change.core.database import Target
from schema_change.core.errors import JournalError, PlanError, PreCheckFailed, SchemaChangeError
from schema_change.core.journal.journal import RunRow
from schema_change.core.stages import STAGES
from schema_change.core.stages.reconcile import Reconciled, reconcile
from schema_change.core.stages.request import Request
from schema_change.core.stages.restore import restore_run
from schema_change.core.stages.runner import Runner
from tests.airflow_home import prepare
from tests.bench import Bench, Run

prepare()

from schema_change.operators.approve import APPROVE, ApproveOperator  # noqa: E402

Rows = Callable[[str], list[Any]]

FAST: dict[str, Any] = {"skip_backup": True, "skip_rehearsal": True}
PLAIN: dict[str, Any] = {"add_column": {"table": "readings", "column": {"name": "remark", "type": "text"}}}
FILL: dict[str, Any] = {
    "add_column": {
        "table": "readings",
        "column": {"name": "fahrenheit", "type": "numeric(6,2)"},
        "fill": "readings.celsius * 9 / 5 + 32",
    }
}
NOTES: dict[str, Any] = {"set_not_null": {"table": "readings", "column": "note", "nulls": {"fill": "'none'"}}}
RAW = {"deploy": "CREATE TABLE IF NOT EXISTS audit_log (id bigint);", "revert": "DROP TABLE IF EXISTS audit_log;"}


def start(bench: Bench, operation: dict[str, Any], **options: Any) -> Run:
    return Run(bench.request(bench.write("001_change", {"operations": [operation]}), **options))


def start_raw(bench: Bench, scripts: dict[str, str], **options: Any) -> Run:
    return Run(bench.request(bench.write("001_change", {}, **scripts), **options))


def forward(run: Run, *, to: str) -> Run:
    """Run the stages up to, and without, the given one."""
    for stage in STAGES[: STAGES.index(to)]:
        if stage not in run.results:
            if stage == "approve":
                run.approve()
            assert run.try_stage(stage), (stage, run.error)
    return run


def status(rows: Rows) -> str:
    return str(rows("SELECT status FROM schema_change.run ORDER BY started_at DESC LIMIT 1")[0][0])


def has_column(rows: Rows, column: str) -> bool:
    columns = rows("SELECT attname::text FROM pg_attribute WHERE attrelid = 'readings'::regclass AND NOT attisdropped")
    return (column,) in columns


def reconcile_all(target: Target, request: Request) -> list[Reconciled]:
    def build(run: RunRow) -> Request:
        return replace(request, change=None, run_id=run.run_id)

    return reconcile(target, is_over=lambda run: True, build=build)


# -- stages on runs that have ended, or are elsewhere ------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["backup", "pre_check", "migrate", "validate"])
def test_a_stage_cleared_after_the_change_landed_changes_nothing(bench: Bench, rows: Rows, stage: str) -> None:
    """A run that is applied stays applied, and owns no table again: nothing would ever release it."""
    run = forward(start(bench, PLAIN, **FAST), to="rollback")
    run.try_stage(stage)
    assert status(rows) == "applied"
    assert rows("SELECT count(*) FROM schema_change.owner") == [(0,)]


def test_a_change_that_landed_is_never_rolled_back(bench: Bench, rows: Rows) -> None:
    """Validate, cleared afterwards, must not open the way back: contract was the point of no return."""
    run = forward(start(bench, PLAIN, **FAST), to="rollback")
    run.try_stage("validate")
    run.again().finish()
    assert has_column(rows, "remark")


def test_a_change_past_the_point_of_no_return_is_not_declared_validated_again(bench: Bench, rows: Rows) -> None:
    """A run that is contracting stays so, or its half-removed shape would be rolled back."""
    run = forward(start(bench, FILL, **FAST), to="contract")
    rows("UPDATE schema_change.run SET status = 'contracting'")
    run.try_stage("validate")
    assert status(rows) == "contracting"


def test_a_run_that_was_rolled_back_does_not_land_afterwards(bench: Bench, rows: Rows) -> None:
    """Validate and contract, cleared after a rollback, must not record the change as applied: it is not there."""
    run = forward(start(bench, PLAIN, **FAST), to="validate")
    run.finish()
    assert status(rows) == "rolled_back"
    again = run.again()
    assert not (again.try_stage("validate") and again.try_stage("contract"))
    assert status(rows) == "rolled_back"


def test_a_run_that_was_stopped_does_not_go_on(bench: Bench, rows: Rows) -> None:
    """It has given its tables back; another run may own them by now. Only plan may begin it anew."""
    run = forward(start(bench, PLAIN, **FAST), to="migrate")
    run.finish()
    assert status(rows) == "stopped"
    assert not run.again().try_stage("migrate")
    assert not has_column(rows, "remark")


def test_a_plan_cleared_in_the_middle_does_not_spoil_the_run(bench: Bench) -> None:
    """It is refused; the stored plan and its entry stay, so that the run can go on as the error's hint says."""
    run = forward(start(bench, FILL, **FAST), to="cutover")
    assert not run.try_stage("plan")
    assert run.try_stage("cutover"), run.error


def test_a_pre_check_cleared_in_the_middle_does_not_spoil_the_run(bench: Bench) -> None:
    """It is refused or passes; its entry of before stays."""
    run = forward(start(bench, FILL, **FAST), to="cutover")
    run.try_stage("pre_check")
    assert run.try_stage("cutover"), run.error


def test_the_backup_from_before_the_change_is_never_replaced(bench: Bench, rows: Rows) -> None:
    """Backup, cleared once migrate has begun, must not dump the changed rows over the only way back."""
    run = forward(start(bench, NOTES, skip_rehearsal=True), to="cutover")

    def backup() -> tuple[Any, ...]:
        recorded = rows("SELECT backup ->> 'taken_at', checksums_before FROM schema_change.run")
        files = (p for p in run.request.backup_folder.rglob("*") if p.is_file())
        return recorded, sorted((str(p), p.read_bytes()) for p in files)

    before = backup()
    run.try_stage("backup")
    assert (backup() == before) is True  # no diff of dumps


def test_options_are_those_of_the_plan(bench: Bench) -> None:
    """What was planned and approved with a backup is not done without one."""
    run = forward(start(bench, PLAIN, skip_rehearsal=True), to="backup")
    other = run.again(skip_backup=True)
    assert not other.try_stage("backup") or other.results["backup"].status == "done"


def test_a_dry_run_does_not_call_a_begun_run_good(bench: Bench) -> None:
    """dry_run switched on in the middle must not skip the rollback and let the run end green."""
    run = forward(start(bench, PLAIN, **FAST), to="validate")
    with pytest.raises(SchemaChangeError):
        Runner(run.again(dry_run=True).request).run("outcome")


# -- approvals ---------------------------------------------------------------------------------------------------------


def test_an_approval_needs_to_know_who_asked(bench: Bench) -> None:
    """Without a requester and without a policy, 'anybody but the requester' cannot be kept: it is refused."""
    run = start(bench, NOTES, **FAST)
    unknown = replace(run.request, requested_by="")
    assert Run(unknown).try_stage("plan")
    with pytest.raises(PreCheckFailed):
        Runner(unknown).record_approval(role="database_administrator", user="tester")


def test_nobody_approves_their_own_run_where_ids_are_not_names(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With FAB, Airflow's user id is a number, while a DAG run knows its user by name: the names are compared."""
    run = start(bench, NOTES, **FAST)
    assert run.try_stage("plan")
    monkeypatch.setattr("schema_change.operators.approve.build_request", lambda change, context: run.request)
    assert run.request.change is not None
    operator = ApproveOperator(task_id="approve", change=run.request.change, role="lead_developer")
    event = {
        "chosen_options": [APPROVE],
        "params_input": {"comment": None},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": "7", "name": "tester"},
    }
    with pytest.raises(Exception, match="asked for this run"):
        operator.execute_complete({}, event)


def test_an_approval_before_the_plan_is_refused_in_our_words(bench: Bench) -> None:
    """A database without a registry gives a SchemaChangeError, not the driver's."""
    with pytest.raises(SchemaChangeError):
        Runner(start(bench, NOTES).request).record_approval(role="lead_developer", user="somebody else")


# -- two runs ----------------------------------------------------------------------------------------------------------


def two_raw_runs(bench: Bench) -> tuple[Run, Run]:
    """Plan the same change, which creates a table, twice."""
    runs = start_raw(bench, RAW, **FAST), start_raw(bench, RAW, **FAST)
    for run in runs:
        assert run.try_stage("plan"), run.error
        run.approve()
    return runs


def test_two_runs_of_one_change_do_not_meet(bench: Bench, rows: Rows) -> None:
    """The second is refused before it changes anything: else its revert drops the table that the first one landed."""
    first, second = two_raw_runs(bench)
    stages = ("approve", "backup", "pre_check", "rehearse")
    for stage in stages:
        assert first.try_stage(stage), first.error
    ready = all(second.try_stage(stage) for stage in stages)
    for stage in ("migrate", "backfill", "cutover", "validate", "contract"):
        assert first.try_stage(stage), first.error
    if ready:
        second.try_stage("migrate")
    second.finish()
    assert rows("SELECT to_regclass('audit_log') IS NOT NULL") == [(True,)]


def test_one_run_of_a_change_is_at_work_at_a_time(bench: Bench, rows: Rows) -> None:
    """Both were planned and checked; the second is told so in our words, and changes nothing."""
    first, second = two_raw_runs(bench)
    for stage in ("approve", "backup", "pre_check", "rehearse"):
        assert first.try_stage(stage), first.error
        assert second.try_stage(stage), second.error
    assert first.try_stage("migrate"), first.error
    assert not second.try_stage("migrate")
    assert isinstance(second.error, JournalError)
    second.finish()
    assert rows("SELECT status FROM schema_change.run ORDER BY status") == [("running",), ("stopped",)]


def test_a_restore_waits_for_the_run_that_owns_the_tables(bench: Bench, target: Target) -> None:
    """Putting an older run's rows back under a run at work would undo half of its backfill: it is refused."""
    first = forward(start(bench, PLAIN, skip_rehearsal=True), to="rollback")
    second = Run(bench.request(bench.write("002_second", {"operations": [FILL]}), **FAST))
    forward(second, to="cutover")
    with pytest.raises(SchemaChangeError):
        restore_run(target, first.request.run_id, note=lambda line: None)


# -- steps cut off, undone, put back -----------------------------------------------------------------------------------


def test_an_interrupted_step_without_a_probe_is_not_believed(bench: Bench, rows: Rows, target: Target) -> None:
    """A DETACH CONCURRENTLY that got no lock has not happened; the next try runs it, and does not call it done."""
    rows("CREATE TABLE parent (id integer) PARTITION BY RANGE (id)")
    rows("CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10)")
    scripts = {"deploy": "ALTER TABLE parent DETACH PARTITION child CONCURRENTLY;", "revert": "SELECT 1;"}
    run = forward(start_raw(bench, scripts, lock_wait_s=1, **FAST), to="migrate")
    with target.connect("blocker") as blocker, blocker.transaction(force_rollback=True):
        blocker.execute("LOCK TABLE public.parent IN SHARE UPDATE EXCLUSIVE MODE")
        assert not run.try_stage("migrate")
    done = run.try_stage("migrate")
    attached = rows("SELECT count(*) FROM pg_inherits WHERE inhparent = 'parent'::regclass") == [(1,)]
    assert done is not attached


def test_an_index_somebody_else_made_survives_the_rollback(bench: Bench, rows: Rows) -> None:
    """A name taken after the pre-checks fails the step, and what the step did not make is not dropped."""
    index = {"create_index": {"table": "readings", "columns": ["station"], "name": "by_station"}}
    run = forward(start(bench, index, **FAST), to="migrate")
    rows("CREATE INDEX by_station ON readings (station)")
    assert not run.try_stage("migrate")
    run.finish()
    assert rows("SELECT to_regclass('by_station') IS NOT NULL") == [(True,)]


NO_WAY_BACK = {
    "deploy": "CREATE TABLE left_over (id integer); ALTER TABLE readings ADD COLUMN z integer;",
    "revert": "DROP TABLE no_such_table;",
    "verify": "SELECT 1 / 0;",
}


def test_a_backup_is_put_back_once(bench: Bench, rows: Rows) -> None:
    """A rollback that runs again after it restored must not restore again: it would lose the writes made since."""
    run = forward(start_raw(bench, NO_WAY_BACK, skip_rehearsal=True, on_revert_failure="restore"), to="validate")
    assert not run.try_stage("validate")
    assert run.try_stage("rollback"), run.error
    rows("INSERT INTO readings (station) VALUES ('later')")
    run.try_stage("rollback")
    assert rows("SELECT count(*) FROM readings WHERE station = 'later'") == [(1,)]


def test_reconcile_does_not_put_a_backup_back_again_and_again(bench: Bench, rows: Rows, target: Target) -> None:
    """A rollback that failed waits for a person; each hour's reconcile must not throw the writes since away."""
    run = forward(start_raw(bench, NO_WAY_BACK, skip_rehearsal=True, on_revert_failure="restore"), to="validate")
    assert not run.try_stage("validate")
    run.finish()
    assert status(rows) == "rollback_failed"
    rows("INSERT INTO readings (station) VALUES ('later')")
    reconcile_all(target, run.request)
    assert rows("SELECT count(*) FROM readings WHERE station = 'later'") == [(1,)]


def test_a_rollback_does_not_need_the_scratch_server(bench: Bench, rows: Rows, target: Target) -> None:
    """The copy there is rubbish; that it cannot be dropped now is noted, and the target is rolled back."""
    run = forward(start(bench, PLAIN, skip_rehearsal=True), to="validate")
    away = Target("scratch", {**target.parameters, "port": 1})
    Run(replace(run.request, scratch=away)).finish()
    assert not has_column(rows, "remark")


def test_a_server_that_cannot_be_reached_is_tried_again(bench: Bench, target: Target) -> None:
    """A restart of PostgreSQL must not fail the stage, and then the rollback, for good."""
    run = forward(start(bench, PLAIN, **FAST), to="migrate")
    away = replace(run.request, target=Target(target.conn_id, {**target.parameters, "port": 1}))
    with pytest.raises(SchemaChangeError) as caught:
        Runner(away).run("migrate")
    assert caught.value.retryable


def test_a_null_the_application_wrote_is_null_after_the_rollback(bench: Bench, rows: Rows) -> None:
    """What the trigger put into rows written meanwhile is remembered like what the batches put into old rows."""
    run = forward(start(bench, NOTES, **FAST), to="cutover")
    rows("INSERT INTO readings (station) VALUES ('mine')")
    run.finish()
    assert rows("SELECT note FROM readings WHERE station = 'mine'") == [(None,)]


# -- the trigger, names, raw SQL ---------------------------------------------------------------------------------------


def test_triggers_of_two_tables_do_not_share_a_function(bench: Bench, rows: Rows) -> None:
    """order.item_price and order_item.price are two columns; joined by '_' their names are one."""
    rows('CREATE TABLE "order" (id integer PRIMARY KEY, a integer)')
    rows("CREATE TABLE order_item (id integer PRIMARY KEY, b integer)")
    price = {"name": "item_price", "type": "integer"}
    operations = [
        {"add_column": {"table": '"order"', "column": price, "fill": '"order".a + 1'}},
        {"add_column": {"table": "order_item", "column": {**price, "name": "price"}, "fill": "order_item.b * 2"}},
    ]
    run = Run(bench.request(bench.write("001_change", {"operations": operations}), **FAST))
    forward(run, to="backfill")
    rows('INSERT INTO "order" VALUES (1, 1)')
    rows("INSERT INTO order_item VALUES (1, 5)")
    assert rows('SELECT item_price FROM "order"') == [(2,)]
    assert rows("SELECT price FROM order_item") == [(10,)]


def test_a_fill_from_a_generated_column_is_right_in_new_rows_too(bench: Bench, rows: Rows) -> None:
    """A BEFORE trigger sees NULL in generated columns: such a fill is refused, or filled otherwise, never NULL."""
    rows("CREATE TABLE g (id integer PRIMARY KEY, a integer, twice integer GENERATED ALWAYS AS (a * 2) STORED)")
    rows("INSERT INTO g VALUES (1, 1), (2, 2)")
    operation = {"add_column": {"table": "g", "column": {"name": "f", "type": "integer"}, "fill": "g.twice + 1"}}
    run = start(bench, operation, **FAST)
    if not run.try_stage("plan"):
        assert isinstance(run.error, PlanError)
        return
    forward(run, to="cutover")
    rows("INSERT INTO g VALUES (3, 3)")
    rows("UPDATE g SET a = 10 WHERE id = 1")
    assert rows("SELECT id, f FROM g ORDER BY id") == [(1, 21), (2, 5), (3, 7)]


def test_a_function_in_public_does_not_take_a_built_in_ones_place(bench: Bench, rows: Rows) -> None:
    """upper(varchar) in public fits better than PostgreSQL's upper(text), and would run with the rights of the run.

    Everybody may create in public where the database comes from before 15. Refused, or not called.
    """
    rows("ALTER TABLE readings ALTER COLUMN station TYPE varchar(20)")
    rows("CREATE TABLE caught (who text)")
    rows(
        "CREATE FUNCTION public.upper(varchar) RETURNS text LANGUAGE sql"
        " AS 'INSERT INTO public.caught VALUES (current_user) RETURNING who'"
    )
    column = {"name": "code", "type": "text"}
    run = start(
        bench, {"add_column": {"table": "readings", "column": column, "fill": "upper(readings.station)"}}, **FAST
    )
    if run.try_stage("plan"):
        forward(run, to="cutover")
    assert rows("SELECT count(*) FROM caught") == [(0,)]


def test_a_script_may_work_under_another_role(bench: Bench, rows: Rows) -> None:
    """SET ROLE is the script's; the journal's entry in the same transaction is written as ourselves."""
    rows("CREATE ROLE hardening_owner")
    try:
        rows("GRANT USAGE, CREATE ON SCHEMA public TO hardening_owner")
        scripts = {
            "deploy": "SET ROLE hardening_owner;\nCREATE TABLE owned (id integer);",
            "revert": "DROP TABLE owned;",
        }
        run = forward(start_raw(bench, scripts, **FAST), to="migrate")
        assert run.try_stage("migrate"), run.error
        assert rows("SELECT tableowner::text FROM pg_tables WHERE tablename = 'owned'") == [("hardening_owner",)]
    finally:
        rows("DROP OWNED BY hardening_owner")
        rows("DROP ROLE hardening_owner")


def test_a_step_outside_a_transaction_gives_the_session_back_as_it_was(bench: Bench, rows: Rows) -> None:
    """The search_path behind a raw CREATE INDEX CONCURRENTLY is that of the stage: the next step's type is found."""
    rows("CREATE TYPE mood AS ENUM ('good', 'bad')")
    index = {
        "deploy": "CREATE INDEX CONCURRENTLY by_station ON readings (station);",
        "revert": "DROP INDEX CONCURRENTLY IF EXISTS by_station;",
    }
    column = {"add_column": {"table": "readings", "column": {"name": "mood", "type": "mood"}}}
    request = bench.request(bench.write("001_change", {"operations": [{"sql": index}, column]}), **FAST)
    run = forward(Run(request), to="migrate")
    assert run.try_stage("migrate"), run.error


def test_a_raw_backfill_of_a_name_that_is_none_is_refused_in_our_words(bench: Bench) -> None:
    """When the file is read, or by a PlanError; never by a bare ValueError."""
    backfill = {"table": "a.b.c", "column": "x", "expression": "1"}
    operation = {"sql": {"deploy": "SELECT 1;", "revert": "SELECT 1;", "backfill": backfill}}
    change = bench.write("001_change", {"operations": [operation]})
    try:
        request = bench.request(change, **FAST)
    except AssertionError:
        return  # the bench asserts that the files are right
    assert not Run(request).try_stage("plan")


@pytest.mark.parametrize(
    "constraint",
    [
        pytest.param("readings_note_not_null CHECK (note <> 'q')", id="the name is taken"),
        pytest.param("mine NOT NULL note NOT VALID", id="it is there but not valid"),
    ],
)
def test_not_null_on_18_copes_with_what_is_there(bench: Bench, connection: Any, rows: Rows, constraint: str) -> None:
    """Planned around or refused by plan, not found at cutover, after the backfill."""
    if connection.info.server_version < 180000:
        pytest.skip("before 18 a CHECK constraint stands in")
    rows("UPDATE readings SET note = 'n'")
    rows(f"ALTER TABLE readings ADD CONSTRAINT {constraint}")
    run = start(bench, {"set_not_null": {"table": "readings", "column": "note"}}, **FAST)
    if run.try_stage("plan"):
        forward(run, to="validate")
    else:
        assert isinstance(run.error, PlanError)


# -- what is written down ----------------------------------------------------------------------------------------------


def test_terminated_sessions_are_in_the_audit_trail(bench: Bench, rows: Rows, target: Target) -> None:
    """The option says 'audited': the log of a task is not the audit."""
    run = forward(start(bench, PLAIN, terminate_blockers=True, lock_wait_s=3, **FAST), to="migrate")
    blocker = target.connect("tests")
    blocker.execute("SET application_name = 'application'")
    blocker.execute("BEGIN")
    blocker.execute("LOCK TABLE public.readings IN ACCESS SHARE MODE")
    assert run.try_stage("migrate"), run.error
    blocker.close()
    assert rows("SELECT count(*) FROM schema_change.event WHERE kind || message LIKE '%terminated%'")[0][0] >= 1


def test_the_sweep_at_cutover_adds_to_the_rows_filled(bench: Bench, rows: Rows) -> None:
    """The journal's count is of the whole backfill, not of the last sweep alone."""
    run = forward(start(bench, {"add_column": {**FILL["add_column"], "new_rows": "sweep"}}, **FAST), to="cutover")
    rows("INSERT INTO readings (station, celsius) VALUES ('later', 1)")
    assert run.try_stage("cutover"), run.error
    assert rows("SELECT rows FROM schema_change.step WHERE phase = 'backfill'") == [(5001,)]


def test_a_sweep_that_was_interrupted_goes_on(bench: Bench, rows: Rows) -> None:
    run = forward(start(bench, {"add_column": {**FILL["add_column"], "new_rows": "sweep"}}, **FAST), to="cutover")
    rows("INSERT INTO readings (station, celsius) VALUES ('later', 1)")
    rows("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$")
    rows("CREATE TRIGGER refuse BEFORE UPDATE ON readings FOR EACH ROW EXECUTE FUNCTION refuse()")
    assert not run.try_stage("cutover")
    begun = "SELECT min(started_at) FROM schema_change.backfill"
    assert rows("SELECT status FROM schema_change.step WHERE phase = 'backfill'") == [("started",)]
    checkpoint = rows(begun)
    rows("DROP TRIGGER refuse ON readings")
    assert run.try_stage("cutover"), run.error
    assert rows(begun) == checkpoint
    assert rows("SELECT rows, status FROM schema_change.step WHERE phase = 'backfill'") == [(5001, "done")]
