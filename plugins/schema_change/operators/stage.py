"""One stage of a run as a task."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import BaseOperator, Context

from schema_change.core.changes.procedures import Procedure
from schema_change.core.changes.spec import Change
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.runner import Runner
from schema_change.operators.outcome import done_or_skip, task_errors
from schema_change.operators.request import build_request, refuse_unknown_words, run_id_of


class StageOperator(BaseOperator):
    """Run one stage of a change through the core.

    The stage finds its run, and what an earlier try of it did, in the journal of the target. A stage that has nothing
    to do is skipped with the reason in the log. Returns the run's id and the stage's summary. ``backfill`` is mapped:
    each of its tasks begins with another ``shard``.
    """

    def __init__(self, *, stage: str, change: Change | Procedure, shard: int = 0, **kwargs: Any) -> None:
        super().__init__(**{"task_id": stage, **kwargs})
        self.stage = stage
        self.change = change
        self.shard = shard
        self.runner: Runner | None = None

    def execute(self, context: Context) -> Any:
        """Run the stage; one that waits is deferred, so that it holds no worker, and looks again when it is time."""
        with task_errors():
            _, result = self._run(context)
        if result.until is not None:
            self.defer(trigger=DateTimeTrigger(moment=result.until), method_name="go_on")
        return _summary(context, result)

    def go_on(self, context: Context, event: Any = None) -> Any:
        """Run the stage again, now that it is time."""
        return self.execute(context)

    def on_kill(self) -> None:
        """Cancel what runs in the database: a killed client alone would leave it running."""
        if self.runner is not None:
            self.runner.cancel()

    def _run(self, context: Context) -> tuple[Runner, StageResult]:
        self.runner = Runner(build_request(self.change, context), progress=self._progress)
        return self.runner, done_or_skip(self.runner.run(self.stage, self.shard))

    def _progress(self, line: str) -> None:
        self.log.info("%s", line)


class PlanOperator(StageOperator):
    """Run the stage ``plan``; returns the approvals its plan needs, one mapped ``approve`` task for each.

    The list is never empty: a plan that needs no approval yields one entry with an empty role, so that there is a task
    which is skipped and says why. The migration guide and the run's summary are XComs of their own.
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
        needed = [{"role": a.role, "users": list(a.users), "reason": a.reason} for a in approvals]
        return needed or [{"role": ""}]


class PreCheckOperator(StageOperator):
    """Run the stage ``pre_check``; returns the shards of its run, one mapped ``backfill`` task for each."""

    def __init__(self, *, change: Change | Procedure, **kwargs: Any) -> None:
        super().__init__(stage="pre_check", change=change, **kwargs)

    def execute(self, context: Context) -> list[int]:
        """Check, and say how many tasks fill data side by side."""
        with task_errors():
            runner, result = self._run(context)
        context["ti"].xcom_push("run", _summary(context, result))
        return list(range(runner.request.options.shards))


def _summary(context: Context, result: StageResult) -> dict[str, str]:
    dag_run = context["dag_run"]
    return {"run_id": str(run_id_of(dag_run.dag_id, dag_run.run_id)), "summary": result.summary}
