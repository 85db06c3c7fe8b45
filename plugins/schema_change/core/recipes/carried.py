"""What a column carries, made anew for another column: indexes, constraints, foreign keys of either side.

Everything long is prepared before the swap, under names of our own; the swap only exchanges names. What belongs to the
old column stays with it, under a name of ours, until it is dropped: the way back is the same exchange once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from psycopg import sql

from schema_change.core.catalog.model import Catalog, Constraint, Index, Relation
from schema_change.core.model import Phase, Step
from schema_change.core.names import Table, hashed_name, short_name
from schema_change.core.recipes import constraint as constraint_recipe
from schema_change.core.recipes import conversion, raw, text
from schema_change.core.recipes import index as index_recipe
from schema_change.core.sqltext import renaming

_UNIQUE = {"p": "PRIMARY KEY", "u": "UNIQUE"}


@dataclass(frozen=True, slots=True)
class Carried:
    """What has to be done for something that a column carries, around the swap of the columns' names.

    ``prepare`` and ``finish`` are steps of their own. ``before`` and ``after`` are statements of the swap, under the
    names before and after it; ``undo_before`` and ``undo_after`` those of its undo, under the names after the swap and
    before it. ``contract`` removes what does not go with the old column, ``behind`` tidies up once that is gone.
    ``tables`` are others that are locked, ``parents`` those that are locked in contract only, ``touched`` those whose
    catalog entries change. ``problems`` are what cannot be carried.
    """

    prepare: tuple[Step, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    finish: tuple[Step, ...] = ()
    undo_before: tuple[str, ...] = ()
    undo_after: tuple[str, ...] = ()
    contract: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    parents: tuple[Table, ...] = ()
    touched: tuple[Table, ...] = ()
    problems: tuple[str, ...] = ()

    def __add__(self, other: Carried) -> Carried:
        return Carried(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Carried)})


@dataclass(frozen=True, slots=True)
class Swap:
    """The column whose type changes, and the one that takes its place, of ``type``.

    ``two_way`` tells that both stay filled.
    """

    catalog: Catalog
    relation: Relation
    column: str
    hidden: str
    type: str
    two_way: bool = True

    @property
    def table(self) -> Table:
        """Return the table."""
        return self.relation.table

    def named(self, what: str, name: str, table: Table | None = None) -> str:
        """Return a name for what stands in, for this column, for an index or constraint, by default of the table."""
        owner = table or self.table
        return hashed_name(f"schema_change_{what}", owner.schema, owner.name, name, self.column)

    def alter(self, action: str, *names: str) -> str:
        """Return an ALTER TABLE of it; the names are filled into the action's places."""
        return alter(self.table, action, *names)


def alter(table: Table, action: str, *names: str) -> str:
    """Return an ALTER TABLE; the names are filled into the places of the action."""
    filled = raw(action).format(*map(sql.Identifier, names))
    return text(sql.SQL("ALTER TABLE {} {}").format(table.identifier, filled))


def indexes(swap: Swap) -> Carried:
    """Return what is to be done for the indexes, with the unique constraints and the primary key made of them."""
    backing = {c.name: c for c in swap.relation.constraints if c.type in "pux"}
    found = Carried()
    for index in indexes_of(swap.relation, swap.column):
        constraint = backing.get(index.name)
        if constraint is None:
            found += _index(swap, index)
        elif problem := _unfit(swap, constraint, index):
            found += Carried(problems=(problem,))
        else:
            found += (
                _primary_key(swap, constraint, index) if constraint.type == "p" else _unique(swap, constraint, index)
            )
    return found


def indexes_of(relation: Relation, column: str) -> tuple[Index, ...]:
    """Return the indexes made of a column."""
    return tuple(i for i in relation.indexes if renaming.mentions(i.definition, column))


def copy(relation: Relation, index: Index, name: str, old: str, new: str) -> Step:
    """Return the step that builds an index again, under another name and with another column."""
    definition = renaming.index_copy(index.definition, name, old, new)
    return index_recipe.build(relation.table, name, definition, phase=Phase.CUTOVER, lasting=False)


def _unfit(swap: Swap, constraint: Constraint, index: Index) -> str | None:
    what = f"{_UNIQUE.get(constraint.type, 'EXCLUDE')} constraint {constraint.name}"
    if constraint.type == "x":
        return f"{what} (an exclusion constraint cannot be built without blocking writes)"
    if " DEFERRABLE" in constraint.definition:
        return f"{what} (it is deferrable, its copy could not be)"
    if not swap.two_way and (constraint.type == "p" or "NULLS NOT DISTINCT" in index.definition):
        return f"{what} (it demands values that the old column gets only with down:)"
    return None


