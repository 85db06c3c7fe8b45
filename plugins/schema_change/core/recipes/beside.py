"""A template of the warehouse built beside what readers see, and the exchange of its views (``060_build.sql`` ff.)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.model import Backfill, Batch, Expectation, LockMode, NewRows, Phase, Step, Tally
from schema_change.core.names import Table
from schema_change.core.recipes import raw, text
from schema_change.core.warehouse.template import Template

WORK = Table("_wh", "change_work")
_KEY = ("template_name", "wave", "what", "schema_name", "day")
#: A day takes a good many locks. To move one, whoever reads it is waited for: those of a batch are waited for together.
_BUILT_AT_ONCE, _MOVED_AT_ONCE = 8, 8
#: What a copy for a rehearsal needs to know of the warehouse.
CONFIGURATION = tuple(
    Table("_wh", name)
    for name in ("mv_templates", "tenant_connections", "tenant_schemas", "adapted", "toolkit_version")
)


_BUILD = (
    "UPDATE _wh.change_work SET (rows, differs, error, done_at) = (SELECT b.rows, b.differs, b.error, b.done_at"
    " FROM _wh.build_work(change_work.template_name, change_work.what, change_work.schema_name, change_work.day) AS b)"
    " WHERE "
)
_RETIRE = (
    "UPDATE _wh.change_work SET retired_at ="
    " _wh.retire_work(change_work.template_name, change_work.schema_name, change_work.day) WHERE "
)
_DROP = (
    "UPDATE _wh.change_work SET dropped_at ="
    " _wh.drop_work(change_work.template_name, change_work.schema_name, change_work.day) WHERE "
)


def expectations(change: Beside) -> tuple[Expectation, ...]:
    """Return what the public view must look like afterwards."""
    view = change.old.view
    columns = [name for name, _ in change.new.columns]
    schemas = [tenant.schema for tenant in change.old.tenants]
    return (
        Expectation(
            view,
            "expect_table_columns_to_match_ordered_list",
            {"column_list": [*columns, "schema_name"]},
            "columns_of_the_template",
            notes="the columns are the template's, in its order",
        ),
        Expectation(
            view,
            "expect_column_distinct_values_to_be_in_set",
            {"column": "schema_name", "value_set": schemas},
            "rows_of_known_tenants",
            notes="every row is of one of the tenants",
        ),
    )


@dataclass(frozen=True, slots=True)
class Beside:
    """What is built beside: the template before and after, the schemas of each wave, and how sources are treated.

    ``old_year_columns`` and ``new_year_columns`` map a column to what yearly tables call it meanwhile in that shape.
    """

    old: Template
    new: Template
    column: str
    waves: tuple[tuple[str, ...], ...]
    fallback: str | None = None
    history_from: int | None = None
    source_down: str = "roll_back"
    skip_at_most: int = 0
    source_pause_s: float = 0
    old_year_columns: Mapping[str, str] = field(default_factory=dict)
    new_year_columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the template's name."""
        return self.old.name

    @property
    def views(self) -> tuple[Table, ...]:
        """Return the views that are exchanged: the public one first, because readers come in by it."""
        return (self.old.view, *(Table(tenant.schema, self.name) for tenant in self.old.tenants))


def distribution(change: Beside) -> Tally:
    """Return the count of the column's values in each tenant, for the report."""
    view, known = change.old.view, change.fallback
    query = sqlfiles.block("queries/warehouse", "distribution").format(
        view=view.identifier,
        view_name=sql.Literal(view.quoted),
        column=sql.Identifier(change.column),
        name=sql.Literal(change.column),
        known=raw("NULL" if known is None else f"({known})::text"),
    )
    return Tally(
        f"{view}.{change.column} of each tenant",
        text(query),
        "Values that are there more than once, with their rows; texts are not shown, but for the default",
    )


