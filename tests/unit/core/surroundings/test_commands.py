from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from schema_change.core.errors import ExecutionError
from schema_change.core.surroundings import commands
from schema_change.core.surroundings.commands import run_command
from schema_change.core.surroundings.environment import for_program

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_a_program_gets_no_shell_and_no_environment_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    monkeypatch.setenv("OTHER", "hidden")
    environment = for_program(["TOKEN"], {"SCHEMA_CHANGE_ID": "001_a"})
    show = "import os, sys; print(sys.argv[1:], os.environ.get('TOKEN'), os.environ.get('OTHER'), os.getcwd())"
    code, output = run_command([*python(show), "$HOME; ls"], environment, 10, lambda: True)
    assert (code, output) == (0, "['$HOME; ls'] s3cret None /")


def test_exit_code_and_the_end_of_both_streams_are_told() -> None:
    text = "import sys; print('x' * 200_000, flush=True); print('last', file=sys.stderr); sys.exit(3)"
    code, output = run_command(python(text), ENVIRONMENT, 10, lambda: True)
    assert code == 3
    assert output.endswith("x\nlast")
    assert len(output) < 100_000


def test_a_program_that_is_not_there_says_so() -> None:
    with pytest.raises(ExecutionError, match="cannot be started: No such file"):
        run_command(["no-such-program"], ENVIRONMENT, 10, lambda: True)


@pytest.mark.parametrize("reason", ["time is over", "task was killed"])
def test_a_program_is_ended_with_everything_it_started(tmp_path: Path, reason: str) -> None:
    child = tmp_path / "child"
    text = (
        "import subprocess, sys, time, pathlib;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"pathlib.Path({str(child)!r}).write_text(str(p.pid)); print('begun', flush=True); time.sleep(600)"
    )
    timeout_s, alive = (0.0, True) if reason == "time is over" else (600.0, False)
    ready = time.monotonic() + 20

    def wanted() -> bool:
        # Nothing is ended before both processes are there.
        while not (child.exists() and child.read_text()) and time.monotonic() < ready:
            time.sleep(0.01)
        return alive

    with pytest.raises(ExecutionError, match=r"^ended") as caught:
        run_command(python(text), ENVIRONMENT, timeout_s, wanted)
    assert caught.value.data["output"] == "begun"
    pid = int(child.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).wait(10) is None


def test_what_a_program_started_is_ended_though_it_does_not_listen_and_the_program_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_GRACE_S", 0.5)
    child = tmp_path / "child"
    deaf = (
        "import os, pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(child)!r}).write_text(str(os.getpid())); time.sleep(600)"
    )
    text = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {deaf!r}]); time.sleep(600)"
    ready = time.monotonic() + 20

    def wanted() -> bool:
        while not (child.exists() and child.read_text()) and time.monotonic() < ready:
            time.sleep(0.01)
        return False

    with pytest.raises(ExecutionError, match=r"^ended"):
        run_command(python(text), ENVIRONMENT, 600, wanted)
    pid = int(child.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).wait(10) is None
