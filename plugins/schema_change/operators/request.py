"""Build the core's request from what a task knows: its DAG run, its params, Airflow's configuration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from airflow.sdk import Context
from pydantic import ValidationError

from schema_change.core.changes.procedures import Procedure
from schema_change.core.changes.spec import Change
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.journal.journal import RunRow
from schema_change.core.stages.request import Options, Request
from schema_change.hooks.schema_change import target_of
from schema_change.hooks.settings import Settings

_NAMESPACE = uuid5(NAMESPACE_URL, "airflow-provider-schema-change")
_SOURCE = "airflow:"

#: The params of a change's DAG.
WORDS = ("conn_id", *Options.model_fields)


def run_id_of(dag_id: str, dag_run_id: str) -> UUID:
    """Return the journal's id of a DAG run: the same for a retried, cleared or orphaned task."""
    return uuid5(_NAMESPACE, f"{dag_id}/{dag_run_id}")


def source_of(dag_id: str, dag_run_id: str) -> str:
    """Return what the journal calls the origin of a run, such as ``airflow:004_add_audit_log/manual__1``."""
    return f"{_SOURCE}{dag_id}/{dag_run_id}"


def dag_run_of(source: str) -> tuple[str, str] | None:
    """Return DAG id and DAG run id of an origin, or None when the run did not come from Airflow."""
    dag_id, slash, dag_run_id = source.removeprefix(_SOURCE).partition("/")
    return (dag_id, dag_run_id) if source.startswith(_SOURCE) and slash else None


def refuse_unknown_words(source: Change | Procedure, conf: Mapping[str, Any] | None) -> None:
    """Raise ConfigurationError when a run's conf holds a word that is no param; Airflow accepts any."""
    words = WORDS if isinstance(source, Change) else (*source.schemas(), *WORDS)
    unknown = sorted(set(conf or {}) - set(words))
    if unknown:
        near = difflib.get_close_matches(unknown[0], words, n=1)
        raise ConfigurationError(
            f"unknown in the run's conf: {', '.join(unknown)}{f' (did you mean {near[0]}?)' if near else ''}",
            hint=f"the words are: {', '.join(words)}",
        )


def change_of(source: Change | Procedure, context: Context) -> Change:
    """Return the change of a file, or the one that the params of this DAG run describe."""
    if isinstance(source, Change):
        return source
    params, dag_run = context["params"], context["dag_run"]
    return source.change(
        {name: params.get(name) for name in source.schemas()},
        run=str(run_id_of(dag_run.dag_id, dag_run.run_id)),
        conn_id=params["conn_id"],
        at=dag_run.run_after,
    )


def build_request(source: Change | Procedure, context: Context) -> Request:
    """Return the request of this DAG run. Raises ConfigurationError when params or connections do not fit."""
    params, dag_run, settings = context["params"], context["dag_run"], Settings.read()
    change = change_of(source, context)
    try:
        options = Options(**{name: params[name] for name in Options.model_fields if params.get(name) is not None})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"the run's params do not fit: {problems}", hint="see the trigger form") from error
    return Request(
        run_id=run_id_of(dag_run.dag_id, dag_run.run_id),
        change=change,
        target=target_of(params.get("conn_id") or change.conn_id),
        options=options,
        artifacts=settings.artifacts,
        requested_by=dag_run.triggering_user_name or "",
        requested_from=source_of(dag_run.dag_id, dag_run.run_id),
        scratch=_scratch(settings),
        expectations=_suites(change, settings),
        approvers=settings.approvers(),
        blackouts_file=settings.blackouts_file,
    )


def request_of_run(target: Target, run: RunRow) -> Request:
    """Return the request that ends a run from its journal, with the options it was asked for."""
    settings = Settings.read()
    return Request(
        run_id=run.run_id,
        change=None,
        # Another connection may lead to this database; the run's artifacts are under the one it was asked for with.
        target=replace(target, conn_id=run.conn_id),
        options=Options(**run.options),
        artifacts=settings.artifacts,
        requested_by=run.requested_by,
        requested_from=run.requested_from,
        scratch=_scratch(settings),
    )


def _suites(change: Change, settings: Settings) -> Path | None:
    """Return the folder of expectation suites; a change that names none needs none."""
    if change.expectations is None:
        return None
    return settings.expectations or change.folder.absolute().parents[2] / "expectations"


def _scratch(settings: Settings) -> Target | None:
    return target_of(settings.scratch_conn_id) if settings.scratch_conn_id else None