def _index(swap: Swap, index: Index) -> Carried:
    new = swap.named("new", index.name)
    passing = swap.named("passing", index.name)
    exchange = tuple(
        text(
            sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                Table(swap.table.schema, one).identifier, sql.Identifier(another)
            )
        )
        for one, another in ((index.name, passing), (new, index.name), (passing, new))
    )
    marks = _marks(swap.relation, index)
    return Carried(
        prepare=(copy(swap.relation, index, new, swap.column, swap.hidden),),
        after=(*exchange, *dress_index(swap.relation, index)),
        undo_before=exchange,
        undo_after=marks,
    )


def _unique(swap: Swap, constraint: Constraint, index: Index) -> Carried:
    new = swap.named("new", index.name)
    old = swap.named("old", index.name)
    comments = (*_comment(swap.relation, index), *constraint_recipe.comment(swap.table, constraint))
    marks = _marks(swap.relation, index)
    return Carried(
        prepare=(copy(swap.relation, index, new, swap.column, swap.hidden),),
        after=(
            swap.alter("RENAME CONSTRAINT {} TO {}", constraint.name, old),
            swap.alter("ADD CONSTRAINT {} UNIQUE USING INDEX {}", constraint.name, new),
            *comments,
            *marks,
        ),
        undo_before=(
            swap.alter("DROP CONSTRAINT {}", constraint.name),
            swap.alter("RENAME CONSTRAINT {} TO {}", old, constraint.name),
        ),
        undo_after=marks,
    )


def _primary_key(swap: Swap, constraint: Constraint, index: Index) -> Carried:
    """Return what is to be done for the primary key: there is one only, so the way back is an index of its own."""
    new = swap.named("new", index.name)
    old = swap.named("old", index.name)
    dressed = (
        *_comment(swap.relation, index),
        *constraint_recipe.comment(swap.table, constraint),
        *_marks(swap.relation, index),
    )
    drop = swap.alter("DROP CONSTRAINT {}", constraint.name)

    def made_of(name: str) -> str:
        return swap.alter("ADD CONSTRAINT {} PRIMARY KEY USING INDEX {}", constraint.name, name)

    return Carried(
        prepare=(
            copy(swap.relation, index, new, swap.column, swap.hidden),
            copy(swap.relation, index, old, swap.column, swap.column),
        ),
        after=(drop, made_of(new), *dressed),
        undo_before=(drop,),
        undo_after=(made_of(old), *dressed),
    )


def dress_index(relation: Relation, index: Index) -> tuple[str, ...]:
    """Return the statements that give an index made anew its comment, and its part in CLUSTER and replica identity."""
    return (*_comment(relation, index), *_marks(relation, index))


def _comment(relation: Relation, index: Index) -> tuple[str, ...]:
    if index.comment is None:
        return ()
    name = Table(relation.table.schema, index.name).identifier
    return (text(sql.SQL("COMMENT ON INDEX {} IS {}").format(name, sql.Literal(index.comment))),)


def _marks(relation: Relation, index: Index) -> tuple[str, ...]:
    clustered = (alter(relation.table, "CLUSTER ON {}", index.name),) if index.clustered else ()
    identity = relation.replica_identity == f"index {index.name}"
    return (*clustered, *((alter(relation.table, "REPLICA IDENTITY USING INDEX {}", index.name),) if identity else ()))


def checks(swap: Swap) -> Carried:
    """Return what is to be done for the CHECK constraints made of the column."""
    found = Carried()
    for constraint in swap.relation.constraints:
        if constraint.type == "n" and swap.column in constraint.columns:
            problem = f"NOT NULL constraint {constraint.name} (it is not validated: validate it first)"
            found += Carried(problems=(problem,))
        if constraint.type == "c" and swap.column in constraint.columns:
            if not swap.two_way and "IS NOT NULL" in constraint.definition:
                problem = (
                    f"CHECK constraint {constraint.name} (it demands values that the old column gets only with down:)"
                )
                found += Carried(problems=(problem,))
            else:
                definition = renaming.check_copy(constraint.definition, swap.column, swap.hidden)
                found += _renamed_constraint(swap, swap.table, constraint, definition)
    return found


def foreign_keys(swap: Swap) -> Carried:
    """Return what is to be done for the foreign keys of the column, and for those that reference it."""
    primary = next((c for c in swap.relation.constraints if c.type == "p"), None)
    found = Carried()
    for relation, key in _keys(swap):
        pairs = tuple(zip(key.columns, renaming.referenced_columns(key.definition), strict=False))
        referencing = relation.table == swap.table and any(mine == swap.column for mine, _ in pairs)
        referenced = key.references == swap.table and any(theirs == swap.column for _, theirs in pairs)
        if not referencing and not referenced:
            continue
        if reason := _unfit_key(swap, relation, key, pairs, referenced=referenced):
            found += Carried(problems=(f"foreign key {key.name} of {relation.table} ({reason})",))
            continue
        renamed = (swap.column, swap.hidden)
        definition = renaming.foreign_key_copy(
            key.definition,
            local=renamed if referencing else None,
            referenced=renamed if referenced else None,
        )
        if not referenced:
            found += _renamed_constraint(swap, relation.table, key, definition)
        elif primary is not None and {theirs for _, theirs in pairs} == set(primary.columns):
            found += _key_of_primary(swap, relation.table, key, definition)
        else:
            found += _key_of_unique(swap, relation.table, key, definition)
    return found


