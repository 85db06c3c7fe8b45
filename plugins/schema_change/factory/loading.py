"""Every change of a folder as a DAG; one that cannot be loaded shows its error and hides no other."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator, Context, get_parsing_context
from airflow.sdk.exceptions import AirflowFailException

from schema_change.core.changes.load import load_changes
from schema_change.core.changes.procedures import PROCEDURES
from schema_change.factory.change_dag import change_dag, procedure_dag
from schema_change.factory.docs import broken_doc

log = logging.getLogger(__name__)
_NOT_IN_A_DAG_ID = re.compile(r"[^\w.\-]")


def load_change_dags(root: Path, expectations: Path | None = None) -> dict[str, DAG]:
    """Return DAG id → DAG for every change folder below ``root``; in a task, only the DAG the task belongs to.

    ``expectations`` is the folder of suites; None means ``expectations`` beside the ``sql`` folder of ``root``.
    """
    changes, wanted = load_changes(root, expectations), get_parsing_context().dag_id
    dags: dict[str, DAG] = {}
    for change in changes.changes:
        if wanted in (None, change.id):
            try:
                dags[change.id] = change_dag(change)
            except Exception as error:  # one change must not hide the others, whatever is wrong with it
                log.exception("no DAG could be built for %s", change.id)
                dags[change.id] = broken_dag(change.id, error)
    for folder, problem in changes.broken.items():
        dag = broken_dag(folder.name, problem)
        if wanted in (None, dag.dag_id):
            dags[dag.dag_id] = dag
    return dags


def load_procedure_dags() -> dict[str, DAG]:
    """Return DAG id → DAG for every procedure; in a task, only the DAG the task belongs to."""
    wanted = get_parsing_context().dag_id
    return {name: procedure_dag(p) for name, p in PROCEDURES.items() if wanted in (None, name)}


def broken_dag(name: str, error: Exception) -> DAG:
    """Return a DAG that stands for a change which could not be loaded: it shows the error, and fails with it."""
    with DAG(
        dag_id=_NOT_IN_A_DAG_ID.sub("_", name)[:250],
        dag_display_name=f"{name} (broken)",
        description=f"Broken: {str(error).splitlines()[0]}"[:500],
        doc_md=broken_doc(name, error),
        schedule=None,
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"owner": "schema-change"},
        tags=["schema-change", "broken"],
    ) as dag:
        BrokenChangeOperator(task_id="broken", error=str(error))
    return dag


class BrokenChangeOperator(BaseOperator):
    """Fail with the reason why a change could not be loaded."""

    def __init__(self, *, error: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error = error

    def execute(self, context: Context) -> None:
        """Raise the error."""
        raise AirflowFailException(self.error)
