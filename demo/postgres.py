"""A PostgreSQL cluster of our own, on loopback, run by initdb and pg_ctl; also as root."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import random
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from schema_change.core.binaries import Installation
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError

OS_USER = "schemachange"
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a TCP port nobody listens on, below those that outgoing connections are given until it is used."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise ConfigurationError("no free TCP port found", hint=f"free one between {_PORTS[0]} and {_PORTS[-1]}")


class Server:
    """One cluster in one folder. PostgreSQL refuses to run as root, so root runs it as a user of its own."""

    def __init__(
        self, installation: Installation, data: Path, port: int, settings: dict[str, str] | None = None
    ) -> None:
        self.installation = installation if reachable(installation.bin) else _copied(installation)
        self.data = data
        self.port = port
        self.settings = settings or {}
        # A unix socket's path must stay below 107 bytes, so it does not live in the data folder.
        self._sockets = Path(tempfile.gettempdir())

    def start(self) -> None:
        """Create the cluster when it is new, and start it. Raises ConfigurationError with the server's own words."""
        if not (self.data / "PG_VERSION").exists():
            self._create()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._sockets),
            **self.settings,
        }
        flags = " ".join(f"-c {name}={value}" for name, value in options.items())
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", self.data / "server.log", "-o", flags, "start")

    def _create(self) -> None:
        # Under another name until it is complete, so that an interrupted initdb leaves nothing to trip over.
        new = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        if os.geteuid() == 0:
            user = os_user()
            os.chown(new, user.pw_uid, user.pw_gid)
        new.chmod(0o700)
        options = ("-U", "postgres", "-A", "trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
        self._run("initdb", "-D", new, *options)
        if self.data.exists():
            self.data.rmdir()
        new.rename(self.data)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server when it runs; ``immediate`` is a crash."""
        if self.running:
            self._run("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")

    @property
    def running(self) -> bool:
        """Tell whether the cluster's server is up."""
        status = subprocess.run(
            [self.installation.tool("pg_ctl"), "-D", self.data, "status"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            check=False,
            **self._identity(),
        )
        return status.returncode == 0

    def target(self, database: str = "postgres", conn_id: str = "target") -> Target:
        """Return a superuser's target on this server."""
        return Target(conn_id, {"host": "127.0.0.1", "port": str(self.port), "user": "postgres", "dbname": database})

    def _run(self, tool: str, *arguments: str | Path) -> None:
        # pg_ctl's child keeps a pipe open for ever, so its output goes to a file.
        with tempfile.TemporaryFile("w+") as output:
            result = subprocess.run(
                [self.installation.tool(tool), *map(str, arguments)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                check=False,
                **self._identity(),
            )
            if result.returncode:
                output.seek(0)
                log = self.data / "server.log"
                tail = log.read_text(encoding="utf-8", errors="replace")[-1500:] if log.exists() else ""
                raise ConfigurationError(
                    f"{tool} failed for {self.data}: {output.read().strip()}\n{tail}".strip(),
                    hint="free the port, or remove the folder and start again",
                )

    def _identity(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        user = os_user()
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def reachable(path: Path) -> bool:
    """Tell whether the user that runs PostgreSQL gets at a path; for root that is another user."""
    parents = (parent for parent in path.resolve().parents if parent.exists())
    return os.geteuid() != 0 or all(parent.stat().st_mode & stat.S_IXOTH for parent in parents)


def outside(path: Path) -> Path:
    """Return a folder for what belongs to ``path`` but must lie where everybody may go, such as outside /root."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    folder = Path("/var/tmp") / f"schema-change-{digest}"  # noqa: S108  # owned and checked below
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise ConfigurationError(f"{folder} belongs to somebody else", hint="remove it")
    return folder


def _copied(installation: Installation) -> Installation:
    home = installation.bin.parent
    copy = outside(home) / "pginstall"
    if not copy.exists():
        with tempfile.TemporaryDirectory(dir=copy.parent) as folder:
            Path(folder).chmod(0o755)
            shutil.copytree(home, Path(folder) / "pginstall", symlinks=True)
            (Path(folder) / "pginstall").rename(copy)
    return Installation(copy / "bin", installation.major)


def os_user() -> pwd.struct_passwd:
    """Return the user that runs PostgreSQL for root, created when missing."""
    for name in (OS_USER, "postgres"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    useradd = shutil.which("useradd") or shutil.which("adduser")
    if sys.platform != "linux" or useradd is None:
        raise ConfigurationError("PostgreSQL does not run as root", hint="run this as an ordinary user")
    subprocess.run([useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", OS_USER], check=True)
    return pwd.getpwnam(OS_USER)
