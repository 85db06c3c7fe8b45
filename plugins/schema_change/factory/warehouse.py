"""The DAGs of the template warehouse: its toolkit and an emergency on demand, the daily upkeep on a schedule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param

from schema_change.factory.params import conn_id_param
from schema_change.hooks.settings import Settings
from schema_change.operators.warehouse import (
    EVERYTHING,
    HEALTHY_ONLY,
    YEARS_ONLY,
    WarehouseEmergencyOperator,
    WarehouseFoldOperator,
    WarehouseInstallOperator,
    WarehouseMembersOperator,
    WarehouseRefreshOperator,
)

_COMMON: dict[str, Any] = {
    "start_date": datetime(2024, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
    "tags": ["schema-change", "warehouse"],
}
_CONN_ID = "{{ params.conn_id }}"
_NAME = "{{ task.schema }} {{ task.template_name }}"
_TEMPLATE = r"^[a-z][a-z0-9_]{0,62}$"  # as _wh.mv_templates has it
#: Each asks a source of its own; more would wait for each other's views, and hold workers.
_AT_ONCE = 4

_INSTALL = """
Makes or upgrades schema `_wh`, the toolkit of the template warehouse, in one transaction, then compares every function
with what this release makes. The connection's user has to be a superuser: roles and the extension dblink are made. A
warehouse that has functions of its own in `_wh` is left alone.
"""
_REFRESH = """
Brings the last `days` of every template in every tenant's schema up to date: today and yesterday, in UTC, are
refreshed, days that are missing are made. Then the views that lack a new day, or a new tenant, are put anew. A day that
fails loses no other, a tenant that fails loses no other; the task names the days and the reason.

It may run while a column of a template is being changed. It leaves a public view alone that `warehouse_emergency` has
restored in part. It is scheduled once `[schema_change] warehouse_conn_id` names the connection.
"""
_FOLD = """
Makes one table of a finished year's days for every template in every tenant's schema, lets the tenant's view read it,
and drops the daily views. A year with missing days is not folded, and a day whose rows are not all in the table is not
dropped. It can be repeated, and goes on where it was interrupted. It is scheduled once `[schema_change]
warehouse_conn_id` names the connection.
"""
_EMERGENCY = """
Restores reports' access to `public.<template>` at once, when a tenant or the days of this year are broken:

- *yearly tables only*: finished years of all tenants;
- *healthy tenants only*: those whose own database answers;
- *everything again*: ends the emergency.

Until then `warehouse_refresh` goes on with the days, and leaves the public view as it is.
"""


def install_dag() -> DAG:
    """Return the DAG that installs or upgrades the toolkit; it is triggered by a person."""
    with DAG(
        dag_id="warehouse_install",
        description="Installs, upgrades and verifies the toolkit of the template warehouse",
        doc_md=_INSTALL,
        schedule=None,
        params={"conn_id": conn_id_param(Settings.read().warehouse_conn_id)},
        default_args={"owner": "schema-change", "retries": 0},
        **_COMMON,
    ) as dag:
        WarehouseInstallOperator(task_id="install", conn_id=_CONN_ID, execution_timeout=timedelta(minutes=10))
    return dag


def refresh_dag() -> DAG:
    """Return the DAG that brings days up to date, every hour."""
    days = Param(2, "How many, today is one", type="integer", minimum=1, maximum=3660, title="Days")
    return _for_members(
        WarehouseRefreshOperator,
        task_id="refresh",
        execution_timeout=timedelta(hours=6),
        cron="15 * * * *",
        param={"days": days},
        dag_id="warehouse_refresh",
        description="Brings the days of every tenant up to date, and the views that read them",
        doc_md=_REFRESH,
    )


def fold_year_dag() -> DAG:
    """Return the DAG that folds the last year, once yesterday is in the new one."""
    year = Param(
        None,
        "Which; empty: the last that is over in UTC",
        type=["integer", "null"],
        minimum=1000,
        maximum=2999,
        title="Year",
    )
    return _for_members(
        WarehouseFoldOperator,
        task_id="fold",
        execution_timeout=timedelta(hours=24),
        cron="0 3 2 1 *",
        param={"year": year},
        dag_id="warehouse_fold_year",
        description="Makes one table of a finished year's daily views, and drops these",
        doc_md=_FOLD,
    )


def emergency_dag() -> DAG:
    """Return the DAG that restores public access; it is triggered by a person."""
    with DAG(
        dag_id="warehouse_emergency",
        description="Restores public access to what is healthy of a template, or to everything again",
        doc_md=_EMERGENCY,
        schedule=None,
        params={
            "conn_id": conn_id_param(Settings.read().warehouse_conn_id),
            "template": Param(description="As in _wh.mv_templates", type="string", pattern=_TEMPLATE, title="Template"),
            "restore": Param(
                description="What the public view shall read",
                type="string",
                enum=[YEARS_ONLY, HEALTHY_ONLY, EVERYTHING],
                title="Restore",
            ),
        },
        # A report that reads the view is in the way of its exchange; there is no time to come back later.
        default_args={"owner": "schema-change", "retries": 5, "retry_delay": timedelta(seconds=5)},
        **_COMMON,
    ) as dag:
        WarehouseEmergencyOperator(task_id="restore", execution_timeout=timedelta(minutes=30))
    return dag


def _for_members(
    operator: type[WarehouseRefreshOperator | WarehouseFoldOperator],
    *,
    task_id: str,
    execution_timeout: timedelta,
    cron: str,
    param: dict[str, Param],
    **about: Any,
) -> DAG:
    """Return a DAG of one task per template and tenant; without a connection to schedule it for, it is triggered."""
    conn_id = Settings.read().warehouse_conn_id
    templates = Param(
        [],
        "Only these; empty: all",
        type=["array", "null"],
        items={"type": "string", "pattern": _TEMPLATE},
        title="Templates",
    )
    with DAG(
        schedule=CronTriggerTimetable(cron, timezone="UTC") if conn_id else None,
        params={"conn_id": conn_id_param(conn_id), **param, "templates": templates},
        default_args={"owner": "schema-change", "retries": 1, "retry_delay": timedelta(minutes=5)},
        **about,
        **_COMMON,
    ) as dag:
        members = WarehouseMembersOperator(task_id="members", conn_id=_CONN_ID, execution_timeout=timedelta(minutes=10))
        operator.partial(
            task_id=task_id,
            conn_id=_CONN_ID,
            execution_timeout=execution_timeout,
            max_active_tis_per_dagrun=_AT_ONCE,
            map_index_template=_NAME,
        ).expand_kwargs(members.output)
    return dag
