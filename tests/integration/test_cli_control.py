"""Pausing, resuming, slowing down and cancelling a backfill from the command line."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import pytest

from schema_change.cli.main import main
from schema_change.core.database import Connection, Target
from schema_change.core.stages.runner import Runner
from tests.bench import Bench, Run

#: Nothing here differs between versions of PostgreSQL.
pytestmark = pytest.mark.parametrize("server", [18], indirect=True)

FILL: dict[str, Any] = {
    "add_column": {"table": "readings", "column": {"name": "doubled", "type": "integer"}, "fill": "readings.id * 2"}
}
FILES = ("--changes", "changes", "--expectations", "expectations")
CONTROL = "SELECT paused, cancelled, rows_per_second, changed_by FROM schema_change.control"
ME = getpass.getuser()


@pytest.fixture
def run(target: Target, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose backfill comes next."""
    connection.execute("CREATE TABLE readings (id integer PRIMARY KEY)")
    connection.execute("INSERT INTO readings SELECT generate_series(1, 1000)")
    p = target.parameters
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", f"postgresql://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}")
    bench = Bench(target, tmp_path)
    change = bench.write("001_fill", {"operations": [FILL]})
    run = bench.run(bench.request(change, skip_backup=True, skip_rehearsal=True), stop_before="backfill")
    assert run.error is None, run.error
    return run


def cli(command: str, run: Run, *arguments: str) -> int:
    return main([command, *arguments, "--run", str(run.request.run_id), *FILES])


def control(connection: Connection) -> Any:
    return connection.execute(CONTROL).fetchone()


def test_pause_shows_in_the_status_and_resume_lets_it_go_on(
    run: Run, connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("pause", run) == 0
    assert f"schema-change resume --run {run.request.run_id}" in capsys.readouterr().out
    assert control(connection) == (True, False, None, ME)
    assert Runner(run.request, park_after_s=0.1).run("backfill").status == "waiting"
    assert cli("status", run) == 0
    shown = capsys.readouterr().out
    assert f"waiting: paused by {ME}" in shown
    assert f"backfill waits: backfill of public.readings.doubled pauses: paused by {ME}" in shown
    assert cli("resume", run) == 0
    assert run.try_stage("backfill"), run.error
    assert connection.execute("SELECT sum(doubled) FROM readings").fetchone() == (1001000,)
    assert cli("status", run) == 0
    assert "waits" not in capsys.readouterr().out


def test_speed_is_limited_and_set_free(run: Run, connection: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("speed", run, "20000") == 0
    assert "at most 20,000 rows per second" in capsys.readouterr().out
    assert cli("pause", run) == 0
    assert control(connection) == (True, False, 20000, ME)
    assert cli("speed", run, "unlimited") == 0
    assert control(connection) == (True, False, None, ME)
    said = connection.execute("SELECT kind, message FROM schema_change.event WHERE kind = 'backfill_speed' ORDER BY id")
    assert [message for _, message in said] == ["20000 rows per second", "as fast as the server bears"]


@pytest.mark.parametrize("rows", ["0", "-1", "fast", "1.5", "2147483648"])
def test_a_speed_that_is_none_is_refused(
    run: Run, rows: str, connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("speed", run, rows) == 2
    assert control(connection) is None


def test_cancel_rolls_the_run_back(run: Run, connection: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("cancel", run) == 0
    assert not run.try_stage("backfill")
    assert f"cancelled by {ME}" in str(run.error)
    run.finish()
    assert connection.execute("SELECT status FROM schema_change.run").fetchone() == ("rolled_back",)
    capsys.readouterr()
    assert cli("pause", run) == 1
    assert "is over (rolled_back)" in capsys.readouterr().err


def test_a_run_that_is_not_there_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = "00000000-0000-0000-0000-000000000001"
    assert main(["pause", "--run", unknown, *FILES]) == 1
    assert f"run {unknown} is not in the journal" in capsys.readouterr().err
