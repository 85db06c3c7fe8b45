"""``warehouse_add_column``: a template of the warehouse gets a column, while everybody goes on reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier
from schema_change.core.model import Tally
from schema_change.core.operations.add_column import AddColumn
from schema_change.core.operations.base import PlanContext, Planned, checked
from schema_change.core.operations.create_index import CreateIndex
from schema_change.core.recipes import beside
from schema_change.core.recipes.beside import Beside
from schema_change.core.recipes.reconstruction import ColumnChange
from schema_change.core.sqltext.expression import normalise_type, parse_expression
from schema_change.core.warehouse.operation import Reshaped, WarehouseOperation
from schema_change.core.warehouse.template import Template, Tenant


class WarehouseAddColumn(WarehouseOperation):
    """Add a column to a template of the warehouse: daily views, yearly tables and all views over them."""

    kind: ClassVar[str] = "warehouse_add_column"
    example: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"template": "sales", "column": "category", "type": "text", "expression": "s.category"}
    )

    column: Identifier = Field(description="Name of the new column, which becomes the template's last one")
    type: str = Field(description="Its type, such as text or numeric(10,2)")
    expression: str = Field(
        description="SQL expression over the rows of the template's query, such as l.waste_category"
    )
    default: str | None = Field(
        default=None, description="SQL constant for rows of finished years that the source does not have any more"
    )
    index: bool = Field(default=False, description="Index the column in every daily view and yearly table")
    history_from: int | None = Field(
        default=None,
        ge=1970,
        le=9999,
        description="First finished year whose rows get their true values from the sources",
    )

    @property
    def changed(self) -> str:
        """Return the name of the column."""
        return self.column

    def lacks(self, tenant: Tenant, template: Template) -> bool:
        """Tell whether a tenant has not got the column yet."""
        return self.column not in tenant.types or self.column in tenant.adapted

    def reshape(self, template: Template, catalog: Catalog, context: PlanContext) -> Reshaped:
        """Return the template with the column, which is added to every yearly table with the default."""
        type_ = checked(normalise_type, self.type, "type")
        expression = checked(parse_expression, self.expression, "expression").text
        fallback = self._fallback()
        if self.history_from is not None and not template.key:
            raise PlanError(
                f"template {template.name} has no unique index by which rows of the sources could be found again",
                hint="leave out history_from, or give the template a unique index first",
            )
        if any(name == self.column for name, _ in template.columns):
            new = template  # a second run, for tenants that were left out
        else:
            new = template.with_column(self.column, type_, expression, index=self.index)
        years: list[Planned] = []
        for table in template.years:
            if (relation := catalog.get(table)) is not None and new is template and relation.column(self.column):
                continue  # a run that left its tenant out has added it
            body = {"table": table.quoted, "column": {"name": self.column, "type": type_, "default": fallback}}
            years.append(AddColumn.model_validate(body).plan(catalog, context))
            if self.index:
                index = CreateIndex.model_validate({"table": table.quoted, "columns": [self.column]})
                years.append(index.plan(years[-1].catalog, context))
        given = "the sources' values where they still have them, else " if self.history_from is not None else ""
        notice = f"rows of finished years get {given}{self.default or 'NULL'}"
        return Reshaped(new, tuple(years), fallback=fallback, history_from=self.history_from, notices=(notice,))

    def tallies(self, change: Beside) -> Iterator[Tally]:
        """Yield what the report counts: the column's values, and where those of finished years come from."""
        yield from super().tallies(change)
        if change.old.years:
            yield beside.history(change)

    def column_change(self) -> ColumnChange:
        """Return what a rebuild in place does to the column of yearly tables. Raises PlanError for history_from."""
        if self.history_from is not None:
            raise PlanError(
                "history_from: a rebuild in place gives rows of finished years the default",
                hint="leave it out, or strategy: build_beside",
            )
        return ColumnChange("add", checked(normalise_type, self.type, "type"), self._fallback(), index=self.index)

    def _fallback(self) -> str | None:
        """Return the default, which the public view shows for tenants that were left out too. Raises PlanError."""
        if self.default is None:
            return None
        default = checked(parse_expression, self.default, "default")
        if default.names or default.tables or default.volatile_hint:
            raise PlanError(
                f"default: {default.text} is no constant",
                hint="write a value, such as 'UNKNOWN'; expression: is over rows",
            )
        return default.text
