"""``warehouse_modify_column``: a template of the warehouse gets another type of a column, while everybody reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog
from schema_change.core.fields import Identifier
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name, quote
from schema_change.core.operations.add_column import AddColumn
from schema_change.core.operations.base import PlanContext, checked
from schema_change.core.recipes.carried import alter
from schema_change.core.recipes.reconstruction import ColumnChange
from schema_change.core.sqltext.expression import normalise_type, parse_expression
from schema_change.core.warehouse.operation import Reshaped, WarehouseOperation
from schema_change.core.warehouse.template import Template, Tenant


class WarehouseModifyColumn(WarehouseOperation):
    """Change the type of a column of a template of the warehouse: daily views, yearly tables, and all views of them."""

    kind: ClassVar[str] = "warehouse_modify_column"
    example: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"template": "sales", "column": "amount", "type": "numeric(12,2)"}
    )

    column: Identifier = Field(description="Name of the column")
    type: str = Field(description="Its new type")
    using: str | None = Field(
        default=None,
        description="SQL expression over the template's columns that gives the new value; by default a cast",
    )

    @property
    def changed(self) -> str:
        """Return the name of the column."""
        return self.column

    def lacks(self, tenant: Tenant, template: Template) -> bool:
        """Tell whether a tenant has another type of the column."""
        is_new = tenant.types.get(self.column) == checked(normalise_type, self.type, "type")
        return not is_new or self.column in tenant.adapted

    def reshape(self, template: Template, catalog: Catalog, context: PlanContext) -> Reshaped:
        """Return the template with the type; yearly tables get a second column, which takes the name in contract."""
        type_ = checked(normalise_type, self.type, "type")
        place = template.place_of(self.column)
        using = checked(parse_expression, self.using, "using").text if self.using else None
        new = template if template.columns[place][1] == type_ else template.with_type(self.column, type_, using)
        beside = hashed_name("schema_change_next", self.column)
        years, last = [], []
        for table in template.years:
            column = relation.column(self.column) if (relation := catalog.get(table)) is not None else None
            if column is not None and column.type == type_:
                continue  # a run that left its tenant out has converted it
            fill = f"({using or quote(self.column)})::{type_}"
            body = {"table": table.quoted, "column": {"name": beside, "type": type_}, "fill": fill}
            years.append(AddColumn.model_validate(body).plan(catalog, context))
            last.append(_take_place(table, self.column, beside))
        return Reshaped(
            new,
            tuple(years),
            last=tuple(last),
            new_year_columns={self.column: beside},
            notices=tuple(self._notices_of(template)),
        )

    def column_change(self) -> ColumnChange:
        """Return what a rebuild in place does to the column of yearly tables."""
        using = checked(parse_expression, self.using, "using").text if self.using else None
        hidden = hashed_name("schema_change_old", self.column)
        return ColumnChange("modify", checked(normalise_type, self.type, "type"), using, hidden)

    def _notices_of(self, template: Template) -> Iterator[str]:
        if template.indexes_on(self.column):
            yield f"yearly tables lose the indexes on {self.column} in contract; add them again with create_index"
        yield f"the old values of {self.column} in yearly tables are dropped in contract"


def _take_place(table: Table, column: str, beside: str) -> Step:
    return Step(
        phase=Phase.CONTRACT,
        title=f"let {beside} take the place of {table}.{column}",
        tables=(table,),
        statements=(
            alter(table, "DROP COLUMN {}", column),
            alter(table, "RENAME COLUMN {} TO {}", beside, column),
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        lasting=False,
    )
