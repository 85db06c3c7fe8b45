"""The data-quality run of a connection: every suite that is for it, on a schedule, results stored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upath import UPath

from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.journal import registry
from schema_change.core.validation.gx import run_suites
from schema_change.core.validation.outcomes import ValidationOutcome
from schema_change.core.validation.results import store_results
from schema_change.core.validation.suites import Suite, load_suite


def run_data_quality(
    target: Target,
    suites_root: Path,
    *,
    run_id: str,
    dag_id: str | None = None,
    docs: UPath | None = None,
    parameters: Mapping[str, Any] | None = None,
    statement_timeout_s: int = 600,
) -> ValidationOutcome:
    """Run every suite below a folder that is for this connection, store the results, return what was found.

    All files are read before anything runs. The registry is installed when it is missing. Raises ChangeFileError for
    a wrong file and ConfigurationError when no suite is for this connection.
    """
    suites = suites_for(target.conn_id, suites_root)
    if not suites:
        raise ConfigurationError(
            f"no suite below {suites_root} is for connection {target.conn_id}",
            hint="write a suite there, with this conn_id or without one",
        )
    outcome = run_suites(
        target,
        suites,
        parameters=parameters,
        docs=docs,
        run_name=run_id,
        statement_timeout_s=statement_timeout_s,
    )
    with target.connect("data-quality") as connection:
        registry.install(connection)
        store_results(connection, outcome.outcomes, run_id=run_id, dag_id=dag_id)
    return outcome


def suites_for(conn_id: str, suites_root: Path) -> tuple[Suite, ...]:
    """Read the YAML files of a folder; return the suites for a connection, in order of their files.

    Files in folders below it are not read: a suite for one change, whose columns may not be there yet, belongs there.
    """
    files = sorted(p for p in suites_root.iterdir() if p.suffix in {".yaml", ".yml"})
    return tuple(s for file in files for s in load_suite(file) if s.conn_id in {None, conn_id})
