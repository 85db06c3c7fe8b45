"""The commands on changes that soak, are followed up, or need Airflow."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from schema_change.cli import running
from schema_change.cli.main import main
from schema_change.core.database import Connection, Target
from tests.bench import Bench

#: Nothing here differs between versions of PostgreSQL.
pytestmark = pytest.mark.parametrize("server", [18], indirect=True)

PLAIN: dict[str, Any] = {"add_column": {"table": "readings", "column": {"name": "remark", "type": "text"}}}
FILES = ("--changes", "changes", "--expectations", "expectations")
FAST = ("--yes", "--skip-backup", "--skip-rehearsal")


@pytest.fixture
def bench(target: Target, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    connection.execute("CREATE TABLE readings (id integer PRIMARY KEY)")
    p = target.parameters
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", f"postgresql://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}")
    return Bench(target, tmp_path)


def cli(command: str, *arguments: str) -> int:
    return main([command, *arguments, *FILES])


def status(connection: Connection) -> Any:
    return connection.execute("SELECT status, run_id::text FROM schema_change.run").fetchone()


def test_apply_waits_for_the_soak_and_goes_on_where_it_was_interrupted(
    bench: Bench, connection: Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write("001_soak", {"operations": [PLAIN], "soak": {"hours": 1, "every_s": 60}})
    pauses: list[dt.timedelta] = []

    def interrupt(moment: dt.datetime) -> None:
        pauses.append(moment - dt.datetime.now(dt.UTC))
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_sleep_until", interrupt)
    assert cli("apply", "001_soak", *FAST) == 1
    assert dt.timedelta() < pauses[0] <= dt.timedelta(minutes=1)
    shown = capsys.readouterr()
    assert "waiting: all is well; 1 h 00 min left" in shown.out
    state, run_id = status(connection)
    assert state == "validated"
    assert f"--run {run_id}" in shown.err

    def an_hour(moment: dt.datetime) -> None:
        connection.execute("UPDATE schema_change.stage SET started_at = started_at - interval '1 hour'")

    monkeypatch.setattr(running, "_sleep_until", an_hour)
    assert cli("apply", "001_soak", "--run", run_id, *FAST) == 0
    assert "3 looks in 1 h 00 min" in capsys.readouterr().out
    assert status(connection)[0] == "applied"


def test_follow_up_carries_out_what_is_due(
    bench: Bench, connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("follow-up", "--target", "target") == 0
    assert "nothing to do" in capsys.readouterr().out
    checks = [
        {"name": "no remark", "after_hours": 0, "no_rows": "SELECT id FROM readings WHERE remark IS NOT NULL"},
        {"name": "later", "after_hours": 5, "no_rows": "SELECT id FROM readings"},
    ]
    bench.write("001_follow", {"operations": [PLAIN], "follow_ups": checks})
    assert cli("apply", "001_follow", *FAST) == 0
    connection.execute("INSERT INTO readings VALUES (1, 'x')")
    capsys.readouterr()
    assert cli("follow-up") == 1
    shown = capsys.readouterr().out
    assert "001_follow, no remark: failed: found (1,)" in shown
    assert "1 check to come, the next from" in shown
    assert cli("follow-up") == 0


def test_a_change_whose_data_another_dag_fills_is_left_to_airflow(
    bench: Bench, connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write("001_dag", {"operations": [PLAIN], "backfill_dag": {"dag_id": "compute"}})
    assert cli("plan", "001_dag") == 0
    assert cli("apply", "001_dag", *FAST) == 2
    assert "the DAG compute, which only Airflow can trigger" in capsys.readouterr().err
    assert connection.execute("SELECT to_regnamespace('schema_change')").fetchone() == (None,)
