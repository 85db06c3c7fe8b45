"""Commands as a person types them: their environment, and where they connect to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.bench import Bench
from schema_change.core.database import Target

#: Environment in which no session of libpq waits for the disk at commit.
NO_WAIT = {"PGOPTIONS": "-c synchronous_commit=off"}
Contender = Callable[[], float | None]


def compiled(bench: Bench) -> dict[str, str]:
    """Return an environment in which Python keeps compiled modules, as an installed command has them."""
    found = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**found, "PYTHONPYCACHEPREFIX": str(bench.folder / "compiled")}


def url_of(target: Target, driver: str = "") -> str:
    """Return the URL of a database of the benchmark's server, which asks for no password."""
    p = target.parameters
    return f"postgresql{driver}://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}"


def output(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command and return what it prints. Raises AssertionError with its words when it fails."""
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command[:4])} … failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def quiet(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Run a command; it must succeed."""
    output(command, folder, environment)
