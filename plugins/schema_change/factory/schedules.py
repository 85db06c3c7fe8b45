"""The DAGs that run beside the changes: data quality and reconcile on a schedule, restore on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, get_current_context, task
from airflow.sdk.definitions.mappedoperator import OperatorPartial

from schema_change.core.changes.load import load_changes
from schema_change.core.retention.backups import KEEP_DAYS
from schema_change.factory.params import CONN_ID, conn_id_param
from schema_change.hooks.settings import Settings
from schema_change.operators.data_quality import DataQualityOperator
from schema_change.operators.maintenance import (
    FollowUpOperator,
    PurgeBackupsOperator,
    PurgeOperator,
    ReconcileOperator,
    RecoverOperator,
    RestoreOperator,
)

_COMMON: dict[str, Any] = {
    "start_date": datetime(2024, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
    "tags": ["schema-change"],
}

_DATA_QUALITY = """
Runs every expectation suite of the suites folder against each connection, once a day, and stores the results in
`schema_change.data_quality_results` of the checked database. A suite that names a `conn_id` runs for that one only.
A failed critical check, or one that could not be carried out, fails the task; other failures are warnings in its log.
"""
_RECONCILE = """
Looks on each connection for runs of a change whose DAG run is over without having ended them: it was marked as failed
or deleted, or a machine was lost. It finishes what is past the point of no return and rolls back everything else, then
frees the tables. A run that is still at work, or was started from the command line, is left alone.
"""
_FOLLOW_UPS = """
Carries out the `follow_ups` of changes that have landed, each once, when its time has come: whether an index is used
after a day, whether rows are there that should not be. The results are in `schema_change.follow_up` of the changed
database. A check that does not pass fails the task, with what was found.
"""
_RETENTION = """
Purges on each connection what changes dropped (tables, columns, deleted rows) once the days are over for which it was
to be kept; nothing of it can be brought back afterwards. What is just being recovered is left for the next day.
`schema-change retired` lists what is kept, and until when.
"""
_BACKUP_RETENTION = """
Deletes on each connection the backups that are older than `days`. Kept, however old, is the backup of a run that has
not ended, and of one that ended less than `days` ago, so that its change can still be taken back. What was deleted is
in the audit trail. `schema-change purge-backups --dry-run` lists what would go.
"""
_RECOVER = """
Brings back what a change dropped, as long as it is kept: a table in its place, the values of a column, deleted rows.
What is there by now is newer and is left alone: the return value and the log say which rows those are. It can be run
again at any time. With *CSV only* the data is written to `<artifacts>/<connection>/retired/<id>.csv` and nothing is
changed.

The id is in `schema_change.retired` of the database; `schema-change retired` lists it.
"""
_RESTORE = """
Puts the backup of one run back, the rows of its tables or the whole database. **Everything written there since the
backup is lost**; the log says between which times, and how many rows each table had. Try rollback first: it undoes the
steps and keeps the writes.

