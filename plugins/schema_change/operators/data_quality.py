"""The scheduled data-quality run of one connection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from schema_change.core.validation.quality import run_data_quality, suites_for
from schema_change.hooks.schema_change import target_of
from schema_change.hooks.settings import Settings
from schema_change.operators.outcome import task_errors


class DataQualityOperator(BaseOperator):
    """Run every suite that is for a connection and store the results in the database they are about.

    Fails when a critical check fails or a check cannot be carried out, and is skipped when no suite is for the
    connection. Returns how many checks there were, failed and warned.
    """

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(self, *, conn_id: str, suites: Path, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.suites = suites

    def execute(self, context: Context) -> dict[str, int]:
        """Run the suites."""
        dag_run = context["dag_run"]
        with task_errors():
            if not suites_for(self.conn_id, self.suites):
                raise AirflowSkipException(f"no suite below {self.suites} is for {self.conn_id}")
            outcome = run_data_quality(
                target_of(self.conn_id),
                self.suites,
                run_id=f"{dag_run.dag_id}/{dag_run.run_id}",
                dag_id=dag_run.dag_id,
                docs=Settings.read().artifacts / self.conn_id / "data_quality",
            )
        for check in (*outcome.blocking, *outcome.warnings):
            self.log.warning("%s %s: %s %s", check.severity, check.table, check.check_id, check.error or check.status)
        counts = {"checks": len(outcome.outcomes), "failed": len(outcome.blocking), "warnings": len(outcome.warnings)}
        if outcome.blocking:
            names = ", ".join(f"{check.table} {check.check_id}" for check in outcome.blocking)
            raise AirflowFailException(
                f"{self.conn_id}: {counts['failed']} of {counts['checks']} checks failed: {names}"
            )
        return counts
