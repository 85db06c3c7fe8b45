"""``warehouse_modify_column``: a template of the warehouse gets another type of a column, while everybody reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

from psycopg import sql
from pydantic import Field

from schema_change.core.catalog.model import Catalog, Column, Index
from schema_change.core.fields import Identifier
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name, quote
from schema_change.core.operations.add_column import AddColumn
from schema_change.core.operations.base import PlanContext, checked, column_of, table_of
from schema_change.core.recipes import dependents, text
from schema_change.core.recipes.carried import Swap, alter, copy, dress_index, indexes_of
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
        years, last, lost = [], [], []
        for table in template.years:
            relation = table_of(catalog, table.quoted, partitions=True)
            column = column_of(relation, self.column)
            if column.type == type_:
                continue  # a run that left its tenant out has converted it
            fill = f"({using or quote(self.column)})::{type_}"
            body = {"table": table.quoted, "column": {"name": beside, "type": type_}, "fill": fill}
            added = AddColumn.model_validate(body).plan(catalog, context)
            swap = Swap(catalog, relation, self.column, beside, type_)
            indexes = _carried_indexes(swap)
            copies = (copy(relation, i, swap.named("new", i.name), self.column, beside) for i in indexes)
            years.append(replace(added, steps=(*added.steps, *copies)))
            last.append(_take_place(swap, column, indexes))
            lost += [f"{table}: constraint {c.name}" for c in relation.constraints if self.column in c.columns]
            lost += [f"{table}: index {i.name}" for i in indexes_of(relation, self.column) if relation.kind == "p"]
        notices = [f"the old values of {self.column} in yearly tables are dropped in contract"]
        if lost:
            notices.append(f"yearly tables lose in contract what is made of {self.column}: {', '.join(lost)}")
        return Reshaped(
            new, tuple(years), last=tuple(last), new_year_columns={self.column: beside}, notices=tuple(notices)
        )

    def column_change(self) -> ColumnChange:
        """Return what a rebuild in place does to the column of yearly tables."""
        using = checked(parse_expression, self.using, "using").text if self.using else None
        hidden = hashed_name("schema_change_old", self.column)
        return ColumnChange("modify", checked(normalise_type, self.type, "type"), using, hidden)


def _carried_indexes(swap: Swap) -> tuple[Index, ...]:
    """Return the indexes made of the column, but for those of constraints, and of a table in partitions."""
    if swap.relation.kind == "p":
        return ()
    constraints = {c.name for c in swap.relation.constraints}
    return tuple(i for i in indexes_of(swap.relation, swap.column) if i.name not in constraints)


def _take_place(swap: Swap, column: Column, indexes: Sequence[Index]) -> Step:
    """Return the contract step in which the new column takes the old one's name, privileges, comment and indexes."""
    table = swap.table
    renamed = (
        sql.SQL("ALTER INDEX {} RENAME TO {}").format(
            Table(table.schema, swap.named("new", index.name)).identifier, sql.Identifier(index.name)
        )
        for index in indexes
    )
    return Step(
        phase=Phase.CONTRACT,
        title=f"let {swap.hidden} take the place of {table}.{column.name}",
        tables=(table,),
        statements=(
            alter(table, "DROP COLUMN {}", column.name),
            alter(table, "RENAME COLUMN {} TO {}", swap.hidden, column.name),
            *map(text, renamed),
            *(s for index in indexes for s in dress_index(swap.relation, index)),
            *dependents.dress(table, column),
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        lasting=False,
    )
