"""A real Airflow: api-server, scheduler, dag-processor and triggerer, each in a session of its own."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo import processes
from demo.api import AirflowApi, wait_for
from demo.postgres import free_port
from demo.processes import Process
from demo.settings import UI_PORT_VARIABLE
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
#: Users and their roles; who starts a change is not who approves it.
USERS = {"admin": "admin", "dba": "op", "lead": "op", "owner": "op"}
_HEALTH = ("metadatabase", "scheduler", "triggerer", "dag_processor")


@dataclass
class Airflow:
    """One Airflow in one folder, with its metadata in a PostgreSQL database.

    ``connections`` become ``AIRFLOW_CONN_<ID>``. ``settings`` are more environment variables. What has to outlive
    this process (passwords, keys, pids) is in ``<home>/airflow.json``, readable by its owner only.
    """

    home: Path
    metadata: Target
    port: int
    dags: Path
    plugins: Path
    connections: Mapping[str, Target] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Return the address of the UI and the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def passwords(self) -> dict[str, str]:
        """Return the password of each user; empty before the first start."""
        return dict(self._state().get("passwords", {}))

    @property
    def processes(self) -> list[Process]:
        """Return the components as they were last started, running or not."""
        return [Process(**p) for p in self._state().get("processes", [])]

    @property
    def running(self) -> bool:
        """Tell whether every component is alive."""
        known = self.processes
        return len(known) == len(COMPONENTS) and all(p.running for p in known)

    def process(self, component: str) -> Process:
        """Return one component, such as ``scheduler``."""
        return next(p for p in self.processes if p.name == component)

    def api(self, user: str = "admin") -> AirflowApi:
        """Open a session of a user on the REST API."""
        return AirflowApi(self.url, user, self.passwords[user])

    def start(self) -> None:
        """Migrate the metadata database and start every component that does not run; returns before they are ready.

        Raises ConfigurationError when the port is taken or the migration fails.
        """
        alive = {p.name: p for p in self.processes if p.running}
        if alive and self._state()["port"] != self.port:
            raise ConfigurationError(
                f"Airflow already runs on port {self._state()['port']}",
                hint=f"run make down, or: {UI_PORT_VARIABLE}={self._state()['port']} make …",
            )
        if "api-server" not in alive and processes.listens(self.port):
            raise ConfigurationError(
                f"port {self.port} (Airflow's UI) is in use",
                hint=f"free it, or choose another: {UI_PORT_VARIABLE}=28081 make …",
            )
        self._prepare()
        if not alive:
            self._migrate()
        for component in COMPONENTS:
            if component not in alive:
                alive[component] = self._spawn(component)
                self._remember(alive)

    def wait_healthy(self, timeout: float = 120) -> None:
        """Wait until all components report that they are healthy. Raises ConfigurationError with a log's end."""

        def healthy() -> bool | None:
            self.ensure_running()
            if not processes.listens(self.port):
                return None
            with self.api() as api:
                health = api.health()
            return all(health.get(part) == "healthy" for part in _HEALTH) or None

        wait_for(healthy, timeout, f"Airflow's components to be healthy (their logs: {self.home / 'logs'})")

    def wait_for_dags(self, *dag_ids: str, timeout: float = 120) -> None:
        """Wait until DAGs are parsed. Raises ConfigurationError with the import errors when one is left out."""
        deadline = time.monotonic() + timeout
        with self.api() as api:
            while missing := set(dag_ids) - api.dag_ids():
                self.ensure_running()
                if time.monotonic() >= deadline:
                    errors = "".join(f"\n{file}: {_said(trace)}" for file, trace in api.import_errors().items())
                    raise ConfigurationError(
                        f"not parsed in {timeout:.0f} s: {', '.join(sorted(missing))}{errors}",
                        hint=f"see {self._log('dag-processor')}",
                    )
                time.sleep(0.3)

    def stop(self, grace: float = 10) -> None:
        """Stop every component: SIGTERM, ``grace`` seconds, then SIGKILL for all that is left of it."""
        processes.terminate(self.processes, grace)
        self._remember({})

    def kill(self) -> None:
        """Kill everything at once, running tasks too, as a lost machine would."""
        processes.kill(self.processes)
        self._remember({})

    def trigger(self, dag_id: str, conf: Mapping[str, Any], run_id: str) -> None:
        """Start a run with ``airflow dags trigger``. Raises ConfigurationError with what the command said."""
        self.command("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(conf), "--output", "json")

    def command(self, *arguments: str, timeout: float = 120) -> str:
        """Run an ``airflow`` command to its end and return its output."""
        environment = {**self.environment(), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
        try:
            result = subprocess.run(
                [sys.executable, "-m", "airflow", *arguments],
                env=environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigurationError(f"airflow {' '.join(arguments[:2])} took over {timeout:.0f} s") from error
        if result.returncode:
            said = _said(result.stderr or result.stdout)
            raise ConfigurationError(f"airflow {' '.join(arguments[:3])} failed: {said}", hint=f"logs: {self.home}")
        return result.stdout

    def environment(self) -> dict[str, str]:
        """Return the environment of every component and command; a caller's own AIRFLOW and PG variables are left out.

        Raises ConfigurationError before the first start.
        """
        state = self._state()
        if not state:
            raise ConfigurationError(f"no Airflow was started in {self.home}", hint="run: make up")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PG", "_AIRFLOW"))}
        ports = {name: str(port) for name, port in state["ports"].items()}
        ours = {
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__PLUGINS_FOLDER": str(self.plugins),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__FERNET_KEY": state["fernet_key"],
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self.port),
            "API__BASE_URL": self.url,
            "API__SECRET_KEY": state["secret_key"],
            "API_AUTH__JWT_SECRET": state["jwt_secret"],
            "DATABASE__SQL_ALCHEMY_CONN": _sqlalchemy_url(self.metadata),
            "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
            # A restart soon after a crash must find the orphaned tasks: Airflow's own default lets them hang 5 minutes.
            "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
            "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "LOGGING__BASE_LOG_FOLDER": str(self.home / "task_logs"),
            "LOGGING__WORKER_LOG_SERVER_PORT": ports["worker_log"],
            "LOGGING__TRIGGER_LOG_SERVER_PORT": ports["trigger_log"],
            "USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        return {
            **inherited,
            "AIRFLOW_HOME": str(self.home),
            **{f"AIRFLOW__{name}": value for name, value in ours.items()},
            **{f"AIRFLOW_CONN_{conn_id.upper()}": _connection(target) for conn_id, target in self.connections.items()},
            **self.settings,
        }

    def ensure_running(self) -> None:
        """Raise ConfigurationError, with the end of its log, when a component has died."""
        known = self.processes
        processes.reap(known)
        for process in known:
            if not process.running:
                log = self._log(process.name)
                text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
                raise ConfigurationError(f"Airflow's {process.name} died: {_said(text)}", hint=f"see {log}")

    def _prepare(self) -> None:
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        state = self._state() or {
            "passwords": {user: secrets.token_urlsafe(9) for user in USERS},
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "jwt_secret": secrets.token_urlsafe(64),
            "secret_key": secrets.token_urlsafe(32),
            "ports": {},
            "processes": [],
        }
        if not any(Process(**p).running for p in state["processes"]):
            state["port"] = self.port
            state["ports"] = {"worker_log": free_port(), "trigger_log": free_port()}
        self._save(state)
        _write_private(self.home / "passwords.json", state["passwords"])

    def _migrate(self) -> None:
        self.command("db", "migrate")

    def _spawn(self, component: str) -> Process:
        with self._log(component).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "airflow", component],
                env=self.environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # It outlives this object on purpose; its end is seen by pid.
        child.returncode = 0
        return Process.of(component, child.pid)

    def _log(self, component: str) -> Path:
        return self.home / "logs" / f"{component}.log"

    def _remember(self, alive: Mapping[str, Process]) -> None:
        state = self._state()
        if state:
            known = [{"name": p.name, "pid": p.pid, "started": p.started} for p in alive.values()]
            self._save({**state, "processes": known})

    def _state(self) -> dict[str, Any]:
        file = self.home / "airflow.json"
        if not file.exists():
            return {}
        try:
            state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigurationError(f"{file} is damaged: {error}", hint="run: make clean") from error
        return state

    def _save(self, state: Mapping[str, Any]) -> None:
        _write_private(self.home / "airflow.json", state)


def _write_private(file: Path, content: Mapping[str, Any]) -> None:
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(content), encoding="utf-8")
    new.replace(file)


def _sqlalchemy_url(target: Target) -> str:
    p = target.parameters
    return f"postgresql+psycopg2://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}"


def _connection(target: Target) -> str:
    p = target.parameters
    parts = {
        "conn_type": "postgres",
        "host": p["host"],
        "port": int(p["port"]),
        "login": p["user"],
        "schema": p["dbname"],
        "password": p.get("password"),
    }
    return json.dumps({key: value for key, value in parts.items() if value is not None})


def _said(text: str) -> str:
    """Return the line of an output that says best what went wrong: the last error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"(Error|Exception)\b.*:|^error:", line)]
    return (errors or lines or ["(no output)"])[-1][:500]