def _unfit_key(
    swap: Swap, relation: Relation, key: Constraint, pairs: tuple[tuple[str, str], ...], *, referenced: bool
) -> str | None:
    if relation.kind != "r" or relation.partition_of:
        return "it belongs to a partitioned table"
    if referenced and not swap.two_way:
        return "it demands values that the old column gets only with down:"

    def type_of(owner: Relation | None, name: str) -> str:
        column = owner.column(name) if owner else None
        if owner is not None and owner.table == swap.table and name == swap.column:
            return swap.type
        return column.type if column else ""

    other = swap.catalog.get(key.references) if key.references else None
    for mine, theirs in pairs:
        here, there = type_of(relation, mine), type_of(other, theirs)
        if not conversion.may_reference(here, there):
            return f"{here} cannot reference {there}: change both columns, the key dropped meanwhile"
    return None


def _keys(swap: Swap) -> Iterator[tuple[Relation, Constraint]]:
    for relation in swap.catalog.around(swap.table):
        known = swap.relation if relation.table == swap.table else relation
        yield from ((known, c) for c in known.constraints if c.type == "f")


def _prepared(table: Table, constraint: Constraint, definition: str, name: str) -> tuple[Step, ...]:
    """Return the steps that add a constraint under a name of ours; one that was not validated is not validated."""
    add, validate = constraint_recipe.add(
        table, name, raw(definition), phase=Phase.CUTOVER, references=constraint.references
    )
    steps = (add, validate) if constraint.validated else (add,)
    return tuple(replace(step, lasting=False) for step in steps)


def _renamed_constraint(swap: Swap, table: Table, constraint: Constraint, definition: str) -> Carried:
    new, old = (swap.named(what, constraint.name, table) for what in ("new", "old"))
    rename = "RENAME CONSTRAINT {} TO {}"
    return Carried(
        prepare=_prepared(table, constraint, definition, new),
        after=(
            alter(table, rename, constraint.name, old),
            alter(table, rename, new, constraint.name),
            *constraint_recipe.comment(table, constraint),
        ),
        undo_before=(
            alter(table, rename, constraint.name, new),
            alter(table, rename, old, constraint.name),
        ),
        contract=(constraint_recipe.drop(table, old),),
        tables=(table,),
        parents=(constraint.references,) if constraint.references else (),
        touched=(table,),
    )


def _key_of_unique(swap: Swap, table: Table, key: Constraint, definition: str) -> Carried:
    """Return what is to be done for a foreign key that references a unique constraint, which its undo drops."""
    carried = _renamed_constraint(swap, table, key, definition)
    old = swap.named("old", key.name, table)
    drop = alter(table, "DROP CONSTRAINT {}", key.name)
    return replace(carried, undo_before=(drop, alter(table, "RENAME CONSTRAINT {} TO {}", old, key.name)))


def _key_of_primary(swap: Swap, table: Table, key: Constraint, definition: str) -> Carried:
    """Return what is to be done for a foreign key that references the primary key.

    It cannot outlive that, so the swap drops it and demands the same of the old column anew, for the way back.
    """
    new, old = (swap.named(what, key.name, table) for what in ("new", "old"))
    rename = "RENAME CONSTRAINT {} TO {}"
    validate = (alter(table, "VALIDATE CONSTRAINT {}", old),) if key.validated else ()
    again = text(
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID").format(
            table.identifier, sql.Identifier(old), raw(definition)
        )
    )
    drop = alter(table, "DROP CONSTRAINT {}", key.name)
    checked = constraint_recipe.validate(table, old, phase=Phase.CUTOVER)
    return Carried(
        prepare=_prepared(table, key, definition, new),
        before=(drop,),
        after=(alter(table, rename, new, key.name), again, *constraint_recipe.comment(table, key)),
        finish=(replace(checked, lasting=False),) if key.validated else (),
        undo_before=(*validate, drop, alter(table, rename, old, key.name)),
        undo_after=constraint_recipe.comment(table, key),
        contract=(constraint_recipe.drop(table, old),),
        tables=(table,),
        touched=(table,),
    )


def not_null_name(relation: Relation, column: str) -> str:
    """Return the name that PostgreSQL 18 would give the column's NOT NULL."""
    return short_name(relation.table.name, column, "not_null")
