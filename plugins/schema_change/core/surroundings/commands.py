"""Run a program without a shell, and end it when its time is over or its task is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from schema_change.core.errors import ExecutionError

_LOOK_EVERY_S = 0.2
_GRACE_S = 5
_KEPT_BYTES = 64 * 1024


def run_command(
    argv: Sequence[str], environment: Mapping[str, str], timeout_s: float, alive: Callable[[], bool]
) -> tuple[int, str]:
    """Run a program to its end; return its exit code and the end of what it wrote (both streams).

    ``alive`` is asked meanwhile; False ends the program, as a killed task must. Raises ExecutionError when the program
    cannot be started, or was ended.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise ExecutionError(
                f"cannot be started: {error.strerror}", hint="is it installed where the tasks run, and executable?"
            ) from error
        try:
            code = _wait(process, timeout_s, alive)
        except BaseException as error:
            _end(process)
            if isinstance(error, ExecutionError):
                error.data["output"] = _tail(output)
            raise
        return code, _tail(output)


def _wait(process: subprocess.Popen[bytes], timeout_s: float, alive: Callable[[], bool]) -> int:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return process.wait(_LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if not alive():
                raise ExecutionError("ended, because its task was") from None
            if time.monotonic() > deadline:
                raise ExecutionError(f"ended after {timeout_s:g} s", hint="give it a longer timeout_s") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program with everything it started: politely, then not, also what outlives the program itself."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _GRACE_S
        there = _signalled(process, number)
        while there and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S / 4)
            there = _signalled(process, 0)
        if not there:
            return


def _signalled(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to a program and all it started, or with 0 none; False when nobody is left."""
    process.poll()  # one that has ended would count until it is asked for
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _tail(output: IO[bytes]) -> str:
    end = output.seek(0, os.SEEK_END)
    output.seek(max(0, end - _KEPT_BYTES))
    return output.read().decode(errors="replace").replace("\0", "").strip()