def history(change: Beside) -> Tally:
    """Return the count of rows of yearly tables that have their source's value, and the default, for the report."""
    given = "the default" if change.fallback is not None else "NULL"
    notes = f"No source was asked for the values of finished years: all have {given}"
    if change.history_from is not None:
        notes = (
            f"Values of {change.history_from} and later are the sources', where they still have the row; else {given}"
        )
    query = sql.SQL("SELECT * FROM _wh.history_of_change({})").format(sql.Literal(change.name))
    return Tally(f"Rows of finished years of {change.name}", text(query), notes)


def begin(change: Beside) -> Step:
    """Return the first expand step: both shapes and the work are noted."""
    values = {
        "template": change.name,
        "column_name": change.column,
        "new_query": change.new.query,
        "new_columns": change.new.definitions,
        "new_indexes": change.new.indexes,
        "waves": json.dumps(change.waves),
        "old_year_columns": json.dumps(change.old_year_columns),
        "new_year_columns": json.dumps(change.new_year_columns),
        "fallback": change.fallback,
        "history_from": change.history_from,
        "source_down": change.source_down,
        "skip_at_most": change.skip_at_most,
        "source_pause_s": change.source_pause_s,
    }
    return Step(
        phase=Phase.EXPAND,
        title=f"begin the change of template {change.name}",
        tables=(),
        statements=(named_call("begin_change", values),),
        probe=ask("EXISTS (SELECT FROM _wh.changes WHERE template_name = {})", change.name),
        undo=(call("cancel_change", change.name),),
        lasting=False,
    )


def build(change: Beside) -> Iterator[Step]:
    """Yield the backfill steps: each wave's days and history, and its check."""
    for number, schemas in enumerate(change.waves, 1):
        yield build_step(change, number, schemas, "day", undo="drop_built")
        if change.history_from is not None:
            yield build_step(change, number, schemas, "history")
        yield check_step(change, number)


def check_step(change: Beside, wave: int) -> Step:
    """Return the backfill step that compares the days of a wave with the old ones."""
    return Step(
        phase=Phase.BACKFILL,
        title=f"check wave {wave} of {change.name} against the days that are there",
        tables=(),
        statements=(call("check_wave", change.name, wave),),
        lasting=False,
    )


def build_step(
    change: Beside, wave: int, schemas: Sequence[str], what: Literal["day", "history"], *, undo: str | None = None
) -> Step:
    """Return the step that builds one kind of work of a wave; ``undo`` is what takes it back, batch by batch."""
    where = f"{', '.join(schemas[:6])}{' …' if len(schemas) > 6 else ''}"
    waits = change.source_down == "stop"
    return _work(
        Phase.BACKFILL,
        f"{'build the days' if what == 'day' else 'fetch the history'} of {change.name} for {where}",
        pending=_ask_work(change.name, what, wave, "done_at IS NULL"),
        head=_BUILD,
        # What a source that is away could not give is tried again by the next sweep.
        new_rows=NewRows.SWEEP if waits else NewRows.APPLICATION,
        at_once=_BUILT_AT_ONCE,
        wait_for=call("source_to_wait_for", change.name) if waits else None,
        drain=_by_batches(undo, change.name) if undo else None,
        verb="built",
    )


def switch(change: Beside) -> Iterator[Step]:
    """Yield the cutover steps: the views of the new shape are made beside, then exchanged in one short transaction."""
    yield Step(
        phase=Phase.CUTOVER,
        title=f"make the new views of {change.name} beside those that are read",
        tables=(),
        statements=(call("prepare_views", change.name),),
        undo=(call("drop_prepared", change.name),),
        lasting=False,
        long=True,
    )
    for schema in (s for wave in change.waves for s in wave):
        yield Step(
            phase=Phase.CUTOVER,
            title=f"let {change.old.view} read the new days of {schema}, in its old shape",
            tables=(change.old.view,),
            statements=(call("read_new_days", change.name, schema),),
            lock=LockMode.ACCESS_EXCLUSIVE,
            undo=(call("read_old_days", change.name),),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
            lasting=False,
        )
    yield Step(
        phase=Phase.CUTOVER,
        title=f"exchange the views of {change.name}",
        tables=change.views,
        statements=(call("swap", change.name),),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=ask("COALESCE((SELECT is_swapped FROM _wh.changes WHERE template_name = {}), false)", change.name),
        undo=(call("swap_back", change.name),),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )
    yield check_views(change)


