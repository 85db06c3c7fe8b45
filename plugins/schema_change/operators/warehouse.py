"""The upkeep of the template warehouse: its toolkit, days brought up to date, years folded, an emergency."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context

from schema_change.core.errors import ExecutionError
from schema_change.core.warehouse import upkeep
from schema_change.core.warehouse.toolkit import VERSION, install, verify
from schema_change.core.warehouse.upkeep import Member
from schema_change.hooks.schema_change import target_of
from schema_change.operators.outcome import task_errors

YEARS_ONLY, HEALTHY_ONLY, EVERYTHING = "yearly tables only", "healthy tenants only", "everything again"


class WarehouseInstallOperator(BaseOperator):
    """Make or upgrade schema ``_wh``, then compare it with what this release makes; returns what is there."""

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(self, *, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> str:
        """Install and verify."""
        with task_errors(), target_of(self.conn_id).connect("warehouse") as connection:
            changed = install(connection)
            found = verify(connection)
            if not found.is_complete:
                raise ExecutionError("schema _wh is not as it was installed: " + ", ".join(found.differences))
        said = f"schema _wh is {'now' if changed else 'already'} at version {VERSION}"
        self.log.info("%s", said)
        return said


class WarehouseMembersOperator(BaseOperator):
    """Return every template in a tenant's schema, as the arguments of a mapped task.

    The DAG run's params may name some templates; none means all.
    """

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(self, *, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> list[dict[str, str]]:
        """Look for them."""
        with task_errors(), target_of(self.conn_id).connect("warehouse", read_only=True) as connection:
            found = upkeep.members(connection, context["params"]["templates"] or ())
        self.log.info("%s", ", ".join(map(str, found)) or "no tenant has any days")
        return [
            {"template_name": member.template, "tenant": member.tenant, "schema": member.schema} for member in found
        ]


class _MemberOperator(BaseOperator):
    """Something done for one template in one tenant's schema."""

    template_fields: Sequence[str] = ("conn_id", "template_name", "tenant", "schema")

    def __init__(self, *, conn_id: str, template_name: str, tenant: str, schema: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.template_name = template_name
        self.tenant = tenant
        self.schema = schema

    @property
    def member(self) -> Member:
        """Return which one."""
        return Member(self.template_name, self.tenant, self.schema)


class WarehouseRefreshOperator(_MemberOperator):
    """Bring a member's last days up to date, and the views that lack something; how many days, the params say.

    Fails when one of the days does; the others are up to date then.
    """

    def execute(self, context: Context) -> str:
        """Bring them up to date."""
        with task_errors(), target_of(self.conn_id).connect("warehouse") as connection:
            last = upkeep.today(connection)
            done = upkeep.refresh(connection, self.member, last - timedelta(context["params"]["days"] - 1), last)
        self.log.info("%s", done)
        return str(done)


class WarehouseFoldOperator(_MemberOperator):
    """Fold a member's finished year into a table: the one of the params, or the last one."""

    def execute(self, context: Context) -> str:
        """Fold it, and drop its days."""
        with task_errors(), target_of(self.conn_id).connect("warehouse") as connection:
            year = context["params"]["year"] or upkeep.last_finished_year(connection)
            done = upkeep.fold(connection, self.member, str(year))
        self.log.info("%s", done)
        return str(done)


class WarehouseEmergencyOperator(BaseOperator):
    """Restore public access to what is healthy, or to everything again, as the DAG run's params say.

    Returns what the public view reads.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Put the view."""
        params = context["params"]
        template, restore = params["template"], params["restore"]
        schemas: list[str] = []
        with task_errors(), target_of(params["conn_id"]).connect("warehouse") as connection:
            if restore == EVERYTHING:
                upkeep.back_to_normal(connection, template)
            else:
                if restore == HEALTHY_ONLY:
                    schemas = upkeep.healthy_schemas(connection, template)
                upkeep.emergency(connection, template, only_years=restore == YEARS_ONLY, schemas=schemas)
        self.log.warning("public.%s: %s %s", template, restore, ", ".join(schemas))
        return {"template": template, "restored": restore, "schemas": schemas}
