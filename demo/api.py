"""Airflow's REST API, as far as the demo and the system tests need it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import httpx

from schema_change.core.errors import ConfigurationError

T = TypeVar("T")
FINAL_STATES = frozenset({"success", "failed"})


class AirflowApi:
    """A session of one user. Every method raises ConfigurationError when Airflow answers with an error."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._user = user
        self._password = password
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def health(self) -> dict[str, str | None]:
        """Return the state of each component, such as ``{"scheduler": "healthy", …}``; no log-in needed."""
        return {name: part.get("status") for name, part in self._call("GET", "/monitor/health", log_in=False).items()}

    def dag_ids(self) -> set[str]:
        """Return the ids of all parsed DAGs."""
        return {dag["dag_id"] for dag in self._call("GET", "/dags", params={"limit": 1000})["dags"]}

    def import_errors(self) -> dict[str, str]:
        """Return the stack trace of each file that could not be parsed."""
        return {e["filename"]: e["stack_trace"] for e in self._call("GET", "/importErrors")["import_errors"]}

    def tasks(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the tasks of a DAG, as Airflow describes them."""
        found: list[dict[str, Any]] = self._call("GET", f"/dags/{dag_id}/tasks")["tasks"]
        return found

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run as this user; return the run's id."""
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self._call("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def unfinished_runs(self) -> list[tuple[str, str]]:
        """Return DAG id and run id of every run that has not ended."""
        runs = self._call("GET", "/dags/~/dagRuns", params={"state": ["running", "queued"], "limit": 100})["dag_runs"]
        return [(run["dag_id"], run["dag_run_id"]) for run in runs]

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run, as Airflow describes it."""
        return self._call("GET", _run(dag_id, run_id))

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: queued, running, success, failed."""
        return str(self.run(dag_id, run_id)["state"])

    def set_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a run as success or failed."""
        self._call("PATCH", _run(dag_id, run_id), json={"state": state})

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run, as Airflow describes them."""
        found: list[dict[str, Any]] = self._call("GET", f"{_run(dag_id, run_id)}/taskInstances")["task_instances"]
        return found

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Return the state of each task of a run; None for one that is not scheduled yet."""
        return {t["task_id"]: t["state"] for t in self.task_instances(dag_id, run_id)}

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> str:
        """Return the log of one try of a task as text."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task_id}/logs/{attempt}"
        content = self._call("GET", path, params={"full_content": "true"})["content"]
        return "\n".join(_line(entry) for entry in content)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return one XCom of a task, deserialized."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._call("GET", path, params={"deserialize": "false", "stringify": "false"})["value"]

    def clear(self, dag_id: str, run_id: str, *task_ids: str, downstream: bool = True) -> None:
        """Clear tasks of a run, with what is downstream of them, so that they run again."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "include_downstream": downstream,
            "reset_dag_runs": True,
        }
        self._call("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task as success or failed, as a person would in the UI."""
        self._call("PATCH", f"{_run(dag_id, run_id)}/taskInstances/{task_id}", json={"new_state": state})

    def pending_approvals(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the questions of a run that nobody has answered yet."""
        found = self._call("GET", f"{_run(dag_id, run_id)}/hitlDetails")["hitl_details"]
        return [detail for detail in found if not detail.get("response_received")]

    def answer(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        option: str,
        params: Mapping[str, Any] | None = None,
        *,
        map_index: int = -1,
    ) -> None:
        """Answer a task's question as this user, for example with ``Approve``.

        Give the task some three seconds in ``awaiting_input`` first: Airflow 3.3 fails a task that is answered before
        its executor has reported that it was put aside.
        """
        path = f"{_run(dag_id, run_id)}/taskInstances/{task_id}/{map_index}/hitlDetails"
        self._call("PATCH", path, json={"chosen_options": [option], "params_input": dict(params or {})})

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float) -> str:
        """Wait for the end of a run and return its state. Raises ConfigurationError after ``timeout`` seconds."""

        def final() -> str | None:
            state = self.run_state(dag_id, run_id)
            return state if state in FINAL_STATES else None

        return wait_for(final, timeout, f"run {run_id} of {dag_id} to end")

    def wait_for_task(self, dag_id: str, run_id: str, task_id: str, states: frozenset[str], timeout: float) -> str:
        """Wait until a task is in one of the states and return it."""

        def reached() -> str | None:
            state = self.task_states(dag_id, run_id).get(task_id)
            return state if state in states else None

        return wait_for(reached, timeout, f"task {task_id} of {run_id} to be {' or '.join(sorted(states))}")

    def _call(self, method: str, path: str, *, log_in: bool = True, **arguments: Any) -> dict[str, Any]:
        try:
            response = self._send(method, path, log_in=log_in, **arguments)
        except httpx.HTTPError as error:
            raise ConfigurationError(
                f"Airflow does not answer at {self._client.base_url}: {error}", hint="run: make status"
            ) from error
        if response.is_error:
            raise ConfigurationError(f"{method} {path} as {self._user}: {response.status_code} {response.text[:500]}")
        result: dict[str, Any] = response.json() if response.content else {}
        return result

    def _send(self, method: str, path: str, *, log_in: bool, **arguments: Any) -> httpx.Response:
        if log_in and "Authorization" not in self._client.headers:
            self._log_in()
        response = self._client.request(method, f"/api/v2{path}", **arguments)
        if log_in and response.status_code == httpx.codes.UNAUTHORIZED:
            self._log_in()
            response = self._client.request(method, f"/api/v2{path}", **arguments)
        return response

    def _log_in(self) -> None:
        response = self._client.post("/auth/token", json={"username": self._user, "password": self._password})
        if response.is_error:
            raise ConfigurationError(f"Airflow refuses the log-in of {self._user}: {response.status_code}")
        self._client.headers["Authorization"] = f"Bearer {response.json()['access_token']}"


def wait_for(condition: Callable[[], T | None], timeout: float, what: str) -> T:
    """Return the first value of ``condition`` that is not None. Raises ConfigurationError when time is up."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value is not None:
            return value
        if time.monotonic() >= deadline:
            raise ConfigurationError(f"waited {timeout:.0f} s for {what}, in vain", hint="run: make status")
        time.sleep(0.3)


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{run_id}"


def _line(entry: Any) -> str:
    return str(entry.get("event", entry)) if isinstance(entry, dict) else str(entry)
