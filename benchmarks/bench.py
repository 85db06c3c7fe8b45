"""What every work is given: a PostgreSQL of its own, sizes, and where to write."""

from __future__ import annotations

import os
import platform
import shutil
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
    """One run of ``make bench``. ``rows`` is the size of large tables, ``rounds`` of each comparison."""

    server: Server
    rows: int
    rounds: int
    folder: Path

    def say(self, line: str) -> None:
        """Tell the person who waits."""
        print(f"  {line}", flush=True)

    def database(self, name: str, *, template: str | None = None) -> Target:
        """Return an empty database, or a copy of a template, made anew."""
        wanted = sql.Identifier(name)
        with self.server.target().connect("bench") as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(wanted))
            copy = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
            admin.execute(sql.SQL("CREATE DATABASE {}{}").format(wanted, copy))
        return self.server.target(name)

    def checkpoint(self) -> None:
        """Write everything to disk, so that nobody pays for what an earlier contender wrote."""
        with self.server.target().connect("bench") as admin:
            admin.execute("CHECKPOINT")

    def setting(self, **more: Any) -> dict[str, Any]:
        """Return what a figure depends on: the machine, the server and its settings, sizes."""
        return {
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "python": platform.python_version(),
            "postgresql": self.version,
            "settings": dict(self.server.settings),
            "rounds": self.rounds,
            **more,
        }

    @property
    def version(self) -> str:
        """Return the server's version."""
        with self.server.target().connect("bench") as admin:
            row = admin.execute("SHOW server_version").fetchone()
        return str(row[0]) if row else ""


@contextmanager
def started(rows: int, rounds: int) -> Iterator[Bench]:
    """Start a PostgreSQL of our own; everything is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="schema_change_bench_"))
    folder.chmod(0o755)
    newest = max(installations(), key=lambda i: i.major)
    server = Server(newest, folder / "data", free_port(), SETTINGS)
    server.start()
    try:
        yield Bench(server, rows, rounds, folder)
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)