The run's id is the `run_id` in the return value (XCom) of each task of the change, and is in its report and in
`schema-change status`. As confirmation, type the id of the change, which is the name of its DAG.
"""


def data_quality_dag(changes: Path, suites: Path) -> DAG:
    """Return the DAG that checks the data of every connection once a day."""
    return _for_connections(
        changes,
        partial(DataQualityOperator.partial, task_id="check", suites=suites, execution_timeout=timedelta(hours=6)),
        retry_delay=timedelta(minutes=5),
        dag_id="data_quality",
        description="Runs the expectation suites of each connection and stores the results in its database",
        doc_md=_DATA_QUALITY,
        # An interval, @daily too, would run at once when the DAG appears.
        schedule=CronTriggerTimetable("0 6 * * *", timezone="UTC"),
    )


def reconcile_dag(changes: Path) -> DAG:
    """Return the DAG that finishes, or rolls back, runs whose owner is gone."""
    return _for_connections(
        changes,
        partial(ReconcileOperator.partial, task_id="reconcile", execution_timeout=timedelta(hours=24)),
        dag_id="reconcile",
        description="Finishes or rolls back schema changes whose DAG run is over without having ended them",
        doc_md=_RECONCILE,
        schedule=timedelta(minutes=10),
    )


def follow_ups_dag(changes: Path) -> DAG:
    """Return the DAG that carries out the follow-up checks of changes that have landed."""
    return _for_connections(
        changes,
        partial(FollowUpOperator.partial, task_id="follow_up", execution_timeout=timedelta(hours=1)),
        retry_delay=timedelta(minutes=1),
        dag_id="follow_ups",
        description="Carries out the follow-up checks that are due",
        doc_md=_FOLLOW_UPS,
        schedule=CronTriggerTimetable("*/15 * * * *", timezone="UTC"),
    )


def retention_dag(changes: Path) -> DAG:
    """Return the DAG that purges dropped data whose time is over."""
    return _for_connections(
        changes,
        partial(PurgeOperator.partial, task_id="purge", execution_timeout=timedelta(hours=1)),
        retry_delay=timedelta(minutes=5),
        dag_id="retention",
        description="Purges dropped tables, columns and rows that were kept long enough",
        doc_md=_RETENTION,
        schedule=CronTriggerTimetable("0 4 * * *", timezone="UTC"),
    )


def backup_retention_dag(changes: Path) -> DAG:
    """Return the DAG that deletes backups nobody needs any more."""
    days = Param(KEEP_DAYS, "How old a backup gets", type="integer", minimum=1, maximum=36500, title="Days")
    return _for_connections(
        changes,
        partial(PurgeBackupsOperator.partial, task_id="purge_backups", execution_timeout=timedelta(hours=6)),
        retry_delay=timedelta(minutes=5),
        params={"days": days},
        dag_id="backup_retention",
        description="Deletes backups that are old and that no run or restore needs any more",
        doc_md=_BACKUP_RETENTION,
        schedule=CronTriggerTimetable("30 4 * * *", timezone="UTC"),
    )


def _for_connections(
    changes: Path,
    operator: Callable[..., OperatorPartial],
    *,
    retry_delay: timedelta | None = None,
    params: Mapping[str, Param] | None = None,
    **about: Any,
) -> DAG:
    """Return a DAG of one task per connection; one with a delay is tried again once."""
    again = {"retries": 1, "retry_delay": retry_delay} if retry_delay else {"retries": 0}
    with DAG(
        params={**_connections_param(changes), **(params or {})},
        default_args={"owner": "schema-change", **again},
        **about,
        **_COMMON,
    ) as dag:
        operator(map_index_template="{{ task.conn_id }}").expand(conn_id=_connections())
    return dag


def recover_dag() -> DAG:
    """Return the DAG that brings dropped data back; it is triggered by a person."""
    with DAG(
        dag_id="recover",
        description="Brings back a table, a column or rows that a schema change dropped; overwrites nothing",
        doc_md=_RECOVER,
        schedule=None,
        params={
            "conn_id": conn_id_param(None),
            "id": Param(description="Which, as schema-change retired shows it", type="integer", minimum=1, title="Id"),
            "csv": Param(False, "Write it to a file and bring nothing back", type="boolean", title="CSV only"),
        },
        default_args={"owner": "schema-change", "retries": 0},
        **_COMMON,
    ) as dag:
        RecoverOperator(task_id="recover", execution_timeout=timedelta(hours=24))
    return dag


def restore_dag() -> DAG:
    """Return the DAG that puts the backup of a run back; it is triggered by a person."""
    with DAG(
        dag_id="restore",
        description="Puts the backup of a schema change's run back; writes since the backup are lost",
        doc_md=_RESTORE,
        schedule=None,
        params={
            "conn_id": conn_id_param(None),
            "run_id": Param(
                description="Whose backup: the run's id, from its report", type="string", format="uuid", title="Run"
            ),
            "scope": Param(
                "tables",
                "The rows of the tables, or the whole database beside the old one, then renamed",
                type="string",
                enum=["tables", "database"],
                title="Scope",
            ),
            "terminate_sessions": Param(
                False,
                "Whole database only: end the sessions that use it; otherwise they must be gone",
                type="boolean",
                title="Terminate sessions",
            ),
            "confirm": Param(
                description="Type the id of the run's change: everything written since its backup will be lost",
                type="string",
                minLength=1,
                title="Confirmation",
            ),
        },
        default_args={"owner": "schema-change", "retries": 0},
        **_COMMON,
    ) as dag:
        RestoreOperator(task_id="restore", execution_timeout=timedelta(hours=24))
    return dag


@task(task_id="connections")
def _connections() -> list[str]:
    """Return the connections of this run."""
    return list(get_current_context()["params"]["conn_ids"])


def _connections_param(changes: Path) -> dict[str, Param]:
    known = sorted({*Settings.read().conn_ids, *(change.conn_id for change in load_changes(changes).changes)})
    return {
        "conn_ids": Param(
            known,
            "Airflow connections of the databases",
            type="array",
            items={"type": "string", "pattern": CONN_ID},
            title="Target connections",
        )
    }
