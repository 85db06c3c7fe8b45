"""A template of the warehouse rebuilt in place, as the runbook does it: readers wait (``070_in_place.sql``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.recipes.beside import (
    Beside,
    ask,
    build_step,
    call,
    check_step,
    check_views,
    drop_old_days,
    named_call,
)


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """What is done to the column of yearly tables; ``value`` is the default, or the expression for the new type."""

    kind: Literal["add", "modify", "remove"]
    type: str | None = None
    value: str | None = None
    hidden: str | None = None
    index: bool = False


def steps(change: Beside, column: ColumnChange) -> Iterator[Step]:
    """Yield the steps: change all in one transaction, rebuild the days wave by wave, make the views anew."""
    name = change.name
    yield Step(
        phase=Phase.EXPAND,
        title=f"drop the views of {name}, put its days aside, and change its yearly tables",
        tables=(*change.views, *change.old.years),
        statements=(
            named_call(
                "begin_in_place",
                {
                    "template": name,
                    "kind": column.kind,
                    "column_name": change.column,
                    "new_type": column.type,
                    "value": column.value,
                    "hidden_name": column.hidden,
                    "new_query": change.new.query,
                    "new_columns": change.new.definitions,
                    "new_indexes": change.new.indexes,
                    "create_index": column.index,
                    "waves": json.dumps(change.waves),
                    "source_down": change.source_down,
                    "skip_at_most": change.skip_at_most,
                    "source_pause_s": change.source_pause_s,
                },
            ),
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=ask("EXISTS (SELECT FROM _wh.changes WHERE template_name = {})", name),
        undo=(call("undo_in_place", name),),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
        lasting=False,
        long=True,
    )
    for number, schemas in enumerate(change.waves, 1):
        yield build_step(change, number, schemas, "day", undo="drop_rebuilt" if number == 1 else None)
        yield check_step(change, number)
    yield Step(
        phase=Phase.CUTOVER,
        title=f"make the views of {name} anew",
        tables=(),
        statements=(call("views_in_place", name),),
        undo=(call("drop_views_in_place", name),),
        lasting=False,
        long=True,
    )
    yield check_views(change)
    yield drop_old_days(change)
    yield Step(
        phase=Phase.CONTRACT,
        title=f"finish the change of template {name}",
        tables=change.old.years,
        statements=(call("finish_in_place", name),),
        lock=LockMode.ACCESS_EXCLUSIVE if change.old.years else LockMode.NONE,
        lasting=False,
    )
