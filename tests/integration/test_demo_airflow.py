"""The supervisor on a real Airflow with a DAG of its own, and what it says when a stack cannot start."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from demo import processes, weather
from demo.__main__ import main
from demo.follow import Follower
from demo.postgres import Server, free_port
from demo.settings import Settings
from demo.stack import Stack
from schema_change.core.binaries import installations
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError

DAG = """
import time
from airflow.sdk import DAG, Param, task
from airflow.providers.standard.operators.hitl import ApprovalOperator

with DAG("throw_away", schedule=None, params={"seconds": Param(0, type="integer")}):

    @task
    def work(params=None):
        print("at work")
        time.sleep(params["seconds"])
        return {"rows": 3}

    work() >> ApprovalOperator(task_id="approve", subject="Go on?", params={})
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    for folder in ("dags", "plugins"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dags" / "throw_away.py").write_text(DAG)
    stack = Stack(
        Settings(tmp_path / "home", free_port(), free_port(), dags=tmp_path / "dags", plugins=tmp_path / "plugins")
    )
    yield stack
    stack.airflow.kill()
    stack.remove()


@pytest.mark.system
def test_start_trigger_follow_kill(stack: Stack) -> None:
    stack.start_server()
    weather.generate(stack.weather, rows=10, seed=1)
    stack.start()
    stack.airflow.wait_for_dags("throw_away")
    output = io.StringIO()

    def approve(dag_id: str, run_id: str, question: dict[str, object]) -> str:
        with stack.airflow.api("dba") as dba:
            dba.answer(dag_id, run_id, str(question["task_id"]), "Approve")
        return "dba approved"

    stack.airflow.trigger("throw_away", {"seconds": 0}, "first")
    with stack.airflow.api() as api:
        state = Follower(api, stack.weather, Console(file=output), approve).follow("throw_away", "first", timeout=90)
        assert state == "success"
        assert api.xcom("throw_away", "first", "work") == {"rows": 3}
        assert "at work" in api.log("throw_away", "first", "work")
        shown = output.getvalue()
        assert "✓ work" in shown
        assert "? dba approved" in shown

        with pytest.raises(ConfigurationError, match=r"dags trigger throw_away failed.*seconds.*'many'"):
            stack.airflow.trigger("throw_away", {"seconds": "many"}, "bad")

        second = api.trigger("throw_away", {"seconds": 60})
        api.wait_for_task("throw_away", second, "work", frozenset({"running"}), timeout=60)
    known = stack.airflow.processes
    assert len(processes.members(known)) > len(known)
    stack.kill()
    assert processes.members(known) == []
    assert not stack.running
    assert stack.server.running


def test_a_port_in_use_is_named(stack: Stack) -> None:
    port = stack.settings.pg_port
    in_use = pytest.raises(ConfigurationError, match=rf"port {port} .* is in use")
    with socket.create_server(("127.0.0.1", port)), in_use as caught:
        stack.start()
    assert "DEMO_PG_PORT=" in str(caught.value.hint)


def test_an_interrupted_start_does_not_matter(stack: Stack) -> None:
    half_done = stack.server.data.with_name("postgres.new")
    half_done.mkdir(parents=True)
    (half_done / "PG_VERSION").write_text("18\n")
    stack.start_server()
    assert not half_done.exists()
    stack.server.stop("immediate")
    stack.start_server()
    assert stack.server.running
    stack.stop()
    assert not stack.server.running


def test_another_port_for_a_running_server_is_refused(stack: Stack) -> None:
    stack.start_server()
    settings = stack.settings
    other = Stack(Settings(settings.home, settings.ui_port, free_port()))
    with pytest.raises(ConfigurationError, match=f"already runs on port {settings.pg_port}"):
        other.start_server()


def test_only_one_command_at_a_time(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEMO_HOME", str(stack.home))
    with stack.exclusive():
        assert main(["down"]) == 1
    assert "another make command is working on" in capsys.readouterr().out


def test_down_and_clean_without_a_stack(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEMO_HOME", str(stack.home))
    assert main(["status"]) == 1
    assert main(["down"]) == 0
    assert main(["clean"]) == 0
    assert not stack.home.exists()
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_root_with_a_private_folder(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    stack = Stack(Settings(private / "home", free_port(), free_port()))
    try:
        stack.start_server()
        assert stack.server.running
        with stack.server.target().connect("test") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        data = stack.server.data
        stack.remove()
    assert not data.exists()


def test_the_database_is_made_anew(target: Target) -> None:
    weather.generate(target, rows=10, seed=1)
    with target.connect("application") as application:
        again = weather.recreate_database(target.with_database("postgres"), target.database)
        with pytest.raises(psycopg.OperationalError):
            application.execute("SELECT 1")
    with again.connect("test") as connection:
        row = connection.execute("SELECT to_regclass('public.stations')").fetchone()
    assert row == (None,)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("99\n")
    server = Server(installations()[0], tmp_path / "data", free_port())
    with pytest.raises(ConfigurationError, match="pg_ctl failed"):
        server.start()
