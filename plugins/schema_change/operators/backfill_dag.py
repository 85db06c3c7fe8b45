"""Another DAG that fills data, between migrate and backfill."""

from __future__ import annotations

from functools import partial
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRuntimeError,
    AirflowSkipException,
    DagRunTriggerException,
)

from schema_change.core.changes.spec import Change
from schema_change.core.stages import BACKFILL_DAG
from schema_change.core.stages.runner import Runner
from schema_change.operators.outcome import task_errors
from schema_change.operators.request import build_request, run_id_of


class BackfillDagOperator(TriggerDagRunOperator):
    """Trigger the DAG that a change names and wait for its end, without a worker.

    Its run's id is made of the change's run, so that a second try goes on with the same DAG run, begun anew. A DAG that
    fails, or is paused, fails this task, and the change is rolled back.
    """

    def __init__(self, *, change: Change, poke_interval: int = 5, **kwargs: Any) -> None:
        other = change.surroundings.backfill_dag
        assert other is not None  # noqa: S101 - the factory adds this task for such a change only
        super().__init__(
            task_id=BACKFILL_DAG,
            trigger_dag_id=other.dag_id,
            conf=dict(other.conf),
            reset_dag_run=True,
            wait_for_completion=True,
            deferrable=True,
            fail_when_dag_is_paused=True,
            poke_interval=poke_interval,
            **kwargs,
        )
        self.change = change

    def execute(self, context: Context) -> None:
        """Record that it begins, and trigger it."""
        dag_run = context["dag_run"]
        self.trigger_run_id = f"schema_change__{run_id_of(dag_run.dag_id, dag_run.run_id)}"
        with task_errors():
            begun = self._runner(context).record_backfill_dag("started", f"{self.trigger_dag_id} {self.trigger_run_id}")
        if not begun:
            raise AirflowSkipException("dry run: nothing was changed")
        try:
            super().execute(context)
        except DagRunTriggerException:
            raise  # how an operator asks Airflow to trigger, and to wait
        except (AirflowException, AirflowRuntimeError) as error:
            self._failed(context, error)

    def execute_complete(self, context: Context, event: Any) -> None:
        """Record how it ended."""
        try:
            super().execute_complete(context, event)
        except AirflowException as error:
            self._failed(context, error)
        with task_errors():
            self._runner(context).record_backfill_dag("done", f"{self.trigger_dag_id} has ended well")

    def _failed(self, context: Context, error: Exception) -> None:
        with task_errors():
            self._runner(context).record_backfill_dag("failed", str(error) or type(error).__name__)
        raise AirflowFailException(str(error)) from error

    def _runner(self, context: Context) -> Runner:
        return Runner(build_request(self.change, context), progress=partial(self.log.info, "%s"))
