"""One stage of a run as a task."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import DownstreamTasksSkipped

from schema_change.core.changes.procedures import Procedure
from schema_change.core.changes.spec import Change
from schema_change.core.execution.waiting import Waiting
from schema_change.core.stages import SHARDED
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.runner import Runner
from schema_change.operators.outcome import done_or_skip, task_errors
from schema_change.operators.request import build_request, refuse_unknown_words, run_id_of
from schema_change.triggers.waiting import WaitingTrigger

#: How long (s) a wait for a lock, or a pause, may hold a worker.
_PARK_AFTER_S = 30.0


class StageOperator(BaseOperator):
    """Run one stage of a change through the core.

    The stage finds its run, and what an earlier try of it did, in the journal of the target. The stages right after it
    that have nothing to do are skipped from here, with the reason in this task's log: they cost no process of their
    own. Returns the run's id and the stage's summary. ``backfill`` is mapped: each of its tasks begins with another
    ``shard``.
    """

    def __init__(self, *, stage: str, change: Change | Procedure, shard: int = 0, **kwargs: Any) -> None:
        super().__init__(**{"task_id": stage, **kwargs})
        self.stage = stage
        self.change = change
        self.shard = shard
        self.runner: Runner | None = None
        self._earlier: Waiting | None = None

    def execute(self, context: Context) -> Any:
        """Run the stage; one that waits is deferred, so that it holds no worker, and goes on when that is over."""
        with task_errors():
            runner, result = self._run(context)
        done_or_skip(result)
        summary = _summary(context, result)
        if runner.skipped:
            # An exception is Airflow's way to skip others and succeed; what was to be returned is pushed before it.
            context["ti"].xcom_push("return_value", summary)
            raise DownstreamTasksSkipped(tasks=list(runner.skipped))  # type: ignore[no-untyped-call]
        return summary

    def go_on(self, context: Context, event: Any = None, waits_for: dict[str, Any] | None = None) -> Any:
        """Run the stage again: it goes on where it waited."""
        self._earlier = Waiting.from_json(waits_for) if waits_for else None
        return self.execute(context)

    def on_kill(self) -> None:
        """Cancel what runs in the database: a killed client alone would leave it running."""
        if self.runner is not None:
            self.runner.cancel()

    def _run(self, context: Context) -> tuple[Runner, StageResult]:
        self.runner = runner = Runner(
            build_request(self.change, context),
            progress=self._progress,
            ahead=True,
            park_after_s=_PARK_AFTER_S,
            earlier=self._earlier,
        )
        result = runner.run(self.stage, self.shard)
        if result.waits_for is not None:
            waits_for = result.waits_for.to_json()
            trigger = WaitingTrigger(runner.request.target.conn_id, waits_for)
            self.defer(trigger=trigger, method_name="go_on", kwargs={"waits_for": waits_for})
        if result.until is not None:
            self.defer(trigger=DateTimeTrigger(moment=result.until), method_name="go_on")
        return runner, result

    def _progress(self, line: str) -> None:
        self.log.info("%s", line)


class PlanOperator(StageOperator):
    """Run the stage ``plan``; returns the approvals its plan needs, one mapped ``approve`` task for each.

    Without any, Airflow skips ``approve``. The migration guide and the run's summary are XComs of their own.
    """

    def __init__(self, *, change: Change | Procedure, **kwargs: Any) -> None:
        super().__init__(stage="plan", change=change, **kwargs)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Plan, and say who has to approve."""
        with task_errors():
            refuse_unknown_words(self.change, context["dag_run"].conf)
            runner, result = self._run(context)
            approvals = runner.approvals()
        context["ti"].xcom_push("run", _summary(context, result))
        context["ti"].xcom_push("guide", result.data.get("guide", result.summary))
        return [{"role": a.role, "users": list(a.users), "reason": a.reason} for a in approvals]


class MigrateOperator(StageOperator):
    """Run the stage ``migrate``; returns the shards of its run, one mapped ``backfill`` task for each.

    Airflow maps over what a task returns, and skips what is mapped over a task that was skipped: where there is
    something to fill, this one never is.
    """

    def __init__(self, *, change: Change | Procedure, **kwargs: Any) -> None:
        super().__init__(stage="migrate", change=change, **kwargs)

    def execute(self, context: Context) -> list[int]:
        """Migrate, and say how many tasks fill data side by side, or that none does."""
        with task_errors():
            runner, result = self._run(context)
        if SHARDED in runner.skipped:
            done_or_skip(result)
        context["ti"].xcom_push("run", _summary(context, result))
        if runner.skipped:
            raise DownstreamTasksSkipped(tasks=list(runner.skipped))  # type: ignore[no-untyped-call]
        return list(range(runner.request.options.shards))


def _summary(context: Context, result: StageResult) -> dict[str, str]:
    dag_run = context["dag_run"]
    return {"run_id": str(run_id_of(dag_run.dag_id, dag_run.run_id)), "summary": result.summary}
