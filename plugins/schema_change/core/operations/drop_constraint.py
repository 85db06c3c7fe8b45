"""``drop_constraint``: a CHECK or foreign key goes at cutover, a key with its index in contract."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog, Constraint, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import DataCheck, LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned, table_of
from schema_change.core.recipes import constraint as constraints
from schema_change.core.recipes import probe
from schema_change.core.sqltext.foreign_keys import foreign_keys_to

_WITH_INDEX = {"p": "primary key", "u": "unique constraint", "x": "exclusion constraint"}


class DropConstraint(Operation):
    """Drop a constraint by name.

    A CHECK or FOREIGN KEY is dropped at cutover; a rollback puts it back and checks the rows again. A primary key,
    unique or exclusion constraint is dropped in contract: its index could not be built again once duplicates came in.
    So is a foreign key of a partitioned table.
    """

    kind: ClassVar[str] = "drop_constraint"

    table: TableName = Field(description="Table, as schema.table")
    name: Identifier = Field(description="Name of the constraint")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the one step."""
        relation = table_of(catalog, self.table, partitions=True)
        constraint = constraints.constraint_of(relation, self.name)
        _refuse_inherited(catalog, relation, constraint)
        tables = tuple(dict.fromkeys((relation.table, constraint.references or relation.table)))
        below = tuple(r.table for r in catalog.below(relation.table))
        # Each partition has a foreign key of its own, under a name that could not be given back.
        if constraint.type in _WITH_INDEX or (constraint.type == "f" and relation.kind == "p"):
            return Planned(
                # Until contract it is there, and its name is taken.
                catalog=catalog,
                steps=(_dropped(relation, constraint, tables, Phase.CONTRACT),),
                data_checks=_unneeded(catalog, relation, constraint) if constraint.type in _WITH_INDEX else (),
                written=(relation.table,),
                touched=(*tables[1:], *below),
            )
        step = replace(
            _dropped(relation, constraint, tables, Phase.CUTOVER),
            undo=constraints.put_back(relation.table, constraint),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
            undo_transactional=False,
        )
        others = tuple(c for c in relation.constraints if c.name != constraint.name)
        return Planned(
            catalog=catalog.with_relation(replace(relation, constraints=others)),
            steps=(step,),
            written=(relation.table,),
            touched=(*tables[1:], *below),
            notices=(_stops_rollback(constraint),) if constraint.validated else (),
        )


def _stops_rollback(constraint: Constraint) -> str:
    return (
        f"rows written after cutover that break {constraint.name} stop a rollback until they are corrected: it puts "
        "the constraint back first, which refuses more of them"
    )


def _dropped(relation: Relation, constraint: Constraint, tables: tuple[Table, ...], phase: Phase) -> Step:
    table = relation.table
    return Step(
        phase=phase,
        title=f"drop constraint {constraint.name} of {table}",
        tables=tables,
        statements=(constraints.drop(table, constraint.name),),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("constraint_absent", table=table.quoted, constraint=constraint.name),
    )


def _unneeded(catalog: Catalog, relation: Relation, constraint: Constraint) -> tuple[DataCheck, ...]:
    """Raise PlanError when something stands on a key's index; return the check for what the catalog does not show."""
    what = f"{_WITH_INDEX[constraint.type]} {constraint.name} of {relation.table}"
    users = [
        key for key in foreign_keys_to(catalog, relation.table) if set(key.parent_columns) == set(constraint.columns)
    ]
    if users and constraint.type != "x":
        raise PlanError(
            f"{what} is what {', '.join(map(str, users))} refers to", hint="drop the foreign keys first, each by name"
        )
    refuse_replicated(relation, constraint)
    return (constraints.views_on(relation.table, constraint.name),) if constraint.type == "p" else ()


def refuse_replicated(relation: Relation, constraint: Constraint) -> None:
    """Raise PlanError when replication tells rows apart by the constraint's index."""
    by_default = constraint.type == "p" and not relation.replica_identity
    published = [str(use) for use in relation.uses if use.kind == "publication"]
    if relation.replica_identity == f"index {constraint.name}" or (by_default and published):
        raise PlanError(
            f"{constraint.name} of {relation.table} is the table's replica identity"
            + (f", by which {', '.join(published)} tells rows apart" if published else ""),
            hint=f"choose another: ALTER TABLE {relation.table.quoted} REPLICA IDENTITY … first",
        )


def _refuse_inherited(catalog: Catalog, relation: Relation, constraint: Constraint) -> None:
    parents = (*relation.inherits, *((relation.partition_of,) if relation.partition_of else ()))
    for parent in filter(None, map(catalog.get, parents)):
        for theirs in parent.constraints:
            alike = theirs.name == constraint.name or (constraint.type != "c" and theirs.columns == constraint.columns)
            # Keys of a table that others merely inherit from stay with it.
            if theirs.type == constraint.type and alike and (relation.partition_of or constraint.type == "c"):
                raise PlanError(
                    f"{constraint.name} of {relation.table} comes from {theirs.name} of {parent.table}",
                    hint=f"name {parent.table} as the table",
                )
