"""``drop_table``: moved out of the way at cutover with all its rows, kept for a while, then purged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog, Constraint, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import TableName
from schema_change.core.model import LockMode, Phase, Retired, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned, table_of
from schema_change.core.operations.drop_constraint import DropConstraint
from schema_change.core.recipes import probe, retire
from schema_change.core.recipes.dependents import shown
from schema_change.core.recipes.rows import kept_table
from schema_change.core.sqltext.foreign_keys import foreign_keys_to


class DropTable(Operation):
    """Drop a table; its rows are kept for a while and can be brought back."""

    kind: ClassVar[str] = "drop_table"

    table: TableName = Field(description="Table, as schema.table")
    keep_days: int = Field(default=30, ge=1, le=3650, description="Days that the table is kept before it is purged")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the cutover steps: drop its foreign keys, then move it, with its partitions, out of the way."""
        relation = table_of(catalog, self.table, partitions=True)
        table = relation.table
        family = (relation, *catalog.below(table))
        _refuse_part_of_another(catalog, relation)
        _refuse_used(catalog, family)
        _refuse_changed(relation, context)
        keys = tuple(_outgoing(family))
        if keys and relation.kind == "p":
            raise PlanError(
                f"{table} is partitioned and has foreign keys: {', '.join(c.name for _, c in keys)}; a rollback could "
                "put them back only while they block writes to every partition",
                hint="drop these with drop_constraint in a change before this one",
            )
        parts: list[Planned] = []
        for owner, key in keys:
            operation = DropConstraint(table=owner.quoted, name=key.name)
            parts.append(operation.plan(parts[-1].catalog if parts else catalog, context))
        moves = [(r, kept_table("table", r.table, context.version)) for r in family]
        parents = tuple(dict.fromkeys(c.references for _, c in keys if c.references))
        return Planned(
            catalog=_without(catalog, family, parents),
            steps=(*(s for part in parts for s in part.steps), _move(catalog, moves)),
            data_checks=tuple(retire.is_free(kept, f"table {r.table}") for r, kept in moves),
            written=tuple(r.table for r in family),
            touched=(*parents, *(t for part in parts for t in part.touched)),
            notices=(*_notices(catalog, relation), *(n for part in parts for n in part.notices)),
            retired=(self._retired(catalog, moves, keys),),
        )

    def _retired(
        self, catalog: Catalog, moves: list[tuple[Relation, Table]], keys: tuple[tuple[Table, Constraint], ...]
    ) -> Retired:
        relation, kept = moves[0]
        return Retired(
            kind="table",
            table=relation.table,
            kept=kept,
            key=relation.key,
            keep_days=self.keep_days,
            definition={
                "owner": relation.owner,
                "back": [s for r, k in moves for s in retire.back(catalog, r, k)],
                "tables": [k.name for _, k in moves],
                "foreign_keys": [
                    {
                        "table": [owner.schema, owner.name],
                        "name": c.name,
                        "definition": c.definition,
                        "validated": c.validated,
                        "comment": c.comment,
                        "references": [c.references.schema, c.references.name] if c.references else None,
                    }
                    for owner, c in keys
                ],
            },
        )


def _move(catalog: Catalog, moves: list[tuple[Relation, Table]]) -> Step:
    relation, kept = moves[0]
    return Step(
        phase=Phase.CUTOVER,
        title=f"move {relation.table} to {kept}",
        # Under either name, so that the undo locks it too.
        tables=(*(r.table for r, _ in moves), *(k for _, k in moves)),
        statements=tuple(s for r, k in moves for s in retire.there(catalog, r, k)),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("name_taken", relation=kept.quoted),
        undo=tuple(s for r, k in moves for s in retire.back(catalog, r, k)),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )


def _outgoing(family: tuple[Relation, ...]) -> Iterator[tuple[Table, Constraint]]:
    """Yield the foreign keys to other tables; a partition has those of the partitioned table too, under it."""
    tables = {r.table for r in family}
    seen: set[tuple[Table | None, tuple[str, ...]]] = set()
    for relation in family:
        for constraint in relation.constraints:
            what = (constraint.references, constraint.columns)
            if constraint.type == "f" and constraint.references not in tables and what not in seen:
                seen.add(what)
                yield relation.table, constraint


def _refuse_part_of_another(catalog: Catalog, relation: Relation) -> None:
    table = relation.table
    if relation.partition_of or relation.inherits:
        parent = relation.partition_of or relation.inherits[0]
        how = "DETACH PARTITION … CONCURRENTLY" if relation.partition_of else "NO INHERIT"
        raise PlanError(
            f"the rows of {table} are rows of {parent} too",
            hint=f"take it out of that table first: ALTER TABLE … {how}, in a raw change",
        )
    if relation.kind == "r" and (below := catalog.below(table)):
        raise PlanError(
            f"{', '.join(str(r.table) for r in below)} inherit from {table}",
            hint="drop these first, or ALTER TABLE … NO INHERIT in a raw change",
        )


def _refuse_used(catalog: Catalog, family: tuple[Relation, ...]) -> None:
    """Raise PlanError listing what is made of the tables and would go on as if they were there."""
    tables = {r.table for r in family}
    found = [
        *(u for r in family for u in retire.users_of(r, tables)),
        *(str(k) for t in tables for k in foreign_keys_to(catalog, t) if k.table not in tables),
        *(p for r in family for p in retire.publications_of(catalog, r)),
        *(b for r in family for b in retire.borrowers(catalog, r, retire.sequences_of(catalog, r.table))),
    ]
    if found:
        raise PlanError(
            f"{family[0].table} is used by {', '.join(dict.fromkeys(found))}",
            hint="drop or change these first, each by name, in the same change: drop_view or replace_view, "
            "drop_constraint for a foreign key, set_default for a default; raw SQL in an earlier change for the rest",
        )


def _refuse_changed(relation: Relation, context: PlanContext) -> None:
    """Raise PlanError when an earlier operation may have something left to do in contract, when the table is away."""
    before = context.live.get(relation.table) if context.live is not None else relation
    changed = before is None or any(
        getattr(before, part) != getattr(relation, part) for part in ("columns", "indexes", "triggers")
    )
    if changed or any(t == relation.table for t, _ in context.filled) or context.left_for_contract(relation.table):
        raise PlanError(
            f"an earlier operation of this change works on {relation.table} until it has landed",
            hint="drop the table in a change of its own, behind this one",
        )


def _notices(catalog: Catalog, relation: Relation) -> tuple[str, ...]:
    notices = [
        f"statements that name {relation.table} fail from cutover on; the table is kept, and recover brings it back"
    ]
    if functions := retire.functions_naming(catalog, relation.table.name):
        notices.append(f"these have a word {relation.table.name} in their text: {', '.join(functions)}")
    return tuple(notices)


def _without(catalog: Catalog, family: tuple[Relation, ...], parents: tuple[Table, ...]) -> Catalog:
    """Return the catalog without the tables and without what they were to others."""
    for relation in family:
        catalog = catalog.without(relation.table)
    gone = tuple(f" of {shown(r.table)}" for r in family)
    for parent in filter(None, map(catalog.get, parents)):
        uses = tuple(u for u in parent.uses if not (u.kind == "foreign key" and u.name.endswith(gone)))
        catalog = catalog.with_relation(
            replace(parent, uses=uses, dependants=tuple(d for d in parent.dependants if not d.endswith(gone)))
        )
    return catalog
