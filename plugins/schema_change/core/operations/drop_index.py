"""``drop_index``: concurrently where PostgreSQL can; a rollback builds the very same index again."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from psycopg import sql
from pydantic import Field

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, Constraint, Index, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import TableName
from schema_change.core.model import DataCheck, LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned
from schema_change.core.recipes import index as index_recipe
from schema_change.core.recipes import probe, text
from schema_change.core.sqltext.grammar import parse


class DropIndex(Operation):
    """Drop an index without blocking writes."""

    kind: ClassVar[str] = "drop_index"

    index: TableName = Field(description="Index, as schema.index")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return one step: at cutover with the build as its undo, or in contract for what cannot be taken back."""
        name = Table.parse(self.index)
        relation, index = _find(catalog, name)
        _refuse_needed(catalog, relation, index)
        partitioned = relation.kind == "p"
        # An index cannot be built again once duplicates came in, that of partitions not in a single step, and what an
        # interrupted build left not as the wreck it was.
        undoable = not (partitioned or index.unique) and index.valid
        step = Step(
            phase=Phase.CUTOVER if undoable else Phase.CONTRACT,
            title=f"drop index {name} of {relation.table}",
            tables=(relation.table,),
            statements=(index_recipe.drop(name) if partitioned else index_recipe.drop_concurrently(name),),
            lock=LockMode.ACCESS_EXCLUSIVE if partitioned else LockMode.SHARE_UPDATE_EXCLUSIVE,
            transactional=partitioned,
            probe=probe("index_absent", index=name.quoted),
            undo=index_recipe.rebuild(index, name.schema) if undoable else (),
            undo_lock=LockMode.SHARE_UPDATE_EXCLUSIVE if undoable else LockMode.NONE,
            undo_transactional=not undoable,
            long=not partitioned,
        )
        # The name stays taken until then, so the index stays in the catalog, good for nothing.
        indexes = tuple(replace(i, valid=False) if i.name == index.name else i for i in relation.indexes)
        return Planned(
            catalog=catalog.with_relation(replace(relation, indexes=indexes)),
            steps=(step,),
            data_checks=(
                *((_attached(name),) if relation.partition_of else ()),
                *((_odd(name),) if undoable else ()),
            ),
            touched=(relation.table, *(r.table for r in catalog.below(relation.table))),
        )


def _find(catalog: Catalog, name: Table) -> tuple[Relation, Index]:
    relation = catalog.owner_of(name)
    if relation is not None and (index := relation.index(name.name)) is not None:
        return relation, index
    here = [r for r in catalog.relations.values() if r.table.schema == name.schema]
    known = sorted(i.name for r in here for i in r.indexes)
    raise PlanError(
        f"there is no index {name}", hint=f"indexes of schema {name.schema}: {', '.join(known[:20]) or 'none'}"
    )


def _refuse_needed(catalog: Catalog, relation: Relation, index: Index) -> None:
    """Raise PlanError when something else stands on the index."""
    where = f"index {index.name} of {relation.table}"
    if any(c.name == index.name and c.type in {"p", "u", "x"} for c in relation.constraints):
        raise PlanError(f"{where} belongs to the constraint of that name", hint="use drop_constraint")
    if relation.replica_identity == f"index {index.name}":
        raise PlanError(
            f"{where} is the table's replica identity",
            hint=f"ALTER TABLE {relation.table.quoted} REPLICA IDENTITY … first",
        )
    if index.clustered:
        raise PlanError(
            f"{where} is the one the table is clustered on",
            hint=f"ALTER TABLE {relation.table.quoted} SET WITHOUT CLUSTER first",
        )
    if index.unique and (users := _foreign_keys_on(catalog, relation, index)):
        raise PlanError(f"{where} is what {', '.join(users)} refers to", hint="drop the foreign keys first")


def _foreign_keys_on(catalog: Catalog, relation: Relation, index: Index) -> list[str]:
    """Return the foreign keys that refer to the columns of the index, when no constraint of the table has them."""
    if any(c.type in {"p", "u"} and set(c.columns) == set(index.columns) for c in relation.constraints):
        return []
    return [
        f"foreign key {c.name} of {other.table}"
        for other in catalog.around(relation.table)
        for c in other.constraints
        if c.type == "f" and c.references == relation.table and _referenced(c) == set(index.columns)
    ]


def _referenced(constraint: Constraint) -> set[str]:
    (alter,) = parse(f"ALTER TABLE t ADD {constraint.definition}")
    return {column.sval for column in alter.stmt.cmds[0].def_.pk_attrs or ()}


def _attached(index: Table) -> DataCheck:
    """Return the check that an index of a partition is not a part of the partitioned table's."""
    where = sql.SQL("FROM pg_catalog.pg_inherits AS h WHERE h.inhrelid = to_regclass({})").format(
        sql.Literal(index.quoted)
    )
    return DataCheck(
        name=f"{index} is a part of the index of the partitioned table",
        count=text(sql.SQL("SELECT count(*) {}").format(where)),
        sample=text(sql.SQL("SELECT h.inhparent::regclass::text {}").format(where)),
        remedy="drop that index instead; it takes those of the partitions with it",
    )


def _odd(index: Table) -> DataCheck:
    """Return the check that an index has nothing its definition does not tell, which a rollback would lose."""
    fragments = sqlfiles.block("queries/recipes", "index_beyond_its_definition")
    found = text(fragments.format(index=sql.Literal(index.quoted)))
    return DataCheck(
        name=f"{index} could not be built again as it is",
        count=text(sql.SQL("SELECT count(*) FROM ({}) AS o").format(sql.SQL(found))),
        sample=found,
        remedy="move it to the default tablespace or reset its statistics targets first, or drop it in a raw change",
    )
