"""Where a run of the CLI came from, so that reconcile can tell whether the process that asked for it is gone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import OwnershipError
from schema_change.core.journal.journal import Journal, RunRow

_SOURCE = "cli"


def cli_origin() -> str:
    """Return what the journal calls the origin of this process's runs: ``cli:<host>:<pid>:<start time>``."""
    pid = os.getpid()
    return f"{_SOURCE}:{socket.gethostname()}:{pid}:{_started(pid)}"


def is_gone(origin: str) -> bool:
    """Tell whether the process behind an origin has ended; False for what this host cannot judge over."""
    process = _here(origin)
    return process is not None and _started(process[0]) != process[1]


def is_alive(origin: str) -> bool:
    """Tell whether another process of this host is the origin and still there."""
    process = _here(origin)
    return process is not None and process[0] != os.getpid() and _started(process[0]) == process[1]


def adopt(connection: Connection, run: RunRow, *, origin: str, actor: str) -> None:
    """Record that another process goes on with a run, so that nobody takes it for abandoned.

    Raises OwnershipError when somebody else has just done the same.
    """
    words = {"run_id": run.run_id, "origin": origin, "before": run.requested_from}
    with connection.transaction():
        if not connection.execute(sqlfiles.block("queries/status", "adopt"), words).rowcount:
            raise OwnershipError(f"somebody else has just gone on with run {run.run_id}", hint="leave it to them")
        Journal(connection, run.run_id, actor).event("resumed", f"by {origin}")


def _here(origin: str) -> tuple[int, str] | None:
    """Return process id and start time of an origin on this host, else None."""
    source, _, rest = origin.partition(":")
    host, _, process = rest.partition(":")
    pid, _, started = process.partition(":")
    if source != _SOURCE or host != socket.gethostname() or not pid.isdigit():
        return None
    return int(pid), started


def _started(pid: int) -> str:
    """Return when a process started, in the system's own units; empty when there is no such process.

    A process id is given again, a process id with its start time is not.
    """
    stat = Path("/proc") / str(pid) / "stat"
    if Path("/proc/self/stat").exists():
        try:
            # The second field is the command in parentheses and may hold blanks; the start time is the 22nd.
            return stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        except (FileNotFoundError, ProcessLookupError):
            return ""
    ps = shutil.which("ps") or "/bin/ps"
    result = subprocess.run([ps, "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "_".join(result.stdout.replace(":", "-").split())
