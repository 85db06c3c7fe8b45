"""``add_foreign_key``: orphans are treated first; new rows are checked at cutover, then those that are there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schema_change.core.catalog.model import Catalog, Constraint, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import DataCheck, Expectation, Step
from schema_change.core.operations.base import Operation, PlanContext, Planned, column_of, expression_of, table_of
from schema_change.core.recipes import constraint as constraints
from schema_change.core.recipes import foreign_key as recipe
from schema_change.core.recipes import orphans as orphan_recipe
from schema_change.core.recipes import rows
from schema_change.core.sqltext.expression import parse_expression
from schema_change.core.sqltext.foreign_keys import ForeignKey, foreign_key

Action = Literal["no_action", "restrict", "cascade", "set_null", "set_default"]


class References(BaseModel):
    """What the columns refer to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: TableName = Field(description="Referenced table, as schema.table")
    columns: tuple[Identifier, ...] = Field(default=(), description="Its columns; those of its primary key by default")


class Placeholder(BaseModel):
    """Insert a row for every value that orphans refer to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    placeholder: dict[Identifier, str] = Field(
        description="SQL expression over the orphan for each other column of the referenced table"
    )


class AddForeignKey(Operation):
    """Add a FOREIGN KEY, or put one in the place of another, without blocking writes while rows are checked."""

    kind: ClassVar[str] = "add_foreign_key"
    example: ClassVar[Mapping[str, Any]] = {"columns": ["change_me"], "references": {"table": "public.change_me"}}

    table: TableName = Field(description="Table whose rows refer to the other one, as schema.table")
    columns: tuple[Identifier, ...] = Field(
        default=(), description="Columns that refer; as the replaced one by default"
    )
    references: References | None = Field(
        default=None, description="What they refer to; as the replaced one by default"
    )
    name: Identifier | None = Field(default=None, description="Name; made from table and columns by default")
    on_delete: Action | None = Field(
        default=None, description="When the referenced row is deleted; no_action by default"
    )
    on_update: Action | None = Field(default=None, description="When the referenced key changes; no_action by default")
    deferrable: Literal["initially_immediate", "initially_deferred"] | None = Field(
        default=None, description="Let a transaction put the check off until COMMIT"
    )
    match: Literal["simple", "full"] | None = Field(
        default=None, description="full: of several columns all are NULL, or none; simple by default"
    )
    orphans: Literal["fail", "delete", "set_null"] | Placeholder = Field(
        default="fail",
        description="What to do with rows that refer to nothing: fail, delete (the rows are kept), set_null, or"
        " {placeholder: {<column>: <expression>}}",
    )
    replace: Identifier | None = Field(
        default=None, description="Foreign key that this one takes the place of; what is not said is taken from it"
    )

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if self.replace is None and (not self.columns or self.references is None):
            raise ValueError("columns and references are needed, unless replace names a foreign key to take them from")
        return self

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: treat orphans, demand the key of new rows, check the others, replace the old one."""
        relation = table_of(catalog, self.table, partitions=True)
        old = self._replaced(catalog, relation)
        shape = self._shape(catalog, relation, old)
        recipe.refuse_unfit(shape)
        name = self._name(relation, shape, old)
        cleaning, checks = self._orphans(catalog, shape, name, old, context)
        added = Constraint(
            name,
            "f",
            recipe.definition_text(shape),
            columns=shape.columns,
            references=shape.parent.table,
            comment=old.constraint.comment if old else None,
        )
        others = tuple(c for c in relation.constraints if old is None or c.name != old.constraint.name)
        last = (cleaning.last,) if cleaning else ()
        steps: tuple[Step, ...] = (
            *(cleaning.before if cleaning else ()),
            *recipe.steps(catalog, shape, name, last, old.constraint if old else None),
            *(cleaning.after if cleaning else ()),
        )
        below = tuple(r.table for r in catalog.below(relation.table))
        made = isinstance(self.orphans, Placeholder) and cleaning is not None
        return Planned(
            catalog=catalog.with_relation(replace(relation, constraints=(*others, added))),
            steps=steps,
            expectations=(_no_orphans(shape, name),),
            data_checks=checks,
            written=(relation.table, *((shape.parent.table,) if made else ())),
            read=() if made else (shape.parent.table,),
            touched=(shape.parent.table, *((old.key.parent,) if old else ()), *below),
            data_migration=cleaning is not None,
            notices=(*(cleaning.notices if cleaning else ()), *recipe.notices(shape)),
            retired=cleaning.retired if cleaning else (),
        )

    def _replaced(self, catalog: Catalog, relation: Relation) -> _Old | None:
        if self.replace is None:
            return None
        constraint = constraints.constraint_of(relation, self.replace)
        if constraint.type != "f":
            raise PlanError(
                f"{self.replace} of {relation.table} is no foreign key", hint="drop it with drop_constraint"
            )
        if _PARTLY.search(constraint.definition):
            raise PlanError(
                f"{self.replace} of {relation.table} is of a kind that this operation does not make: "
                f"{constraint.definition}",
                hint="drop it with drop_constraint, and add the new one with a raw change (deploy.sql, revert.sql)",
            )
        if relation.kind == "p":
            raise PlanError(
                f"{relation.table} is partitioned; a rollback could not give {self.replace} back to its partitions",
                hint="add the new key under another name, and drop the old one with drop_constraint",
            )
        return _Old(constraint, foreign_key(catalog, relation, constraint))

    def _shape(self, catalog: Catalog, relation: Relation, old: _Old | None) -> recipe.Shape:
        """Return what the key is to be; what the change file leaves out comes from the one replaced."""
        parent = (
            table_of(catalog, self.references.table, partitions=True)
            if self.references
            else table_of(catalog, old.key.parent.quoted if old else "", partitions=True)
        )
        columns = self.columns or (old.key.columns if old else ())
        theirs = self.references.columns if self.references else (old.key.parent_columns if old else ())
        for column in columns:
            column_of(relation, column)
        for column in theirs:
            column_of(parent, column)
        return recipe.Shape(
            relation=relation,
            columns=columns,
            parent=parent,
            parent_columns=theirs or recipe.primary_key(parent),
            on_delete=_action(self.on_delete, old.key.on_delete if old else None),
            on_update=_action(self.on_update, old.key.on_update if old else None),
            full=self.match == "full" if self.match else bool(old and " MATCH FULL" in old.constraint.definition),
            deferrable=_DEFERRABLE[self.deferrable] if self.deferrable else (old.deferrable if old else ""),
        )

    def _name(self, relation: Relation, shape: recipe.Shape, old: _Old | None) -> str:
        chosen = self.name or (old.constraint.name if old else None)
        leaving = old.constraint.name if old else None
        return constraints.free_name(relation, chosen, relation.table.name, *shape.columns, "fkey", leaving=leaving)

    def _orphans(
        self, catalog: Catalog, shape: recipe.Shape, name: str, old: _Old | None, context: PlanContext
    ) -> tuple[rows.Cleaning | None, tuple[DataCheck, ...]]:
        """Return what treats the orphans, and the pre-checks."""
        if old is not None and old.demands(shape):
            return None, ()
        reference = orphan_recipe.Reference(shape.relation, shape.columns, shape.parent, shape.parent_columns)
        known = context.has_rows_of(shape.relation.table, shape.columns) and context.has_rows_of(
            shape.parent.table, shape.parent_columns
        )
        partly = (reference.partly_null(),) if shape.full and len(shape.columns) > 1 and known else ()
        if self.orphans == "fail":
            remedy = "correct them, or say what to do with them: orphans: delete, set_null or {placeholder: {…}}"
            return None, (*partly, *((reference.check(remedy),) if known else ()))
        changed = {t for t, _ in context.filled} & {shape.relation.table, shape.parent.table}
        if changed:
            raise PlanError(
                f"orphans: another operation of this change fills or converts columns of {min(changed)}, so that what "
                "is deleted or changed could not be given back",
                hint="treat the orphans in a change of its own",
            )
        cleaning = self._cleaning(catalog, reference, name, whole=shape.full, version=context.version)
        return cleaning, (*partly, *(cleaning.checks if known else ()))

    def _cleaning(
        self, catalog: Catalog, reference: orphan_recipe.Reference, name: str, *, whole: bool, version: str
    ) -> rows.Cleaning:
        table = reference.relation.table
        if reference.relation.kind == "p":
            raise PlanError(
                f"{table} is partitioned; its orphans are not treated by this operation",
                hint="correct them first, for example with a raw backfill on each partition; then orphans: fail",
            )
        if isinstance(self.orphans, Placeholder):
            values = {
                column: expression_of(catalog, parse_expression, value, f"orphans.placeholder.{column}")
                for column, value in self.orphans.placeholder.items()
            }
            kept = rows.kept_table("placeholders", reference.parent.table, name, version)
            return orphan_recipe.placeholders(catalog, reference, values, kept, name)
        if self.orphans == "set_null":
            kept = rows.kept_table("nulls", table, name, version)
            return orphan_recipe.set_null(reference, kept, name, whole=whole)
        if table == reference.parent.table:
            raise PlanError(
                f"{table} refers to itself: deleting orphans would make orphans of the rows below them",
                hint="choose orphans: set_null, which ends each such tree at its topmost row that is left",
            )
        kept = rows.kept_table("rows", table, name, version)
        return rows.delete(catalog, reference.relation, reference.orphaned, kept, name)


