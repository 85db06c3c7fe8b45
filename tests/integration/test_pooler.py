"""PgBouncer in transaction mode is found out and refused; in session mode it is as good as the server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo.postgres import free_port, os_user
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError


@contextmanager
def pooler(target: Target, mode: str, *settings: str) -> Iterator[Target]:
    """Run PgBouncer before the target's server; yield the same database through it."""
    # Debian installs it where an ordinary user's PATH does not look.
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed (apt-get install pgbouncer)")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer_") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "users.txt").write_text('"postgres" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={target.parameters['host']} port={target.parameters['port']}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {folder / 'users.txt'}\npool_mode = {mode}\n" + "\n".join(settings)
        )
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = os_user()
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        process = subprocess.Popen(
            [program, "-q", str(folder / "pgbouncer.ini")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **identity,
        )
        try:
            wait_for(port, process)
            yield replace(target, parameters={**target.parameters, "port": str(port)})
        finally:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert process.poll() is None, "pgbouncer did not start"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail("pgbouncer does not listen")


def refuse(target: Target) -> None:
    with target.connect("known") as known:
        target.refuse_pooler(known)


def test_the_server_itself_passes(target: Target) -> None:
    refuse(target)


def test_a_pooler_in_session_mode_passes(target: Target) -> None:
    with pooler(target, "session") as pooled:
        refuse(pooled)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_that_shares_sessions_is_refused(target: Target, mode: str) -> None:
    with pooler(target, mode) as pooled:
        with pytest.raises(ConfigurationError, match="pooler") as caught:
            refuse(pooled)
        assert caught.value.hint


def test_a_pooler_that_hands_out_its_sessions_in_turns_is_refused(target: Target) -> None:
    with pooler(target, "transaction", "server_round_robin = 1") as pooled, pooled.connect("a") as a:
        with pooled.connect("b") as b, a.transaction(), b.transaction():
            assert a.execute("SELECT pg_backend_pid()").fetchall() != b.execute("SELECT pg_backend_pid()").fetchall()
        with pytest.raises(ConfigurationError, match="transaction mode"):
            refuse(pooled)
