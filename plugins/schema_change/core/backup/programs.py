"""Run PostgreSQL's command-line tools: return codes checked, stderr drained, nothing left running."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from schema_change.core.errors import BackupError

_TAIL = 4000
#: A parallel pg_dump or pg_restore needs a moment to end its workers and their statements.
_GRACE_S = 10
_MOST_JOBS = 8


def jobs() -> int:
    """Return how many sessions a dump or a restore uses: as many as this machine has cores, at most eight."""
    return min(os.cpu_count() or 1, _MOST_JOBS)


@contextlib.contextmanager
def output_of(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[IO[bytes]]:
    """Start a program and yield its output; end it, with the processes it has started, when the body fails.

    Raises BackupError, with the program's own words, when it ends with anything but success.
    """
    # stderr goes to a file: a pipe that nobody reads would stall the program once it is full.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            arguments, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
        if process.stdout is None:
            raise BackupError("a client tool was started without an output", hint="report this")
        try:
            yield process.stdout
            code = process.wait()
        finally:
            _end(process)
            process.stdout.close()
        if code:
            errors.seek(max(0, errors.seek(0, 2) - _TAIL))
            words = errors.read().decode(errors="replace").strip()
            name = Path(arguments[0]).name
            raise BackupError(
                f"{name} failed ({f'signal {-code}' if code < 0 else f'code {code}'}): {words or 'no message'}",
                hint="check privileges, disk space and the server's log, then run this again",
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a program that still runs to end, since only it can end its workers; kill it when it does not."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        process.kill()
        process.wait()


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Run a program to its end and return its output."""
    with output_of(arguments, environment) as output:
        return output.read()
