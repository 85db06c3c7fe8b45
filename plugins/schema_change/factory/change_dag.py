"""One change as one DAG, whether a file or a form says what it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, TriggerRule, chain
from airflow.sdk.definitions.param import ParamsDict

from schema_change.core.changes.procedures import Procedure
from schema_change.core.changes.spec import Change
from schema_change.core.stages import SHARDED, STAGES
from schema_change.factory.docs import change_doc, procedure_doc
from schema_change.factory.params import params_of, procedure_params
from schema_change.operators.approve import ApproveOperator
from schema_change.operators.stage import MigrateOperator, PlanOperator, StageOperator

#: Far above what a stage should take; a task that hits its limit cancels its statement and fails. The run itself has no
#: limit: Airflow would skip the rollback.
_LIMITS = {
    "plan": timedelta(hours=1),
    "backup": timedelta(hours=24),
    "pre_check": timedelta(hours=1),
    "rehearse": timedelta(hours=24),
    "migrate": timedelta(hours=24),
    "backfill": timedelta(days=14),
    "cutover": timedelta(hours=24),
    "validate": timedelta(hours=12),
    "soak": timedelta(hours=1),  # of one look
    "contract": timedelta(hours=24),
    "rollback": timedelta(hours=24),
    "verify_rollback": timedelta(hours=12),
    "report": timedelta(hours=1),
    "outcome": timedelta(minutes=30),
}
#: A stage runs unless one before it failed; these run whatever happened and decide by the journal.
_ALWAYS = ("rollback", "report", "outcome")
_CHANGING = STAGES[: STAGES.index("rollback")]


def change_dag(change: Change) -> DAG:
    """Return the DAG of a change."""
    return _dag(
        change,
        change.id,
        params_of(change.conn_id),
        description=change.description,
        doc_md=change_doc(change),
        max_active_runs=1,
        tags=["schema-change", change.conn_id],
    )


def procedure_dag(procedure: Procedure) -> DAG:
    """Return the DAG of a change that needs no file: its params say what it is."""
    return _dag(
        procedure,
        procedure.name,
        procedure_params(procedure),
        dag_display_name=procedure.title,
        description=f"{procedure.title}: fill in the form, or trigger it with --conf",
        doc_md=procedure_doc(procedure),
        tags=["schema-change", "procedure"],
    )


def _dag(source: Change | Procedure, dag_id: str, params: dict[str, Param], **about: Any) -> DAG:
    """Return the stages in a row, rollback after all of them, and ``outcome`` as the only leaf."""
    with DAG(
        dag_id=dag_id,
        schedule=None,
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        catchup=False,
        default_args={"owner": "schema-change", "retries": 2, "retry_delay": timedelta(seconds=5)},
        **about,
    ) as dag:
        plan = PlanOperator(change=source, execution_timeout=_LIMITS["plan"])
        approve = ApproveOperator.partial(
            task_id="approve",
            change=source,
            trigger_rule=TriggerRule.NONE_FAILED,
            map_index_template="{{ task.role }}",
        ).expand_kwargs(plan.output)
        migrate = MigrateOperator(
            change=source, trigger_rule=TriggerRule.NONE_FAILED, execution_timeout=_LIMITS["migrate"]
        )
        backfill = StageOperator.partial(
            task_id=SHARDED,
            stage=SHARDED,
            change=source,
            trigger_rule=TriggerRule.NONE_FAILED,
            execution_timeout=_LIMITS[SHARDED],
            map_index_template="shard {{ task.shard + 1 }}",
        ).expand(shard=migrate.output)
        tasks = {"plan": plan, "approve": approve, "migrate": migrate, SHARDED: backfill}
        tasks |= {stage: _task(stage, source) for stage in STAGES if stage not in tasks}
        chain(*(tasks[stage] for stage in STAGES))
        # Every one of them, not only the last: with two approvals open, one rejection already fails what follows.
        for stage in _CHANGING[:-1]:
            tasks[stage].set_downstream(tasks["rollback"])
        if isinstance(source, Change) and source.surroundings.backfill_dag:
            # Imports Airflow's models, which takes longer than everything else here together.
            from schema_change.operators.backfill_dag import BackfillDagOperator  # noqa: PLC0415

            limit = _LIMITS["backfill"]
            other = BackfillDagOperator(change=source, trigger_rule=TriggerRule.NONE_FAILED, execution_timeout=limit)
            chain(tasks["migrate"], other, [tasks["backfill"], tasks["rollback"]])
    # Set last: every task would get a deep copy of them, which is most of the time a parse takes. In a run, a task
    # sees the params of its DAG all the same.
    dag.params = ParamsDict(params)
    return dag


def _task(stage: str, source: Change | Procedure) -> Any:
    rule = TriggerRule.ALL_DONE if stage in _ALWAYS else TriggerRule.NONE_FAILED
    # A soak lasts for days, in which a server may be restarted; a look that found none must not roll the change back.
    tries: dict[str, Any] = {"retries": 20, "retry_delay": timedelta(minutes=1)} if stage == "soak" else {}
    return StageOperator(stage=stage, change=source, trigger_rule=rule, execution_timeout=_LIMITS[stage], **tries)
