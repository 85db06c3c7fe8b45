"""``warehouse_remove_column``: a template of the warehouse loses a column, while everybody goes on reading."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog
from schema_change.core.fields import Identifier
from schema_change.core.names import hashed_name
from schema_change.core.operations.base import PlanContext
from schema_change.core.operations.drop_column import DropColumn
from schema_change.core.recipes.reconstruction import ColumnChange
from schema_change.core.warehouse.operation import Reshaped, WarehouseOperation
from schema_change.core.warehouse.template import Template, Tenant


class WarehouseRemoveColumn(WarehouseOperation):
    """Remove a column from a template of the warehouse; the values of yearly tables are kept for a while."""

    kind: ClassVar[str] = "warehouse_remove_column"
    example: ClassVar[Mapping[str, Any]] = MappingProxyType({"template": "sales", "column": "category"})

    column: Identifier = Field(description="Name of the column")
    keep_days: int = Field(
        default=30, ge=1, le=3650, description="Days that the values of yearly tables are kept before they are purged"
    )

    @property
    def changed(self) -> str:
        """Return the name of the column."""
        return self.column

    @property
    def removed(self) -> str | None:
        """Return the name of the column, which others' views must not name."""
        return self.column

    def lacks(self, tenant: Tenant, template: Template) -> bool:
        """Tell whether a tenant has the column still."""
        return self.column in tenant.types or self.column in tenant.adapted

    def reshape(self, template: Template, catalog: Catalog, context: PlanContext) -> Reshaped:
        """Return the template without the column, which is hidden in yearly tables and dropped in contract."""
        known = any(name == self.column for name, _ in template.columns)
        new = template.without_column(self.column) if known else template
        years = tuple(
            DropColumn(table=table.quoted, column=self.column, keep_days=self.keep_days).plan(catalog, context)
            for table in template.years
            if (relation := catalog.get(table)) is not None and relation.column(self.column) is not None
        )
        # Until contract the old views, which a refresh may make anew, find it under the name it has then.
        hidden = {self.column: hashed_name("schema_change_dropped", self.column)}
        return Reshaped(new, years, old_year_columns=hidden)

    def column_change(self) -> ColumnChange:
        """Return what a rebuild in place does to the column of yearly tables."""
        return ColumnChange("remove", hidden=hashed_name("schema_change_dropped", self.column))