@dataclass(frozen=True, slots=True)
class _Old:
    """The foreign key that is replaced."""

    constraint: Constraint
    key: ForeignKey

    @property
    def deferrable(self) -> str:
        definition = self.constraint.definition.removesuffix(" NOT VALID")
        return next((d for d in (" DEFERRABLE INITIALLY DEFERRED", " DEFERRABLE") if definition.endswith(d)), "")

    def demands(self, shape: recipe.Shape) -> bool:
        """Tell whether it has kept orphans out of the columns already."""
        same = (self.key.columns, self.key.parent, self.key.parent_columns) == (
            shape.columns,
            shape.parent.table,
            shape.parent_columns,
        )
        return same and self.constraint.validated and not shape.full


# Of some columns only, or over a range of time.
_PARTLY = re.compile(r" SET (?:NULL|DEFAULT) \(|\bPERIOD ")
_DEFERRABLE = {"initially_immediate": " DEFERRABLE", "initially_deferred": " DEFERRABLE INITIALLY DEFERRED"}


def _action(chosen: str | None, old: str | None) -> str:
    return chosen.replace("_", " ").upper() if chosen else old or "NO ACTION"


def _no_orphans(shape: recipe.Shape, name: str) -> Expectation:
    return Expectation(
        table=shape.relation.table,
        type="expect_no_orphaned_rows",
        kwargs={
            "columns": list(shape.columns),
            "parent_table": str(shape.parent.table),
            "parent_columns": list(shape.parent_columns),
        },
        check_id=name,
    )
