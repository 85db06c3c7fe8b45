"""What every work is given: a PostgreSQL of its own, sizes, and where to write."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from demo.postgres import Server, free_port
from schema_change.core.binaries import installations
from schema_change.core.database import Target

#: Like a small production server: durable, with room for checkpoints that are not forced by the amount of WAL.
SETTINGS = {
    "shared_buffers": "2GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "max_connections": "100",
    "effective_io_concurrency": "100",
    "log_min_messages": "error",
}


@dataclass(frozen=True)
class Bench:
    """One run of ``make bench``. ``rows`` is the size of large tables, ``rounds`` of each comparison of throughput."""

    server: Server
    rows: int
    rounds: int
    folder: Path

    @property
    def latency_rounds(self) -> int:
        """Return the rounds of each comparison of latencies, which vary more."""
        return self.rounds + 2

    def say(self, line: str) -> None:
        """Tell the person who waits."""
        print(f"  {line}", flush=True)

    def database(self, name: str, *, template: str | None = None) -> Target:
        """Return an empty database, or a copy of a template, made anew; nobody may be connected to the template."""
        wanted = sql.Identifier(name)
        with self.server.target().connect("bench") as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(wanted))
            # Copied as files: with tables of any size that is several times as fast as through the WAL.
            copy = sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template or "template1"))
            admin.execute(sql.SQL("CREATE DATABASE {}{}").format(wanted, copy))
        return self.server.target(name)

    def checkpoint(self) -> None:
        """Write everything to disk, so that nobody pays for what an earlier contender wrote."""
        with self.server.target().connect("bench") as admin:
            admin.execute("CHECKPOINT")

    def setting(self, **more: Any) -> dict[str, Any]:
        """Return what a figure depends on: the machine, the code, the server and its settings, and what a work adds."""
        with self.server.target().connect("bench") as admin:
            row = admin.execute(
                "SELECT current_setting('server_version'), datcollate FROM pg_database WHERE datname = 'template1'"
            ).fetchone()
        assert row is not None
        return {
            "cores": os.cpu_count(),
            "cpu": _cpu(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "filesystem": _said("df", "--output=fstype", self.folder).split()[-1],
            "commit": _commit(),
            "python": platform.python_version(),
            "postgresql": row[0],
            "lc_collate": row[1],
            "settings": dict(self.server.settings),
            "rounds": self.rounds,
            **more,
        }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)", info.read_text("utf-8"), re.MULTILINE) if info.exists() else None
    return found[1] if found else platform.machine()


def _commit() -> str:
    """Return the commit that is measured, and whether anything but the results differs from it."""
    changed = _said("git", "status", "--porcelain", "--", ".", ":!benchmarks/results", nothing="")
    return _said("git", "rev-parse", "--short=12", "HEAD") + (" and changes" if changed else "")


def _said(*command: str | Path, nothing: str = "unknown") -> str:
    """Return what a command says, asked in the repository; ``nothing`` when it fails or is not there."""
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return nothing
    return found.stdout.strip()


@contextmanager
def started(rows: int, rounds: int) -> Iterator[Bench]:
    """Start a PostgreSQL of our own; everything is gone afterwards."""
    newest = max(installations(), key=lambda i: i.major)
    with tempfile.TemporaryDirectory(prefix="schema_change_bench_", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Server(newest, folder / "data", free_port(), SETTINGS)
        try:
            server.start()
            yield Bench(server, rows, rounds, folder)
        finally:
            server.stop("immediate")