def check_views(change: Beside) -> Step:
    """Return the last cutover step, which reads every view and the log of the warehouse."""
    return Step(
        phase=Phase.CUTOVER,
        title=f"read every view of {change.name}, and the log of the warehouse",
        tables=(),
        statements=(call("check_views", change.name),),
        lasting=False,
    )


def let_go(change: Beside) -> Step:
    """Return the contract step from which on the old shape cannot be read any more."""
    return Step(
        phase=Phase.CONTRACT,
        title=f"drop the old views of {change.name}",
        tables=(),
        statements=(call("drop_old_views", change.name),),
        lasting=False,
    )


def retire(change: Beside) -> Iterator[Step]:
    """Yield the last contract steps: the new days take the places of the old ones, and the change is finished."""
    title = f"put the new days of {change.name} in the places of the old ones"
    yield _move(change, title, pending="retired_at", head=_RETIRE, verb="put in place")
    yield drop_old_days(change)
    yield Step(
        phase=Phase.CONTRACT,
        title=f"finish the change of template {change.name}",
        tables=(),
        statements=(call("finish_change", change.name),),
        lasting=False,
    )


def drop_old_days(change: Beside) -> Step:
    """Return the contract step that drops the days which are beside, a few at a time."""
    return _move(change, f"drop the old days of {change.name}", pending="dropped_at", head=_DROP, verb="dropped")


def _move(change: Beside, title: str, *, pending: str, head: str, verb: str) -> Step:
    return _work(
        Phase.CONTRACT,
        title,
        pending=_ask_work(change.name, "day", None, f"{pending} IS NULL"),
        head=head,
        # Days that are born meanwhile.
        new_rows=NewRows.SWEEP,
        at_once=_MOVED_AT_ONCE,
        verb=verb,
    )


def _work(
    phase: Phase,
    title: str,
    *,
    pending: str,
    head: str,
    new_rows: NewRows,
    at_once: int,
    verb: str,
    drain: tuple[str, str] | None = None,
    wait_for: str | None = None,
) -> Step:
    return Step(
        phase=phase,
        title=title,
        tables=(WORK,),
        lock=LockMode.ROW_EXCLUSIVE,
        lasting=False,
        backfill=Backfill(
            table=WORK,
            column="",
            expression="true",
            pending=pending,
            key=_KEY,
            new_rows=new_rows,
            batch=Batch(head=head, verb=verb, drain=drain, at_once=at_once, wait_for=wait_for),
        ),
    )


def _ask_work(template: str, what: str, wave: int | None, rest: str) -> str:
    parts = [
        sql.SQL("template_name = {} AND what = {}").format(sql.Literal(template), sql.Literal(what)),
        *([sql.SQL("wave = {}").format(sql.Literal(wave))] if wave is not None else []),
        raw(rest),
    ]
    return text(sql.SQL(" AND ").join(parts))


def ask(condition: str, template: str) -> str:
    """Return a question of one boolean about a template, which is ``{}`` in the condition."""
    return text(sql.SQL("SELECT ") + sql.SQL(condition).format(sql.Literal(template)))


def call(function: str, *values: Any) -> str:
    """Return the call of a function of the toolkit."""
    return text(_call(function, map(sql.Literal, values)))


def named_call(function: str, values: Mapping[str, Any]) -> str:
    """Return the call of a function of the toolkit with named arguments."""
    pairs = (sql.SQL("{} => {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in values.items())
    return text(_call(function, pairs))


def _call(function: str, arguments: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL("SELECT {}({})").format(sql.Identifier("_wh", function), sql.SQL(", ").join(arguments))


def _by_batches(function: str, template: str) -> tuple[str, str]:
    head = sql.SQL("SELECT * FROM {}({}, ").format(sql.Identifier("_wh", function), sql.Literal(template))
    return text(head), ")"
