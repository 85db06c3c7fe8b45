"""``drop_view``: in contract, so that the application on the old shape reads it until then."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned
from schema_change.core.recipes import probe
from schema_change.core.recipes import view as view_recipe


class DropView(Operation):
    """Drop a view or a materialized view that nothing uses any more."""

    kind: ClassVar[str] = "drop_view"

    view: TableName = Field(description="View, as schema.view")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return one step in contract; before it there is nothing to take back."""
        relation = view_of(catalog, self.view)
        if relation.dependants:
            raise PlanError(
                f"{relation.table} is used by {', '.join(relation.dependants)}",
                hint="drop or replace what uses it first, in the same change or an earlier one",
            )
        word = "materialized view" if relation.kind == "m" else "view"
        step = Step(
            phase=Phase.CONTRACT,
            title=f"drop {word} {relation.table}",
            tables=(relation.table,),
            statements=(view_recipe.drop(relation),),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("relation_absent", relation=relation.table.quoted),
        )
        return Planned(
            catalog=view_recipe.with_uses(catalog, relation.table, None, word).without(relation.table),
            steps=(step,),
            touched=(relation.table,),
            # Its name is free from contract on only.
            filled=frozenset({(relation.table, "")}),
        )


def view_of(catalog: Catalog, name: str) -> Relation:
    """Return a view or materialized view by its name in the change file, or raise PlanError with the remedy."""
    view = Table.parse(name)
    relation = catalog.get(view)
    if relation is None or relation.kind not in {"v", "m"}:
        views = sorted(str(r.table) for r in catalog.relations.values() if r.kind in {"v", "m"})
        raise PlanError(
            f"there is no view {view}" if relation is None else f"{view} is a table, not a view",
            hint=f"views of this database: {', '.join(views[:20]) or 'none'}",
        )
    return relation
