"""``rename_column``: another name for a column; both names can be read and written until contract."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from psycopg import sql
from pydantic import Field

from schema_change.core.catalog.model import Catalog, Column, Constraint, Relation, Trigger
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import Expectation, LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.operations.base import Operation, PlanContext, Planned, column_of, table_of
from schema_change.core.recipes import carried, dependents, probe, raw, swap, text, triggers
from schema_change.core.recipes.carried import Carried, alter
from schema_change.core.recipes.dual_write import Conversion, Pair, Side
from schema_change.core.sqltext import renaming


class RenameColumn(Operation):
    """Rename a column; until contract a second column, kept in step both ways, has the other name."""

    kind: ClassVar[str] = "rename_column"

    table: TableName = Field(description="Table, as schema.table")
    column: Identifier = Field(description="Name of the column")
    to: Identifier = Field(description="Its new name")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: add the other name, fill it, index it, exchange the names, drop the old one."""
        relation = table_of(catalog, self.table)
        column = column_of(relation, self.column)
        self._refuse(catalog, relation, column, context)
        side = Side(column.type, column.default, bool(column.identity))
        same = Conversion()
        pair = Pair(relation, column.name, self.to, self.to, column.name, side, side, same, same)
        fired = tuple(t for t in relation.triggers if renaming.fires_on_update_of(t.definition, column.name))
        last = Carried(contract=tuple(s for t in fired for s in self._rewritten(relation.table, t, contract=True)))
        copies = tuple(
            carried.copy(relation, index, _copy_name(relation.table, index.name), column.name, self.to)
            for index in carried.indexes_of(relation, column.name)
            if not any(c.type == "x" and c.name == index.name for c in relation.constraints)
        )
        both = (
            f"until contract {relation.table} has both {column.name} and {self.to}; SELECT * shows both, and a "
            "client's prepared SELECT * fails once with 'cached plan must not change result type'"
        )
        functions = (
            f"functions whose text names {relation.table}.{column.name} are yours to change before contract: "
            "PostgreSQL does not look into them"
        )
        return Planned(
            catalog=catalog.with_relation(_renamed(relation, column, self.to)),
            steps=(
                self._add(pair, column, fired),
                pair.backfill(),
                *copies,
                swap.of_names(pair),
                swap.drop(pair, last),
            ),
            expectations=(
                Expectation(
                    table=relation.table,
                    type="expect_rows_to_satisfy_sql",
                    kwargs={"sql": pair.agree()},
                    check_id=f"{self.to}_agrees",
                    notes=f"{column.name} and {self.to} of every row are equal",
                ),
            ),
            written=(relation.table,),
            touched=_touched(catalog, relation, column.name),
            filled=frozenset({(relation.table, column.name), (relation.table, self.to)}),
            notices=(both, functions),
        )

    def _refuse(self, catalog: Catalog, relation: Relation, column: Column, context: PlanContext) -> None:
        where = f"{relation.table}.{column.name}"
        if relation.column(self.to) is not None:
            raise PlanError(f"{relation.table} already has a column {self.to}", hint="choose another name")
        if column.generated:
            raise PlanError(
                f"{where} is a generated column, of which nothing can be kept in step",
                hint="add a generated column of the new name, and drop the old one in a later change",
            )
        if (relation.table, column.name) in context.filled:
            raise PlanError(
                f"{where} has its values only after the backfill of this change",
                hint="rename it in a change of its own, behind this one",
            )
        swap.refuse_family(catalog, relation)
        swap.refuse_domain(catalog, column.type, "change the type to the domain's base type first, with change_type")

    def _add(self, pair: Pair, column: Column, fired: tuple[Trigger, ...]) -> Step:
        table = pair.relation.table
        add = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}{}").format(
            table.identifier,
            sql.Identifier(self.to),
            raw(column.type),
            raw(f" COLLATE {column.collation}" if column.collation else ""),
        )
        mirror = replace(column, name=self.to)
        return Step(
            phase=Phase.EXPAND,
            title=f"add {table}.{self.to}, kept in step with {column.name}",
            tables=(table,),
            statements=(
                text(add),
                *dependents.dress(table, mirror, options=column.options),
                *(s for t in fired for s in self._rewritten(table, t)),
                *pair.keep(),
            ),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("column_exists", table=table.quoted, column=self.to),
            undo=(
                *pair.drop(),
                *(s for t in fired for s in (dependents.drop_trigger(table, t), *dependents.create_trigger(table, t))),
                alter(table, "DROP COLUMN IF EXISTS {}", self.to),
            ),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
            lasting=False,
        )

    def _rewritten(self, table: Table, trigger: Trigger, *, contract: bool = False) -> tuple[str, ...]:
        """Return the statements that make a trigger fire for both names, or from contract on for the new one."""
        if contract:
            definition = renaming.trigger_copy(trigger.definition, self.column, (self.to,), new=self.to)
        else:
            # The backfill writes the new name, which is no change to anybody.
            definition = renaming.trigger_copy(
                trigger.definition, self.column, (self.column, self.to), only_if=text(triggers.OTHERS)
            )
        drop = dependents.drop_trigger(table, trigger)
        return (drop, *dependents.create_trigger(table, trigger, definition))


def _copy_name(table: Table, index: str) -> str:
    return hashed_name("schema_change_copy", table.schema, index)


def _touched(catalog: Catalog, relation: Relation, column: str) -> tuple[Table, ...]:
    """Return the other relations whose text in the catalog names the column."""
    by_name = {dependents.shown(r.table): r.table for r in catalog.around(relation.table)}
    # A view is named by itself; a foreign key or a policy by its table.
    names = (
        use.name.rpartition(" of " if use.kind == "foreign key" else " on ")[2] for use in relation.users_of(column)
    )
    return tuple(dict.fromkeys(by_name[name] for name in names if name in by_name))


def _renamed(relation: Relation, column: Column, to: str) -> Relation:
    """Return the relation as the operations behind this one find it."""
    old = column.name

    def names(columns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(to if c == old else c for c in columns)

    def definition(constraint: Constraint) -> str:
        if constraint.type == "c":
            return renaming.check_copy(constraint.definition, old, to)
        own = constraint.references == relation.table
        if constraint.type == "f":
            return renaming.foreign_key_copy(
                constraint.definition, local=(old, to), referenced=(old, to) if own else None
            )
        return constraint.definition

    return replace(
        relation,
        columns=tuple(replace(c, name=to) if c.name == old else c for c in relation.columns),
        constraints=tuple(
            replace(c, columns=names(c.columns), definition=definition(c)) if old in c.columns else c
            for c in relation.constraints
        ),
        indexes=tuple(
            replace(
                i,
                columns=names(i.columns),
                definition=renaming.index_copy(i.definition, i.name, old, to, concurrently=False),
            )
            for i in relation.indexes
        ),
        uses=tuple(replace(u, columns=names(u.columns)) for u in relation.uses),
    )
