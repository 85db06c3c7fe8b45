"""``replace_view``: another query under the same name; what is on the view stays. A rollback brings the old back."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.operations.base import Operation, PlanContext, Planned
from schema_change.core.operations.create_view import ViewOptions
from schema_change.core.operations.drop_view import view_of
from schema_change.core.recipes import probe
from schema_change.core.recipes import view as view_recipe
from schema_change.core.recipes.dependents import create_view
from schema_change.core.sqltext.query import Query


class ReplaceView(Operation):
    """Give a view another query; its owner, privileges, comments and triggers stay."""

    kind: ClassVar[str] = "replace_view"

    view: TableName = Field(description="View, as schema.view")
    query: str = Field(description="One SELECT with named columns; names without a schema mean public")
    options: ViewOptions | None = Field(default=None, description="New options; those it has stay when left out")
    recreate: bool = Field(
        default=False, description="Drop it and create it anew, because the type of a column changes"
    )

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return one step at cutover: in place when its columns stay, else dropped and created in one transaction."""
        relation = view_of(catalog, self.view)
        if relation.kind == "m":
            raise PlanError(
                f"{relation.table} is a materialized view, which cannot be replaced in place",
                hint="create another one, let the application read it, and drop this one in a later change",
            )
        if not relation.owner:
            raise PlanError(f"{relation.table} is created by this change", hint="write the final query in create_view")
        query = view_recipe.query_of(catalog, self.query)
        names = _names(query)
        options = relation.options if self.options is None else self.options.texts
        old = tuple(c.name for c in relation.columns)
        in_place = names == old and not self.recreate
        after = _reshaped(relation, names, options, query)
        step = Step(
            phase=Phase.CUTOVER,
            title=f"replace view {relation.table}",
            tables=(relation.table,),
            statements=(
                (view_recipe.create_or_replace(relation.table, query.text, options),)
                if in_place
                else (
                    view_recipe.drop(relation),
                    *create_view(after),
                )
            ),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("name_taken", relation=relation.table.quoted),
            undo=_undo(relation, in_place=in_place),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
        )
        return Planned(
            catalog=view_recipe.with_uses(catalog, relation.table, query).with_relation(after),
            steps=(step,),
            touched=(relation.table,),
            # What is made of it in this change waits for it.
            filled=frozenset({(relation.table, "")}),
            notices=_notices(relation, old, names),
        )


def _names(query: Query) -> tuple[str, ...]:
    for number, name in enumerate(query.names, 1):
        if name is None:
            raise PlanError(
                f"query: the name of column {number} is not written in it",
                hint="write each column out instead of *, and give expressions a name with AS",
            )
    return tuple(name for name in query.names if name is not None)


def _reshaped(relation: Relation, names: tuple[str, ...], options: tuple[str, ...], query: Query) -> Relation:
    columns = tuple(relation.column(name) or Column(name, "unknown") for name in names)
    return replace(relation, columns=columns, options=options, definition=query.text)


def _undo(relation: Relation, *, in_place: bool) -> tuple[str, ...]:
    if in_place and relation.definition is not None:
        query = relation.definition.strip().rstrip(";")
        return (view_recipe.create_or_replace(relation.table, query, relation.options),)
    if stateful := [rule for rule in relation.rules if not rule.endswith(";")]:
        raise PlanError(
            f"a rule of {relation.table} is not in its usual state: {stateful[0]}",
            hint="enable it (ALTER TABLE … ENABLE RULE), or drop it first",
        )
    if relation.dependants:
        raise PlanError(
            f"the columns of {relation.table} change, but it is used by {', '.join(relation.dependants)}",
            hint="keep its columns, or drop what uses it first and create it again afterwards",
        )
    return (view_recipe.drop(relation), *create_view(relation))


def _notices(relation: Relation, old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    gone = [name for name in old if name not in new]
    if not gone:
        return ()
    return (f"from cutover on view {relation.table} has no column {', '.join(gone)} any more",)
