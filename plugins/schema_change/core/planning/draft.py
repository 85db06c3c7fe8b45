"""A change as it would leave the database: both shapes, and what an application would notice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pglast import ast
from pglast.enums import ObjectType

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.changes.spec import Change
from schema_change.core.model import Plan
from schema_change.core.names import Table
from schema_change.core.operations.base import Planned
from schema_change.core.planning.definition import definition, name_of
from schema_change.core.planning.plan import make_plan, plan_operations
from schema_change.core.planning.ratings import Rating, analysed
from schema_change.core.sqltext.grammar import is_a

#: What schemas of ours begin with: a table that goes there is kept, not renamed.
_OURS = "schema_change"


@dataclass(frozen=True, slots=True)
class Draft:
    """A change and its plan, what each operation contributes to it, and both catalogs.

    ``after`` is as the operations leave it; raw SQL changes nothing in it. ``renamed`` gives a table's name of today
    its new one.
    """

    change: Change
    plan: Plan
    parts: Sequence[Planned]
    before: Catalog
    after: Catalog
    renamed: Mapping[Table, Table] = field(default_factory=dict)

    @property
    def touched(self) -> tuple[Table, ...]:
        """Return the relations of the plan that are there before or afterwards."""
        plan = self.plan
        named = (*plan.written, *plan.scope, *(t for step in plan.steps for t in step.tables))
        made = (t for t in self.after.relations if t not in self.before.relations)
        return tuple(t for t in dict.fromkeys((*named, *made)) if self.before.get(t) or self.after.get(t))

    def shapes(self) -> Iterator[tuple[Table, Relation | None, Relation | None]]:
        """Yield each such relation as it is and as it will be; None where it is not there."""
        yield from ((table, self.before.get(table), self.after.get(table)) for table in self.touched)


def draft_of(change: Change, catalog: Catalog, plan: Plan | None = None) -> Draft:
    """Plan a change on a catalog, unless that was done already. Raises PlanError."""
    plan = plan or make_plan(change, catalog)
    parts = plan_operations(change, catalog)
    after = parts[-1].catalog
    renamed: dict[Table, Table] = {}
    for old, new in _renames(plan):
        # No operation can name a table that another one renames, so neither name is in their catalog.
        relation = catalog.get(old)
        if relation is not None and not {old, new} & set(after.relations) and not new.schema.startswith(_OURS):
            renamed[old] = new
            after = after.with_relation(_under(relation, new))
    return Draft(change, plan, parts, catalog, after, renamed)


def _renames(plan: Plan) -> Iterator[tuple[Table, Table]]:
    """Yield the tables that the steps rename or move, each with its last name."""
    origins: dict[Table, Table] = {}
    for statement in (s for step in plan.steps for _, found in analysed(step) for s in found or ()):
        node = statement.node
        if is_a(node, ast.RenameStmt) and node.renameType == ObjectType.OBJECT_TABLE:
            name = Table(statement.tables[0].schema, node.newname)
        elif is_a(node, ast.AlterObjectSchemaStmt) and node.objectType == ObjectType.OBJECT_TABLE:
            name = Table(node.newschema, statement.tables[0].name)
        else:
            continue
        origins[name] = origins.pop(statement.tables[0], statement.tables[0])
    yield from ((old, new) for new, old in origins.items())


def _under(relation: Relation, name: Table) -> Relation:
    """Return a table under another name, which the text of its indexes and triggers has too."""
    old, new = f" ON {name_of(relation.table)} ", f" ON {name_of(name)} "
    return replace(
        relation,
        table=name,
        indexes=tuple(replace(i, definition=i.definition.replace(old, new)) for i in relation.indexes),
        triggers=tuple(replace(t, definition=t.definition.replace(old, new)) for t in relation.triggers),
    )


def changed_columns(draft: Draft) -> dict[Table, frozenset[str]]:
    """Return the relations that change, with the columns that will be another, gone, or under other constraints.

    No column means that the relation as a whole is concerned. One that is only locked, such as the other end of a
    foreign key, is left out.
    """
    found: dict[Table, frozenset[str]] = {}
    for table, old, new in draft.shapes():
        if old is not None and (table in draft.plan.written or new is None or definition(old) != definition(new)):
            names = {c.name for c in old.columns if new is None or not _same(c, new.column(c.name))}
            found[table] = frozenset(names | (_constrained(old, new) if new else set()))
    return found


def _constrained(old: Relation, new: Relation) -> set[str]:
    """Return the columns of the constraints that come or go."""
    differ = set(old.constraints) ^ set(new.constraints)
    return {name for constraint in differ for name in constraint.columns if old.column(name)}


def _same(old: Column, new: Column | None) -> bool:
    return new is not None and (old.type, old.nullable, old.default) == (new.type, new.nullable, new.default)


def compatibility(draft: Draft) -> Rating:
    """Say whether an application that knows only the old shape works on the new one: yes, no or unknown."""
    broken: list[str] = []
    for table, old, new in draft.shapes():
        if old is not None:
            renamed = draft.renamed.get(table)
            gone = f"{table} is called {renamed}" if renamed else f"{table} is gone"
            broken += [gone] if new is None else _broken(old, new)
    if broken:
        return Rating("no", "; ".join(broken))
    if any(operation.kind == "sql" for operation in draft.change.operations):
        return Rating("unknown", "the shape after deploy.sql is known when it was rehearsed")
    return Rating("yes", "nothing that is there today goes away or means something else")


def _broken(old: Relation, new: Relation) -> Iterator[str]:
    """Yield what readers and writers of the old shape will stumble over."""
    for column in old.columns:
        name, now = f"{old.table}.{column.name}", new.column(column.name)
        if now is None:
            yield f"{name} is gone"
        elif now.type != column.type:
            yield f"{name} becomes {now.type}"
        elif column.nullable and not now.nullable:
            yield f"{name} must have a value"
    for added in new.columns:
        given = added.nullable or added.default is not None or added.identity
        if old.column(added.name) is None and not given:
            yield f"{old.table}.{added.name} must be given in every INSERT"
    known = {c.name for c in old.constraints}
    yield from (f"{old.table}: {c.definition}" for c in new.constraints if c.name not in known)
    unique = {i.name for i in old.indexes} | {c.name for c in new.constraints}
    yield from (
        f"{old.table}: no more duplicates of {i.name}" for i in new.indexes if i.unique and i.name not in unique
    )
