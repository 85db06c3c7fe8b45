"""The demo's stack: one PostgreSQL with Airflow's metadata and the database ``weather``, and one Airflow."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

from demo import processes, weather
from demo.airflow import Airflow
from demo.postgres import Server, outside, reachable
from demo.settings import PG_PORT_VARIABLE, Settings
from schema_change.core.binaries import Installation, installations
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError

log = logging.getLogger(__name__)

METADATA = "airflow"
#: A second database, for the changes that show the operations one by one.
SHOP = "shop"
_SERVER_SETTINGS = {"max_connections": "200", "synchronous_commit": "off", "track_commit_timestamp": "on"}


class Stack:
    """All of it, in one folder. Safe to start again after any crash; ``stop`` ends what an earlier process started."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = settings.home
        # Root's PostgreSQL runs as another user, who may not enter a private home directory.
        self._data = (self.home if reachable(self.home / "postgres") else outside(self.home)) / "postgres"
        self.server = Server(_newest(), self._data, settings.pg_port, _SERVER_SETTINGS)
        self.airflow = Airflow(
            home=self.home / "airflow",
            metadata=self.server.target(METADATA),
            port=settings.ui_port,
            dags=settings.dags,
            plugins=settings.plugins,
            connections={
                "weather": self.weather,
                "flights": self.server.target(weather.DATABASE, "flights"),
                SHOP: self.server.target(SHOP, SHOP),
            },
            settings={
                "AIRFLOW__SCHEMA_CHANGE__CHANGES_FOLDER": str(settings.include / "sql" / "changes"),
                "AIRFLOW__SCHEMA_CHANGE__EXPECTATIONS_FOLDER": str(settings.include / "expectations"),
                "AIRFLOW__SCHEMA_CHANGE__APPROVERS_FILE": str(settings.include / "approvals.yaml"),
                "AIRFLOW__SCHEMA_CHANGE__ARTIFACTS_URL": self.artifacts.as_uri(),
            },
        )

    @property
    def weather(self) -> Target:
        """Return the database that is changed."""
        return self.server.target(weather.DATABASE, "weather")

    @property
    def artifacts(self) -> Path:
        """Return the folder of backups, reports and Data Docs."""
        return self.home / "artifacts"

    @property
    def running(self) -> bool:
        """Tell whether the server and every component of Airflow are up."""
        return self.home.exists() and self.server.running and self.airflow.running

    def start(self) -> None:
        """Start what does not run yet, and wait until Airflow is healthy. The database ``weather`` may be empty.

        Raises ConfigurationError when a port is taken.
        """
        self.start_server()
        self.airflow.start()
        self.airflow.wait_healthy()

    def start_server(self) -> None:
        """Start PostgreSQL and create the databases that are missing."""
        self.home.mkdir(parents=True, exist_ok=True)
        if not self.server.running:
            if processes.listens(self.settings.pg_port):
                raise ConfigurationError(
                    f"port {self.settings.pg_port} (the demo's PostgreSQL) is in use",
                    hint=f"free it, or choose another: {PG_PORT_VARIABLE}=25433 make …",
                )
            self.server.start()
        self._check_port()
        for name in (METADATA, weather.DATABASE):
            self._create_database(name)
        if self._create_database(SHOP):
            with self.server.target(SHOP).connect("demo-load") as connection, connection.transaction():
                weather.run_script(connection, "shop")

    def reset(self) -> None:
        """Forget everything Airflow knows, so that runs of an earlier, interrupted demo do not go on."""
        self.airflow.stop()
        self.start_server()
        weather.recreate_database(self.server.target(), METADATA)

    def load_weather(self) -> dict[str, int]:
        """Make the database ``weather`` anew, whatever was in it; return rows per table."""
        return weather.load(weather.recreate_database(self.server.target(conn_id="weather"), weather.DATABASE))

    def ensure_weather(self) -> dict[str, int]:
        """Load the database ``weather`` unless it holds the demo's tables already; return rows per table."""
        with self.weather.connect("demo") as connection:
            try:
                return weather.row_counts(connection)
            except psycopg.errors.UndefinedTable:
                pass
        return self.load_weather()

    def stop(self) -> None:
        """Stop all of it; nothing happens to what does not run."""
        self.airflow.stop()
        self.server.stop()

    def kill(self) -> None:
        """Kill Airflow at once, with its running tasks; PostgreSQL goes on."""
        self.airflow.kill()

    def remove(self) -> None:
        """Stop all of it and delete its folder."""
        self.stop()
        for folder in (self._data.parent, self.home):
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder's lock. Raises ConfigurationError when another make command works on this stack."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(
                    f"another make command is working on {self.home}", hint="wait for it to end, or stop it with Ctrl-C"
                ) from None
            yield

    def _create_database(self, name: str) -> bool:
        """Create a database unless it is there; return whether it was created."""
        with self.server.target().connect("demo") as connection:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            except psycopg.errors.DuplicateDatabase:
                return False
        return True

    def _check_port(self) -> None:
        port = int((self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[3])
        if port != self.settings.pg_port:
            raise ConfigurationError(
                f"the demo's PostgreSQL already runs on port {port}",
                hint=f"run make down, or: {PG_PORT_VARIABLE}={port} make …",
            )


def _newest() -> Installation:
    found = max(installations(), key=lambda i: i.major, default=None)
    if found is None:
        raise ConfigurationError("no PostgreSQL was found", hint="run: make install")
    if not (found.bin / "initdb").is_file():
        raise ConfigurationError(f"{found.bin} has no initdb, only client programs", hint="run: make install")
    return found
