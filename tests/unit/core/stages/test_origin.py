from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from schema_change.core.stages.origin import cli_origin, is_alive, is_gone


def test_this_process_is_not_gone_and_not_another_one() -> None:
    origin = cli_origin()
    assert origin.startswith(f"cli:{socket.gethostname()}:{os.getpid()}:")
    assert not is_gone(origin)
    assert not is_alive(origin)


def test_another_process_is_alive_until_it_ends() -> None:
    code = "from schema_change.core.stages.origin import cli_origin; print(cli_origin(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout
        origin = process.stdout.readline().strip()
        assert is_alive(origin)
        assert not is_gone(origin)
        process.communicate("\n")
    assert is_gone(origin)
    assert not is_alive(origin)


def test_a_process_id_that_was_given_again_is_another_process() -> None:
    assert is_gone(f"cli:{socket.gethostname()}:{os.getpid()}:1")


@pytest.mark.parametrize("origin", ["", "airflow:dag/run", "cli:elsewhere:1:2", "cli:x", "rehearsal", "test"])
def test_nothing_is_said_about_what_is_not_here(origin: str) -> None:
    assert not is_gone(origin)
    assert not is_alive(origin)
