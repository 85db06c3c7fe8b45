"""A run's backup is put back: by a person afterwards, or by the run itself when an undo fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql

from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError, ChangeRolledBack, JournalError, RollbackFailed
from schema_change.core.names import Table
from schema_change.core.stages.restore import restore_run
from tests.bench import READINGS, Bench, Run

Rows = Callable[[str], list[Any]]
FIRST: dict[str, Any] = {
    "operations": [{"set_not_null": {"table": "readings", "column": "note", "nulls": {"fill": "'none'"}}}],
    "registry": {"table": "readings", "from": None, "to": "v1.0.0"},
}
SECOND: dict[str, Any] = {
    "operations": [{"add_column": {"table": "readings", "column": {"name": "humidity", "type": "integer"}}}],
    "registry": {"table": "readings", "from": "v1.0.0", "to": "v1.1.0"},
}
#: What is ours alone is tried on one version.
ON_ONE_VERSION = pytest.mark.parametrize("server", [18], indirect=True, ids=["pg18"])
#: The revert always fails, and deploy.sql destroys rows.
NO_WAY_BACK = {
    "deploy": "CREATE TABLE extra (id integer);\nDELETE FROM readings WHERE id <= 100;",
    "revert": "DROP TABLE IF EXISTS extra;\nSELECT 1/0;",
}


@pytest.fixture(autouse=True)
def drop_kept(target: Target) -> Iterator[None]:
    """Drop the databases that a whole restore keeps."""
    yield
    with target.with_database("postgres").connect("test") as admin:
        names = admin.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [f"{target.database}_"]
        ).fetchall()
        for (name,) in names:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def ask(target: Target, statement: str) -> list[Any]:
    """Query in a session of its own: a whole restore ends the test's other one."""
    with target.connect("look") as session:
        session.execute("SET search_path = public")
        return session.execute(statement.encode()).fetchall()


def land(bench: Bench, change_id: str, document: dict[str, Any], **options: Any) -> Run:
    """Let a change land, approved by everybody it needs."""
    bench.write(change_id, document)
    request = bench.request(change_id, skip_rehearsal=True, **options)
    run = Run(request)
    assert run.try_stage("plan"), run.error
    run.approve()
    for stage in ("backup", "pre_check", "rehearse", "migrate", "backfill", "cutover", "validate", "contract"):
        assert run.try_stage(stage), run.error
    return run


def test_the_tables_of_a_landed_run_get_their_rows_back(bench: Bench, rows: Rows) -> None:
    before = rows("SELECT id, station, celsius, note FROM readings ORDER BY id")
    run = land(bench, "001_notes", {**FIRST, "operations": SECOND["operations"]})
    rows("UPDATE readings SET celsius = 0, humidity = 5 WHERE id <= 10")
    rows("INSERT INTO readings (station, celsius) VALUES ('late', 1)")
    notes: list[str] = []
    result = restore_run(bench.target, run.request.run_id, note=notes.append, actor="a person")
    assert rows("SELECT id, station, celsius, note FROM readings ORDER BY id") == before
    # The shape stays: this restores rows. What the backup does not know gets its default.
    assert rows("SELECT count(*), count(humidity) FROM readings") == [(5000, 0)]
    assert [(t.table, t.rows_before, t.rows, t.changed) for t in result.tables] == [(READINGS, 5001, 5000, True)]
    assert "public.readings (5001 → 5000 rows) are lost" in result.lost_writes()
    assert result.taken_at < result.restored_at
    assert notes[-1] == result.lost_writes()
    audit = "SELECT performed_by, description FROM schema_change.schema_audit WHERE operation_type = 'restored'"
    assert rows(audit) == [("a person", result.lost_writes())]
    assert rows("SELECT status FROM schema_change.run") == [("applied",)]


