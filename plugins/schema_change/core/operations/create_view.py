"""``create_view``: a view, or a materialized view with its rows."""

from __future__ import annotations

from typing import ClassVar, Literal

from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned
from schema_change.core.recipes import probe, text
from schema_change.core.recipes import view as view_recipe
from schema_change.core.recipes.index import is_taken
from schema_change.core.sqltext.query import Query

Privilege = Literal["select", "insert", "update", "delete", "truncate", "references", "trigger"]


class ViewOptions(BaseModel):
    """How a view is evaluated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    security_barrier: bool = Field(default=False, description="Rows it hides are hidden from functions as well")
    security_invoker: bool = Field(default=False, description="Who reads it needs the privileges on its tables")
    check_option: Literal["local", "cascaded"] | None = Field(
        default=None, description="Rows written through it must be visible in it"
    )

    @property
    def texts(self) -> tuple[str, ...]:
        """Return them as the catalog has them."""
        flags = [f"{name}=true" for name in ("security_barrier", "security_invoker") if getattr(self, name)]
        return (*([f"check_option={self.check_option}"] if self.check_option else []), *flags)


class CreateView(Operation):
    """Create a view or a materialized view."""

    kind: ClassVar[str] = "create_view"

    view: TableName = Field(description="View, as schema.view")
    query: str = Field(description="One SELECT; names without a schema mean public")
    materialized: bool = Field(default=False, description="Store the rows; REFRESH MATERIALIZED VIEW renews them")
    options: ViewOptions = ViewOptions()
    comment: str | None = Field(default=None, description="Comment on the view")
    grants: dict[Identifier, tuple[Privilege, ...]] = Field(
        default={}, description="Roles and what they may do, such as {reader: [select]}"
    )

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return one step; at cutover when the query reads a column that has its final shape only then."""
        view = Table.parse(self.view)
        if is_taken(catalog, view) or (view, "") in context.filled:
            raise PlanError(
                f"there is already a relation or index {view}", hint="use replace_view, or choose another name"
            )
        if self.materialized and self.options.texts:
            raise PlanError("a materialized view has none of these options", hint="remove options:")
        query = view_recipe.query_of(catalog, self.query)
        names = tuple(n for n in query.names if n is not None)
        columns = tuple(Column(n, "unknown") for n in names) if len(names) == len(query.names) else ()
        kind = "m" if self.materialized else "v"
        relation = Relation(view, kind, owner="", columns=columns, definition=query.text, options=self.options.texts)
        phase = phase_of(query, catalog, context)
        step = Step(
            phase=phase,
            title=f"create {'materialized ' if self.materialized else ''}view {view}",
            tables=(view,),
            statements=self._statements(view, query),
            # Nobody sees it before it is there, and reading its tables blocks nobody.
            lock=LockMode.NONE,
            probe=probe("name_taken", relation=view.quoted),
            undo=(view_recipe.drop(relation),),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
            long=self.materialized,
        )
        word = "materialized view" if self.materialized else "view"
        return Planned(
            catalog=view_recipe.with_uses(catalog, view, query, word).with_relation(relation),
            steps=(step,),
            read=tuple(t for t in query.reads.tables if catalog.get(t)) if self.materialized else (),
            touched=(view,),
            # What is made of it in this change waits for it.
            filled=frozenset({(view, "")} if phase is Phase.CUTOVER else ()),
        )

    def _statements(self, view: Table, query: Query) -> tuple[str, ...]:
        found = [view_recipe.create(view, query.text, self.options.texts, materialized=self.materialized)]
        if self.comment is not None:
            found.append(view_recipe.comment_on(view, self.comment, materialized=self.materialized))
        for role, privileges in self.grants.items():
            grant = sql.SQL("GRANT {} ON {} TO {}").format(
                sql.SQL(", ").join(sql.SQL(p.upper()) for p in privileges),
                view.identifier,
                sql.SQL("PUBLIC") if role == "public" else sql.Identifier(role),
            )
            found.append(text(grant))
        return tuple(found)


def phase_of(query: Query, catalog: Catalog, context: PlanContext) -> Phase:
    """Return cutover when the query may read a column that this change fills or swaps, else expand."""
    everything = any("*" in parts for parts in query.reads.names)
    for table in query.reads.tables:
        relation = catalog.get(table)
        columns = tuple(c.name for c in relation.columns) if relation and everything else query.reads.columns
        if context.phase_for(table, ("", *columns)) is Phase.CUTOVER:
            return Phase.CUTOVER
    return Phase.EXPAND
