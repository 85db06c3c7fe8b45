"""Reconcile runs whose owner is gone, put backups back, keep dropped data for a while and bring it back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError, JournalError
from schema_change.core.journal.journal import RunRow, get_run
from schema_change.core.retention.backups import purge_backups
from schema_change.core.retention.export import export
from schema_change.core.retention.purge import purge
from schema_change.core.retention.recover import recover
from schema_change.core.stages.reconcile import reconcile
from schema_change.core.stages.restore import restore_run
from schema_change.core.surroundings.follow_ups import carry_out
from schema_change.hooks.schema_change import target_of
from schema_change.hooks.settings import Settings
from schema_change.operators.outcome import task_errors
from schema_change.operators.request import dag_run_of, request_of_run

_AT_WORK = ["queued", "running"]


class ReconcileOperator(BaseOperator):
    """Finish, or roll back, the runs of a connection whose DAG run is over without having ended them.

    A run that did not come from Airflow is left alone: nothing here knows whether somebody is still at it. Returns
    what was done, one line per run.
    """

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(self, *, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> list[str]:
        """Look for such runs and end them."""
        ti = context["ti"]

        def is_over(run: RunRow) -> bool:
            dag_run = dag_run_of(run.requested_from)
            if dag_run is None:
                return False
            dag_id, run_id = dag_run
            return bool(ti.get_dr_count(dag_id, run_ids=[run_id], states=_AT_WORK) == 0)

        with task_errors():
            target = target_of(self.conn_id)
            ended = reconcile(target, is_over=is_over, build=partial(request_of_run, target), progress=self._note)
        lines = [f"{run.change_id} ({run.run_id}): {run.action}" for run in ended]
        for line in lines:
            self._note(line)
        if failed := [line for line in lines if ": failed: " in line]:
            raise AirflowFailException("\n".join(failed))
        return lines

    def _note(self, line: str) -> None:
        self.log.info("%s", line)


class FollowUpOperator(BaseOperator):
    """Carry out the follow-up checks of a connection that are due; fails when one of them did not pass.

    Returns one line per check.
    """

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(self, *, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> list[str]:
        """Look for such checks and carry them out."""
        with task_errors():
            results = carry_out(target_of(self.conn_id))
        for result in results:
            self.log.info("%s", result)
        if failed := [str(result) for result in results if result.status != "passed"]:
            raise AirflowFailException("\n".join(failed))
        return list(map(str, results))


class PurgeOperator(BaseOperator):
    """Purge the dropped data of a connection whose time is over; fails when something of it could not be.

    Returns one line per table, column or rows.
    """

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(self, *, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> list[str]:
        """Look for such data and drop it."""
        with task_errors():
            results = purge(target_of(self.conn_id), note=lambda line: self.log.info("%s", line))
        for result in results:
            self.log.info("%s", result)
        if failed := [str(result) for result in results if result.state == "failed"]:
            raise AirflowFailException("\n".join(failed))
        return list(map(str, results))


class PurgeBackupsOperator(BaseOperator):
    """Delete the backups of a connection that are old and not needed; fails when one of them could not be.

    How old, the DAG run's params say. Returns one line per backup.
    """

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(self, *, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> list[str]:
        """Look for such backups and delete them."""
        actor = context["dag_run"].triggering_user_name or ""
        with task_errors():
            results = purge_backups(
                target_of(self.conn_id), Settings.read().artifacts, days=context["params"]["days"], actor=actor
            )
        for result in results:
            self.log.info("%s", result)
        if failed := [str(result) for result in results if result.state == "failed"]:
            raise AirflowFailException("\n".join(failed))
        return list(map(str, results))


class RecoverOperator(BaseOperator):
    """Bring dropped data back, or write it to a CSV file, as the DAG run's params say; returns what was done."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Recover or export."""
        params, actor = context["params"], context["dag_run"].triggering_user_name or ""
        with task_errors():
            target, number = target_of(params["conn_id"]), int(params["id"])
            if params["csv"]:
                file = Settings.read().artifacts / target.conn_id / "retired" / f"{number}.csv"
                rows = export(target, number, file, actor=actor)
                self.log.info("%s rows written to %s", rows, file)
                return {"file": str(file), "rows": rows}
            result = recover(target, number, note=lambda line: self.log.info("%s", line), actor=actor)
        self.log.info("%s", result)
        for line in (*map(str, result.conflicts), *result.notices):
            self.log.warning("%s", line)
        return {
            "recovered": str(result),
            "rows": result.rows,
            "conflicts": list(map(str, result.conflicts)),
            "notices": list(result.notices),
        }


class RestoreOperator(BaseOperator):
    """Put the backup of a run back, as the DAG run's params say; returns which writes were lost."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Check that the person means this run, then restore."""
        params = context["params"]
        with task_errors():
            target, run_id = target_of(params["conn_id"]), UUID(params["run_id"])
            _refuse_unconfirmed(target, run_id, params["confirm"])
            result = restore_run(
                target,
                run_id,
                database=params["scope"] == "database",
                terminate_sessions=params["terminate_sessions"],
                artifacts=Settings.read().artifacts,
                note=lambda line: self.log.info("%s", line),
                actor=context["dag_run"].triggering_user_name or "",
            )
        self.log.warning("%s", result.lost_writes())
        return result.to_json()


def _refuse_unconfirmed(target: Target, run_id: UUID, confirmation: str) -> None:
    with target.connect("restore", read_only=True) as connection:
        run = get_run(connection, run_id)
    if run is None:
        raise JournalError(f"run {run_id} is not in the journal of {target.conn_id}", hint="see the run's report")
    if confirmation != run.change_id:
        raise ConfigurationError(
            f"run {run_id} is not one of {confirmation!r}; nothing was restored",
            hint="type the id of the run's change, as its report shows it",
        )