@ON_ONE_VERSION
def test_a_restore_of_chosen_tables_leaves_the_others(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE stations (id integer PRIMARY KEY)")
    rows("INSERT INTO stations VALUES (1)")
    run = land(bench, "001_all", SECOND | {"registry": None}, backup_scope="database")
    rows("DELETE FROM stations")
    rows("DELETE FROM readings")
    restore_run(bench.target, run.request.run_id, tables=[Table("public", "stations")], note=lambda _: None)
    assert rows("SELECT (SELECT count(*) FROM stations), (SELECT count(*) FROM readings)") == [(1, 0)]


def test_a_whole_restore_takes_the_change_and_those_after_it_back(bench: Bench, connection: Connection) -> None:
    before = bench.state()
    first = land(bench, "001_notes", FIRST, backup_scope="database")
    second = land(bench, "002_humidity", SECOND)
    result = restore_run(
        bench.target, first.request.run_id, database=True, terminate_sessions=True, note=lambda _: None
    )
    assert bench.state() == before
    assert ask(bench.target, "SELECT run_id, status FROM schema_change.run ORDER BY change_version") == [
        (first.request.run_id, "restored"),
        (second.request.run_id, "restored"),
    ]
    assert ask(bench.target, "SELECT count(*) FROM schema_change.schema_registry") == [(0,)]
    assert ask(bench.target, "SELECT count(*) FROM schema_change.owner") == [(0,)]
    # The journal was carried forward: it tells the whole story, and the change can be made again.
    kinds = [kind for (kind,) in ask(bench.target, "SELECT kind FROM schema_change.event ORDER BY id")]
    assert {"planned", "backup", "applied"} < set(kinds)
    assert kinds[-2:] == ["restored", "restored"]
    assert result.kept_database is not None
    kept = bench.target.with_database(result.kept_database)
    assert ask(kept, "SELECT count(*), count(note) FROM readings") == [(5000, 5000)]
    land(bench, "001_notes", FIRST)


@ON_ONE_VERSION
def test_a_whole_restore_needs_a_backup_of_the_whole(bench: Bench, connection: Connection) -> None:
    run = land(bench, "001_notes", FIRST)
    before = bench.state()
    with pytest.raises(BackupError, match="not of the whole database"):
        restore_run(bench.target, run.request.run_id, database=True, terminate_sessions=True, note=lambda _: None)
    assert bench.state() == before
    assert ask(bench.target, "SELECT status FROM schema_change.run") == [("applied",)]


@ON_ONE_VERSION
def test_what_cannot_be_restored_is_said(bench: Bench, rows: Rows) -> None:
    run = land(bench, "001_notes", SECOND | {"registry": None}, skip_backup=True)
    with pytest.raises(BackupError, match="took no backup"):
        restore_run(bench.target, run.request.run_id, note=lambda _: None)
    with pytest.raises(JournalError, match="not in the journal"):
        restore_run(bench.target, uuid4(), note=lambda _: None)


def fail_to_undo(bench: Bench, scripts: dict[str, str], **options: Any) -> Run:
    """Run a raw change whose revert fails up to the point where it has changed something, and let it end."""
    change = bench.write("001_raw", **scripts)
    request = bench.request(change, skip_rehearsal=True, on_revert_failure="restore", **options)
    run = Run(request)
    assert run.try_stage("plan"), run.error
    run.approve()
    for stage in ("backup", "pre_check", "rehearse", "migrate"):
        assert run.try_stage(stage), run.error
    run.finish()
    return run


def test_a_failed_undo_puts_the_whole_database_back(bench: Bench, connection: Connection) -> None:
    before = bench.state()
    run = fail_to_undo(bench, NO_WAY_BACK, backup_scope="database")
    assert isinstance(run.outcome_error, ChangeRolledBack)
    assert "the backup was put back" in str(run.outcome_error)
    assert bench.state() == before
    assert ask(bench.target, "SELECT status FROM schema_change.run") == [("restored",)]
    assert ask(bench.target, "SELECT count(*) FROM schema_change.owner") == [(0,)]
    assert (run.request.folder / "report.json").exists()


@ON_ONE_VERSION
def test_a_failed_undo_whose_rows_are_all_there_is_puts_the_tables_back(bench: Bench, rows: Rows) -> None:
    before = bench.state()
    run = fail_to_undo(bench, {**NO_WAY_BACK, "deploy": "DELETE FROM readings WHERE id <= 100;"})
    assert isinstance(run.outcome_error, ChangeRolledBack), run.outcome_error
    assert bench.state() == before
    assert rows("SELECT status FROM schema_change.run") == [("restored",)]
    assert rows("SELECT count(*) FROM schema_change.owner") == [(0,)]


@ON_ONE_VERSION
def test_rows_that_are_back_do_not_hide_a_catalog_that_is_not(bench: Bench, rows: Rows) -> None:
    before = bench.state()
    run = fail_to_undo(bench, NO_WAY_BACK)
    assert isinstance(run.outcome_error, RollbackFailed)
    assert "extra" in str(run.outcome_error)
    after = bench.state()
    assert after["rows"] == before["rows"]
    assert after["fingerprint"] != before["fingerprint"]
    assert rows("SELECT status FROM schema_change.run") == [("rollback_failed",)]
    # A person repairs what is left, then the run can be closed.
    assert rows("SELECT count(*) FROM schema_change.owner") == [(1,)]


@ON_ONE_VERSION
def test_a_failed_undo_waits_for_a_person_unless_the_run_allows_a_restore(bench: Bench, rows: Rows) -> None:
    run = fail_to_undo(bench, {**NO_WAY_BACK, "deploy": "DELETE FROM readings WHERE id <= 100;"}, skip_backup=True)
    assert isinstance(run.outcome_error, RollbackFailed)
    assert rows("SELECT count(*) FROM readings") == [(4900,)]
