"""The commands on real servers: what they print, what they leave in the database, how they exit."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from schema_change.cli import running
from schema_change.cli.main import main
from schema_change.core.backfill.engine import BackfillSettings
from schema_change.core.database import Connection, Target
from schema_change.core.errors import OwnershipError
from schema_change.core.journal import registry
from schema_change.core.journal.journal import Journal
from schema_change.core.report import report_text, run_report
from schema_change.core.stages import runner
from schema_change.core.stages.session import Session
from tests.bench import Bench

Rows = Callable[[str], list[Any]]
Cli = Callable[..., int]

FILL: dict[str, Any] = {
    "add_column": {
        "table": "readings",
        "column": {"name": "fahrenheit", "type": "numeric(6,2)"},
        "fill": "readings.celsius * 9 / 5 + 32",
    }
}
RISKY: dict[str, Any] = {"set_not_null": {"table": "readings", "column": "note", "nulls": {"fill": "'none'"}}}
NEVER_BELOW_32 = """
name: readings
table: public.readings
expectations:
  - {type: expect_column_min_to_be_between, kwargs: {column: fahrenheit, min_value: 32}, meta: {check_id: not_frozen}}
"""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(target: Target, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    connection.execute(
        "CREATE TABLE readings"
        " (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, station text, celsius numeric(5,2), note text)"
    )
    connection.execute(
        "INSERT INTO readings (station, celsius)"
        " SELECT 'S' || g % 7, (g % 400) / 10.0 - 15 FROM generate_series(1, 2000) g"
    )
    connection.execute("ANALYZE readings")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", url(target))
    return Bench(target, tmp_path)


def url(target: Target) -> str:
    p = target.parameters
    return f"postgresql://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}"


@pytest.fixture
def rows(connection: Connection) -> Rows:
    def query(statement: str) -> list[Any]:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    return query


FILES = ("--changes", "changes", "--expectations", "expectations")


def cli(command: str, *arguments: str) -> int:
    return main([command, *arguments, *FILES])


def test_plan_shows_the_guide_and_leaves_nothing_behind(
    bench: Bench, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write("001_fill", {"operations": [FILL]})
    assert cli("plan", "001_fill", "--html", "guide.html") == 0
    assert "## Rollback plan" in capsys.readouterr().out
    assert Path("guide.html").read_text().startswith("<!doctype html>")
    assert cli("plan", "001_fill", "--json") == 0
    assert json.loads(capsys.readouterr().out)["risk"] == "low"
    assert rows("SELECT to_regnamespace('schema_change')") == [(None,)]
    assert [f for f in Path("schema_change_artifacts").rglob("*") if f.is_file()] == []


def test_plan_of_a_change_that_cannot_run_shows_guide_and_reason(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    unique = {"create_index": {"table": "readings", "columns": ["station"], "unique": True}}
    bench.write("001_unique", {"operations": [unique]})
    assert cli("plan", "001_unique") == 1
    shown = capsys.readouterr()
    assert "**fail**" in shown.out
    assert "duplicates" in shown.err


def test_the_blackouts_of_the_installation_are_told(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write("001_fill", {"operations": [FILL]})
    Path("blackouts.yaml").write_text("blackouts: [{from: 2020-01-01, to: 2999-12-31, reason: closing}]")
    assert cli("plan", "001_fill", "--blackouts", "blackouts.yaml") == 0
    assert "migrate will wait: blackout until 3000-01-01 00:00 (closing)" in " ".join(capsys.readouterr().out.split())
    assert cli("plan", "001_fill", "--blackouts", "no.yaml") != 0
    assert "no.yaml: cannot be read" in capsys.readouterr().err


def test_apply_lands_and_reports(bench: Bench, rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write("001_fill", {"operations": [FILL]})
    assert cli("apply", "001_fill", "--yes", "--batch-target-ms", "100") == 0
    shown = capsys.readouterr().out
    assert "The change landed: 001_fill on target" in shown
    assert "2,000 rows filled" in shown
    assert rows("SELECT count(*) FROM readings WHERE fahrenheit IS DISTINCT FROM celsius * 9 / 5 + 32") == [(0,)]
    assert rows("SELECT options ->> 'batch_target_ms', status FROM schema_change.run") == [("100", "applied")]
    page = next(Path("schema_change_artifacts").rglob("report.html")).read_text()
    assert "The change landed." in page
    record = json.loads(next(Path("schema_change_artifacts").rglob("report.json")).read_text())
    assert record["landed"]
    assert {stage["stage"] for stage in record["stages"] if stage["status"] == "done"} >= {"plan", "backup", "contract"}
    assert {v["status"] for v in record["validation"]} == {"passed"}
    assert cli("apply", "001_fill", "--yes") == 1, "a change is applied once"
    assert cli("status", "--target", "target") == 0
    assert "applied" in capsys.readouterr().out


def test_a_broken_expectation_rolls_back(bench: Bench, rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    (bench.folder / "expectations").mkdir()
    bench.expectations("frozen.yaml", NEVER_BELOW_32)
    bench.write("001_frozen", {"operations": [FILL], "expectations": "frozen.yaml"})
    before = bench.state()
    assert cli("apply", "001_frozen", "--yes", "--skip-rehearsal") == 1
    shown = capsys.readouterr()
    assert "not_frozen" in shown.err
    assert "The change was rolled back" in shown.out
    assert "equals the one before" in shown.out
    assert "rows of public.readings: equal" in shown.out
    assert bench.state() == before
    page = next(Path("schema_change_artifacts").rglob("report.html")).read_text()
    assert page.index("The change was rolled back.") < page.index("not_frozen") < page.index("Timeline")


def test_who_must_approve_is_said_and_the_run_goes_on_with_the_answer(
    bench: Bench, rows: Rows, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    Path("approvals.yaml").write_text("database_administrator: [dba]\n")
    bench.write("001_risky", {"operations": [RISKY]})
    approvals = ["--approved-by", "lead_developer=ben", "--approved-by", "product_owner=cem"]
    policy = ["--approvers", "approvals.yaml", "--yes", "--skip-backup"]
    assert cli("apply", "001_risky", *policy, *approvals) == 2
    shown = capsys.readouterr().err
    assert "database_administrator (dba)" in shown
    run = re.search(r"--run (\S+)", shown)
    assert run is not None
    assert cli("apply", "001_risky", *policy, "--run", run[1], "--approved-by", "database_administrator=ann") == 2
    assert "cannot approve" in capsys.readouterr().err
    # As if the process that asked were gone: a run that only waits is nobody's to clean up.
    rows("UPDATE schema_change.run SET requested_from = regexp_replace(requested_from, '[0-9]+$', '1')")
    assert cli("reconcile") == 0
    assert rows("SELECT status FROM schema_change.run") == [("planned",)]
    assert rows("SELECT count(*) FROM readings WHERE note IS NULL") == [(2000,)]
    assert cli("apply", "001_risky", *policy, "--run", run[1], "--approved-by", "database_administrator=dba") == 0
    assert rows("SELECT count(*) FROM readings WHERE note IS NULL") == [(0,)]
    given = rows("SELECT object_name, actor FROM schema_change.event WHERE kind = 'approved' ORDER BY object_name")
    assert given == [("database_administrator", "dba"), ("lead_developer", "ben"), ("product_owner", "cem")]


def test_a_person_is_asked_before_the_first_change(
    bench: Bench, rows: Rows, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return ""

    monkeypatch.setattr(running, "interactive", lambda: True)
    monkeypatch.setattr("builtins.input", answer)
    bench.write("001_fill", {"operations": [FILL]})
    before = bench.state()
    assert cli("apply", "001_fill", "--skip-backup") == 1
    assert "Apply 001_fill to" in asked[0]
    assert "nothing was changed" in capsys.readouterr().err
    assert rows("SELECT status FROM schema_change.run") == [("stopped",)]
    assert bench.state() == before


def test_a_bug_shows_itself_after_the_database_was_given_back(
    bench: Bench, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(_: object) -> NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(runner, "_FUNCTIONS", {**runner._FUNCTIONS, "validate": bug})
    bench.write("001_fill", {"operations": [FILL]})
    before = bench.state()
    with pytest.raises(RuntimeError, match="a bug"):
        cli("apply", "001_fill", "--yes", "--skip-backup")
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert bench.state() == before


def test_a_killed_run_goes_on_from_the_journal(bench: Bench, connection: Connection, rows: Rows) -> None:
    bench.write("001_fill", {"operations": [FILL]})
    run_id = killed_in_backfill(connection)
    assert cli("apply", "001_fill", "--yes", "--run", run_id) == 0
    assert rows("SELECT count(*) FROM readings WHERE fahrenheit IS DISTINCT FROM celsius * 9 / 5 + 32") == [(0,)]
    assert rows("SELECT count(*) FROM schema_change.event WHERE kind = 'resumed'") == [(1,)]
    assert rows("SELECT tries FROM schema_change.stage WHERE stage = 'migrate'") == [(1,)]


def test_a_killed_run_is_reconciled_and_shown(
    bench: Bench, connection: Connection, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write("001_fill", {"operations": [FILL]})
    before = bench.state()
    run_id = killed_in_backfill(connection)
    assert cli("status") == 0
    shown = capsys.readouterr().out
    assert "its process is gone" in shown
    assert f"public.readings is owned by run {run_id}" in shown
    until(lambda: main(["reconcile", *FILES]) == 0 and rows("SELECT status FROM schema_change.run")[0][0] != "running")
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    assert bench.state() == before
    assert cli("rollback", "--run", run_id) == 0, "it is undone already"


def test_a_run_that_another_host_took_over_is_not_undone_here(
    bench: Bench, connection: Connection, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(session: Session) -> NoReturn:
        connection.execute("UPDATE schema_change.run SET requested_from = 'cli:elsewhere:1:2'")
        raise OwnershipError("another task of this run is at work")

    monkeypatch.setattr(runner, "_FUNCTIONS", {**runner._FUNCTIONS, "cutover": taken})
    bench.write("001_fill", {"operations": [FILL]})
    assert cli("apply", "001_fill", "--yes", "--skip-backup") == 1
    assert rows("SELECT status FROM schema_change.run") == [("running",)]


def test_a_run_whose_process_lives_is_left_alone(bench: Bench, connection: Connection, rows: Rows) -> None:
    bench.write("001_fill", {"operations": [FILL]})
    with held_in_backfill(connection) as process:
        run_id = str(rows("SELECT run_id FROM schema_change.run")[0][0])
        assert cli("reconcile") == 0
        assert cli("rollback", "--run", run_id) == 1
        assert cli("apply", "001_fill", "--run", run_id) == 1
        assert rows("SELECT status FROM schema_change.run") == [("running",)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
        shown = process.stderr.read() if process.stderr else ""
        assert f"schema-change apply 001_fill --run {run_id}" in shown
        assert "Traceback" not in shown
    assert cli("rollback", "--run", run_id) == 0
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]


def test_the_shards_of_a_backfill_are_threads(
    bench: Bench, rows: Rows, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schema_change.core.stages.session.BackfillSettings", partial(BackfillSettings, max_rows=200))
    bench.write("001_fill", {"operations": [FILL]})
    assert cli("apply", "001_fill", "--yes", "--skip-backup", "--shards", "3") == 0
    shown = capsys.readouterr().out
    assert "fill public.readings.fahrenheit, shard 3 of 3: " in shown
    assert shown.count("✔ backfill") == 1
    assert rows("SELECT count(*) FROM readings WHERE fahrenheit IS DISTINCT FROM celsius * 9 / 5 + 32") == [(0,)]
    assert rows("SELECT count(*), sum(rows_done) FROM schema_change.backfill") == [(3, 2000)]


def test_ctrl_c_ends_every_shard(bench: Bench, connection: Connection, rows: Rows) -> None:
    bench.write("001_fill", {"operations": [FILL]})
    with held_in_backfill(connection, "--shards", "3") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
        assert "schema-change apply 001_fill --run" in (process.stderr.read() if process.stderr else "")
    assert rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    rows(GO_ON)
    (run_id,) = rows("SELECT run_id FROM schema_change.run")[0]
    assert cli("apply", "001_fill", "--yes", "--run", str(run_id)) == 0
    assert rows("SELECT count(*) FROM readings WHERE fahrenheit IS DISTINCT FROM celsius * 9 / 5 + 32") == [(0,)]


def test_restore_says_what_is_lost_and_asks(bench: Bench, rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write("001_fill", {"operations": [FILL]})
    assert cli("apply", "001_fill", "--yes", "--skip-rehearsal") == 0
    run_id = str(rows("SELECT run_id FROM schema_change.run")[0][0])
    rows("DELETE FROM readings WHERE id <= 10")
    capsys.readouterr()
    assert cli("restore", "--run", run_id) == 2
    shown = capsys.readouterr()
    assert "is lost" in shown.out
    assert "public.readings" in shown.out
    assert rows("SELECT count(*) FROM readings") == [(1990,)]
    assert cli("restore", "--run", run_id, "--tables", "readings", "--yes") == 0
    assert rows("SELECT count(*) FROM readings") == [(2000,)]
    assert "1990 → 2000" in capsys.readouterr().out


def test_lint_with_a_target_plans_what_was_not_applied(
    bench: Bench, capsys: pytest.CaptureFixture[str], target: Target
) -> None:
    bench.write("001_fill", {"operations": [FILL]})
    assert cli("apply", "001_fill", "--yes", "--skip-backup") == 0
    bench.write("002_twice", {"operations": [FILL]})
    bench.write("003_later", {"operations": [FILL]})
    capsys.readouterr()
    assert cli("lint", "--target", url(target)) == 1
    shown = capsys.readouterr().out
    assert "error: 002_twice: does-not-fit: public.readings already has a column fahrenheit" in shown
    assert "warning: 003_later: does-not-fit" in shown
    assert "001_fill" not in shown


def test_a_service_is_a_target(bench: Bench, monkeypatch: pytest.MonkeyPatch, rows: Rows, target: Target) -> None:
    p = target.parameters
    Path("service.conf").write_text(
        f"[weather]\nhost={p['host']}\nport={p['port']}\nuser={p['user']}\ndbname={p['dbname']}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(Path("service.conf").absolute()))
    monkeypatch.delenv("AIRFLOW_CONN_TARGET")
    bench.write("001_fill", {"operations": [FILL]})
    assert cli("apply", "001_fill", "--yes", "--skip-rehearsal", "--target", "service=weather") == 0
    assert rows("SELECT status, conn_id FROM schema_change.run") == [("applied", "target")]
    assert cli("status", "--target", "service=no_such") == 2


def test_the_record_holds_no_connection_parameter(bench: Bench, connection: Connection, rows: Rows) -> None:
    rows("ALTER ROLE CURRENT_USER PASSWORD 'se(ret'")
    os.environ["PGPASSWORD"] = "se(ret"
    try:
        bench.write("001_fill", {"operations": [FILL]})
        assert cli("apply", "001_fill", "--yes", "--skip-rehearsal") == 0
    finally:
        del os.environ["PGPASSWORD"]
        rows("ALTER ROLE CURRENT_USER PASSWORD NULL")
    journal = Journal(connection, rows("SELECT run_id FROM schema_change.run")[0][0])
    text = json.dumps(run_report(journal)) + report_text(run_report(journal))
    assert "se(ret" not in text
    assert str(bench.target.parameters["port"]) not in text
    assert all("se(ret" not in f.read_text(errors="replace") for f in Path().rglob("*") if f.is_file())


@pytest.mark.parametrize(
    "page", ["docs/cli.md", "docs/backup-and-restore.md", "docs/guide-and-proposal.md", "README.md"]
)
def test_the_commands_of_the_documentation_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, target: Target, page: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WEATHER", url(target))
    folder = Path("include/sql/changes/001_add_wind_chill")
    folder.mkdir(parents=True)
    document = {"description": "Wind chill", "conn_id": "weather", "operations": [FILL]}
    (folder / "change.yaml").write_text(yaml.safe_dump(document))
    blocks = re.findall(r"^```console\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert commands
    for program, *arguments in commands:
        assert program == "schema-change"
        assert main(arguments) == 0, arguments


# -- a run that is held in the middle of its backfill ---------------------------------------------------------------

PAUSE = """
CREATE FUNCTION schema_change.pause() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO schema_change.control (run_id, paused) VALUES (NEW.run_id, true); RETURN NULL; END';
CREATE TRIGGER pause AFTER INSERT ON schema_change.run FOR EACH ROW EXECUTE FUNCTION schema_change.pause();
"""
GO_ON = "UPDATE schema_change.control SET paused = false"
FILLING = "SELECT true FROM schema_change.step WHERE phase = 'backfill' AND status = 'started'"


@contextlib.contextmanager
def held_in_backfill(connection: Connection, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Start ``apply`` in a process of its own, with its backfill paused from the beginning."""
    registry.install(connection)
    connection.execute(PAUSE.encode())
    command = [sys.executable, "-m", "schema_change.cli", "apply", "001_fill", "--yes", "--skip-backup", *more, *FILES]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    # Whoever was started in the background ignores it, and its children do then.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            until(lambda: process.poll() is not None or bool(connection.execute(FILLING).fetchone()))
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield process
        finally:
            process.kill()


def killed_in_backfill(connection: Connection) -> str:
    with held_in_backfill(connection) as process:
        process.kill()
    connection.execute(GO_ON)
    row = connection.execute("SELECT run_id FROM schema_change.run").fetchone()
    assert row is not None
    return str(row[0])


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
