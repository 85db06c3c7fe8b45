"""Columns whose values another table has by now: the triggers end and they are dropped, in contract.

Where rows of one key had different values, only one of them is in the other table: then the columns are hidden first,
which freezes them, and what they hold is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg import sql

from schema_change.core.catalog.model import Relation
from schema_change.core.model import DataCheck, LockMode, Phase, Retired, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import keep_column, retire, tables_in_step, text
from schema_change.core.recipes.carried import alter
from schema_change.core.recipes.links import Link
from schema_change.core.recipes.rows import kept_table

KEEP_DAYS = 30


@dataclass(frozen=True, slots=True)
class Dropped:
    """The contract steps, and what is kept of the columns."""

    steps: tuple[Step, ...]
    checks: tuple[DataCheck, ...] = ()
    retired: tuple[Retired, ...] = ()


def drop(relation: Relation, link: Link, columns: tuple[str, ...], version: str) -> Dropped:
    """Return the steps that end the step of the two tables and drop the columns of ``many``."""
    if not columns:
        return Dropped((_end(link, (), f"{link.many} and {link.one} go their own ways"),))
    if not link.order:
        return Dropped((_end(link, (_drop(link.many, columns),), f"drop {', '.join(columns)} of {link.many}"),))
    hidden = {c: hashed_name("schema_change_dropped", c) for c in columns}
    hide = [alter(link.many, "RENAME COLUMN {} TO {}", c, hidden[c]) for c in columns]
    # Nobody gives them a value any more.
    free = [
        alter(link.many, "ALTER COLUMN {} DROP NOT NULL", hidden[c.name])
        for c in relation.columns
        if c.name in hidden and not c.nullable
    ]
    left = replace(
        relation,
        columns=tuple(c for c in relation.columns if c.name not in columns),
        indexes=tuple(i for i in relation.indexes if not set(i.columns) & set(columns)),
    )
    steps = [_end(link, (*hide, *free), f"hide {', '.join(columns)} of {link.many}")]
    checks, retired = [], []
    for column in (c for c in relation.columns if c.name in hidden):
        kept = kept_table("column", link.many, column.name, version)
        steps += keep_column.steps(left, column, hidden[column.name], kept)
        checks.append(retire.is_free(kept, f"values of {link.many}.{column.name}"))
        retired.append(keep_column.retired(left, column, kept, KEEP_DAYS))
    steps.append(
        Step(
            phase=Phase.CONTRACT,
            title=f"drop {', '.join(columns)} of {link.many}",
            tables=(link.many,),
            statements=(_drop(link.many, tuple(hidden.values())),),
            lock=LockMode.ACCESS_EXCLUSIVE,
        )
    )
    return Dropped(tuple(steps), tuple(checks), tuple(retired))


def _end(link: Link, more: tuple[str, ...], what: str) -> Step:
    return Step(
        phase=Phase.CONTRACT,
        title=f"no longer keep {link.many} and {link.one} in step; {what}",
        tables=(link.many, link.one),
        # In one transaction: a NOT NULL column that nobody fills any more would refuse every row.
        statements=(*tables_in_step.stop(link), *more),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=tables_in_step.stopped(link),
    )


def _drop(table: Table, columns: tuple[str, ...]) -> str:
    items = sql.SQL(", ").join(sql.SQL("DROP COLUMN IF EXISTS {}").format(sql.Identifier(c)) for c in columns)
    return text(sql.SQL("ALTER TABLE {} {}").format(table.identifier, items))
