"""One short transaction in which two columns change names, with everything that is made of them.

The exchange of names is its own inverse, so the undo is the same transaction with the parts in the reverse order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from schema_change.core import recipes as probes
from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import carried, dependents, not_null, raw, text
from schema_change.core.recipes.carried import Carried, Swap
from schema_change.core.recipes.dual_write import Pair
from schema_change.core.sqltext import grammar, renaming

_FILE = "queries/dual_write"
_NATIVE_SINCE = 180000
_NOTHING = Carried()
_OF_INTEGERS = {"smallint", "integer", "bigint"}


def probe(name: str, **values: str) -> str:
    """Return a probe of ``queries/dual_write.sql`` with its values filled in."""
    return text(sqlfiles.block(_FILE, name).format(**{k: sql.Literal(v) for k, v in values.items()}))


def exchange_names(table: Table, one: str, another: str) -> tuple[str, ...]:
    """Return the statements that give each of two columns the other's name."""
    passing = hashed_name("schema_change_passing", table.schema, table.name, one)
    rename = "RENAME COLUMN {} TO {}"
    pairs = ((one, passing), (another, one), (passing, another))
    return tuple(carried.alter(table, rename, old, new) for old, new in pairs)


def of_type(catalog: Catalog, pair: Pair) -> tuple[tuple[Step, ...], Carried]:
    """Return the cutover steps that put the new column in the old one's place, and all they carry over.

    Raises PlanError listing what is in the way.
    """
    swap = Swap(catalog, pair.relation, pair.column, pair.hidden, pair.new.type, two_way=pair.down is not None)
    parts = (
        _attributes(swap, pair),
        carried.indexes(swap),
        carried.checks(swap),
        carried.foreign_keys(swap),
        dependents.of_column(swap),
    )
    everything = sum(parts, Carried())
    refuse(pair.relation, pair.column, everything.problems)
    undo = (
        *pair.refuse_if_one_way(),
        *(s for part in reversed(parts) for s in part.undo_before),
        *exchange_names(swap.table, pair.column, pair.hidden),
        *pair.before_cutover(),
        *(s for part in parts for s in part.undo_after),
    )
    step = Step(
        phase=Phase.CUTOVER,
        title=f"swap {swap.table}.{pair.column}: {pair.old.type} to {pair.new.type}",
        tables=tuple(dict.fromkeys((swap.table, *everything.tables))),
        statements=(
            *(s for part in reversed(parts) for s in part.before),
            *exchange_names(swap.table, pair.column, pair.hidden),
            *pair.after_cutover(),
            *(s for part in parts for s in part.after),
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("column_type", table=swap.table.quoted, column=pair.column, type=pair.new.type),
        undo=undo,
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )
    prepare = (*_not_null(swap, catalog.server_version), *everything.prepare, *_analyze(swap))
    return (*prepare, step, *everything.finish), everything


def of_names(pair: Pair) -> Step:
    """Return the cutover step in which the column takes its new name; what it carries goes with it."""
    table = pair.relation.table
    return Step(
        phase=Phase.CUTOVER,
        title=f"rename {table}.{pair.column} to {pair.column_after}; the old name is kept in step",
        tables=(table,),
        statements=(*exchange_names(table, pair.column, pair.hidden), *pair.after_cutover()),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probes.probe("column_exists", table=table.quoted, column=pair.column_after),
        undo=(*exchange_names(table, pair.column, pair.hidden), *pair.before_cutover()),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )


def refuse_family(catalog: Catalog, relation: Relation) -> None:
    """Raise PlanError for a table with parents or children: their columns are one."""
    others = (*relation.inherits, *(r.table for r in catalog.below(relation.table)))
    if others:
        raise PlanError(
            f"{relation.table} is part of an inheritance tree, with {', '.join(map(str, others))}",
            hint="use a raw change (deploy.sql, revert.sql, verify.sql)",
        )


def refuse_domain(catalog: Catalog, kind: str, hint: str) -> None:
    """Raise PlanError for a domain with constraints or a default: adding a column of it rewrites the table."""
    names = {f"domain {kind}", f"domain public.{kind}"}
    definition = next((d.partition("\n")[0] for n, d in catalog.objects.items() if n in names), "")
    if any(word in definition for word in (" CHECK ", " NOT NULL", " DEFAULT ")):
        raise PlanError(
            f"{kind} is a domain with constraints or a default, so adding a column of it rewrites the table", hint=hint
        )


def refuse(relation: Relation, column: str, problems: Sequence[str]) -> None:
    """Raise PlanError that lists what cannot be carried over, if anything."""
    if problems:
        raise PlanError(
            f"{relation.table}.{column} is used by what cannot be made anew: {'; '.join(dict.fromkeys(problems))}",
            hint="drop these in a change before this one and create them again behind it",
        )


def drop(pair: Pair, everything: Carried = _NOTHING) -> Step:
    """Return the contract step that removes the column which is not wanted any more, and what keeps it in step."""
    table = pair.relation.table
    return Step(
        phase=Phase.CONTRACT,
        title=f"drop {table}.{pair.hidden_after}, kept in step until now",
        tables=tuple(dict.fromkeys((table, *everything.tables, *everything.parents))),
        statements=(
            *pair.drop(),
            *everything.contract,
            carried.alter(table, "DROP COLUMN IF EXISTS {}", pair.hidden_after),
            *everything.behind,
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("column_absent", table=table.quoted, column=pair.hidden_after),
    )


def _not_null(swap: Swap, server_version: int) -> tuple[Step, ...]:
    """Return the steps that forbid NULL in the new column where the old one forbids it."""
    column = swap.relation.column(swap.column)
    if column is None or column.nullable:
        return ()
    made = replace(column, name=swap.hidden, nullable=True)
    steps = not_null.steps(swap.relation.with_column(made), swap.hidden, server_version)
    return tuple(replace(step, lasting=False) for step in steps)


def _analyze(swap: Swap) -> tuple[Step, ...]:
    """Return the step that gives the planner statistics of the expressions of the indexes built."""
    if all(renaming.is_plain(i.definition) for i in carried.indexes_of(swap.relation, swap.column)):
        return ()
    step = Step(
        phase=Phase.CUTOVER,
        title=f"refresh the planner's statistics of {swap.table}",
        tables=(swap.table,),
        statements=(probes.analyze(swap.table),),
        lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
        lasting=False,
        long=True,
    )
    return (step,)


def _attributes(swap: Swap, pair: Pair) -> Carried:
    """Return what is to be done for default, identity, sequence, comment, privileges and NOT NULL."""
    column = swap.relation.column(swap.column)
    assert column is not None  # noqa: S101 - the operation has looked
    found = Carried(after=tuple(dependents.dress(swap.table, column)))
    if column.identity:
        found += _identity(swap, {"a": "ALWAYS", "d": "BY DEFAULT"}[column.identity])
    elif column.default is not None:
        found += _default(swap, column.default, pair.new.default or column.default)
    found += sequences(swap, pair.old.type, pair.new.type)
    if not column.nullable:
        if pair.down is None:
            found += Carried(
                after=(swap.alter("ALTER COLUMN {} DROP NOT NULL", swap.hidden),),
                undo_after=(swap.alter("ALTER COLUMN {} SET NOT NULL", swap.column),),
            )
        if swap.catalog.server_version >= _NATIVE_SINCE:
            named = carried.not_null_name(swap.relation, swap.column)
            found += Carried(behind=(_block("name_not_null", swap, column=swap.column, name=named),))
    return found


def _default(swap: Swap, old: str, new: str) -> Carried:
    def given(default: str) -> tuple[str, str]:
        identifier = sql.Identifier(swap.column)
        put = sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {}")
        take = swap.alter("ALTER COLUMN {} DROP DEFAULT", swap.hidden)
        return take, text(put.format(swap.table.identifier, identifier, raw(default)))

    return Carried(after=given(new), undo_after=given(old))


def _identity(swap: Swap, kind: str) -> Carried:
    """Return what is to be done for an identity: the other column has it after the swap, and after the undo."""
    move = _block("move_identity", swap, kind=kind, source_name=swap.hidden, target_name=swap.column)
    return Carried(after=(move,), undo_after=(move,))


def sequences(swap: Swap, old: str, new: str) -> Carried:
    """Return what is to be done for sequences owned by the column: they follow the name, and the type's range."""
    owned = f" owned by {dependents.shown(swap.table)}.{grammar.identifier(swap.column)}"
    column = swap.relation.column(swap.column)
    found = Carried()
    for name, definition in swap.catalog.objects.items():
        first = definition.partition("\n")[0]
        if not name.startswith("sequence ") or not first.endswith(owned) or (column and column.identity):
            continue
        kind = first.split(" ", 1)[0]
        follows = kind == old and new in _OF_INTEGERS

        def own(as_type: str, sequence: str = name.removeprefix("sequence "), follows: bool = follows) -> str:
            return text(
                sql.SQL("ALTER SEQUENCE {} {}OWNED BY {}").format(
                    raw(sequence),
                    raw(f"AS {as_type} " if follows else ""),
                    sql.SQL("{}.{}").format(swap.table.identifier, sql.Identifier(swap.column)),
                )
            )

        found += Carried(after=(own(new),), undo_after=(own(old),))
    return found


def _block(block: str, swap: Swap, **values: str) -> str:
    literals = {key: sql.Literal(value) for key, value in {"table": swap.table.quoted, **values}.items()}
    return text(sql.SQL("DO {}").format(sql.Literal(text(sqlfiles.block(_FILE, block).format(**literals)))))
