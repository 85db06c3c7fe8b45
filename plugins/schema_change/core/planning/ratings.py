"""Rate a plan for those who decide about it: data loss, downtime, and how hard it is to take back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pglast import ast
from pglast.enums import AlterTableType as At
from pglast.enums import ObjectType

from schema_change.core.catalog.model import Catalog
from schema_change.core.changes.spec import Change
from schema_change.core.model import Backfill, LockMode, Phase, Plan, Retired, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Planned
from schema_change.core.sqltext.grammar import SqlError, is_a
from schema_change.core.sqltext.statements import Statement, split
from schema_change.core.wording import counted, sized

#: The linter's word for raw SQL of which nobody can say before it runs what it does.
UNANALYSABLE = "unanalysable"
#: Work on more than this, under a lock that keeps readers out too, is for a maintenance window.
_WINDOW_BYTES = 1 << 30
#: What is soon done however many rows there are; of what lint finds unsafe, the rest works on rows.
_CATALOG_ONLY = {
    At.AT_DropColumn,
    At.AT_DropConstraint,
    At.AT_DropNotNull,
    At.AT_ColumnDefault,
    At.AT_EnableTrig,
    At.AT_EnableTrigAll,
    At.AT_EnableTrigUser,
    At.AT_DisableTrig,
    At.AT_DisableTrigAll,
    At.AT_DisableTrigUser,
}


@dataclass(frozen=True, slots=True)
class Rating:
    """One line of the impact assessment: a word, and why."""

    word: str
    why: str


class Downtime(StrEnum):
    """How much of an application stands still, least first."""

    NONE = "none"
    BRIEF = "brief"
    BLOCKING = "blocking"
    WINDOW = "window"

    @property
    def meaning(self) -> str:
        """Say what the word stands for."""
        return _MEANINGS[self]


_MEANINGS = {
    Downtime.NONE: "no lock that blocks reads or writes",
    Downtime.BRIEF: "locks that block the application, each for a moment and never queued for",
    Downtime.BLOCKING: "the application waits while a step works on the rows",
    Downtime.WINDOW: "readers and writers wait so long, or nobody knows how long, that it needs a maintenance window",
}


def analysed(step: Step) -> Iterator[tuple[str, tuple[Statement, ...] | None]]:
    """Yield each text of a step with its statements under the search_path the step sets; None if it cannot be read."""
    settings = ""
    for text in step.statements:
        try:
            found = split(f"{settings}{text}")
        except SqlError:
            yield text, None
            continue
        if not found:
            settings += f"{text};"
        yield text, found


# -- data loss ------------------------------------------------------------------------------------------------------


def data_loss(plan: Plan, catalog: Catalog) -> Rating:
    """Rate the risk of losing data: high when something is removed for good, medium when values are replaced."""
    removed: list[str] = []
    carried: list[str] = []
    origins: dict[tuple[Table, str], tuple[Table, str]] = {}
    for statement in (s for step in plan.steps for _, found in analysed(step) for s in found or ()):
        _note_renames(statement, origins)
        for table, column, what in _removed(statement, catalog, origins):
            if not _is_kept(plan.retired, table, column):
                (carried if _goes_on(plan, table, column) else removed).append(what)
    if removed:
        return Rating("high", f"removes {', '.join(dict.fromkeys(removed))}")
    if any(f.rule == UNANALYSABLE for f in plan.findings):
        return Rating("unknown", "SQL that cannot be analysed; see the findings")
    reasons = [f"drops {kept.what}, kept for {counted(kept.keep_days, 'day')}" for kept in plan.retired]
    reasons += [f"contract drops the old {what}; its values were carried over before" for what in carried]
    if plan.data_migration:
        reasons.append("data that exists is changed or moved; the backup has it")
    if reasons:
        return Rating("medium", "; ".join(dict.fromkeys(reasons)))
    return Rating("low", "no existing value is changed or removed")


def _note_renames(statement: Statement, origins: dict[tuple[Table, str], tuple[Table, str]]) -> None:
    """Remember under which name a column that a step renames is known in the catalog."""
    node = statement.node
    if is_a(node, ast.RenameStmt) and node.renameType == ObjectType.OBJECT_COLUMN and statement.tables:
        table = statement.tables[0]
        origins[table, node.newname] = origins.get((table, node.subname), (table, node.subname))
        # Whatever gets the old name from now on was made by the plan.
        origins[table, node.subname] = (table, "")


def _removed(
    statement: Statement, catalog: Catalog, origins: dict[tuple[Table, str], tuple[Table, str]]
) -> Iterator[tuple[Table, str, str]]:
    """Yield what was there before the change and a statement removes: table, column if it is one, and its name."""
    node = statement.node
    for table in statement.tables:
        relation = catalog.get(table)
        if relation is None:
            continue
        if statement.kind in {"DROP TABLE", "DROP MATERIALIZED VIEW"}:
            yield table, "", f"{statement.kind.removeprefix('DROP ').lower()} {table}"
        elif statement.kind in {"TRUNCATE", "DELETE"}:
            yield table, "", f"rows of {table}"
        elif is_a(node, ast.AlterTableStmt):
            for name in (c.name for c in node.cmds or () if c.subtype == At.AT_DropColumn):
                _, column = origins.get((table, name), (table, name))
                if relation.column(column) is not None:
                    yield table, column, f"column {table}.{column}"
    if statement.kind == "DROP SCHEMA":
        yield Table("", ""), "", "a schema"


def _is_kept(retired: Iterable[Retired], table: Table, column: str) -> bool:
    return any(
        r.table == table and (r.kind == "table" or (r.column == column and not r.definition.get("values")))
        for r in retired
    )


def _goes_on(plan: Plan, table: Table, column: str) -> bool:
    """Tell whether a backfill of the plan carries a column's values over, converted or copied."""
    word = re.compile(rf"(?<!\w){re.escape(column)}(?!\w)")
    fills = [s.backfill for s in plan.steps if s.backfill is not None and s.backfill.table == table]
    return bool(column) and any(word.search(text) for fill in fills for text in _values(fill))


def _values(fill: Backfill) -> tuple[str, ...]:
    if fill.batch is None:
        return (fill.expression,)
    return () if fill.batch.verb == "deleted" else (fill.batch.head, fill.batch.tail)


# -- downtime -------------------------------------------------------------------------------------------------------


def downtime(plan: Plan, catalog: Catalog) -> Rating:
    """Rate the downtime in the words of :class:`Downtime`, by the steps that hold a blocking lock while they work."""
    found: list[tuple[Downtime, str]] = [(Downtime.NONE, Downtime.NONE.meaning)]
    for step in plan.steps:
        found += _standstill(step, catalog)
    slow = [f.rule for f in plan.findings if f.level == "error" and _works_under_lock(f.statement)]
    if slow:
        found.append((Downtime.BLOCKING, f"see the findings {', '.join(dict.fromkeys(slow))}"))
    if any(f.rule == UNANALYSABLE for f in plan.findings):
        found.append((Downtime.WINDOW, "SQL that cannot be analysed; see the findings"))
    worst = max((word for word, _ in found), key=list(Downtime).index)
    return Rating(worst.value, "; ".join(dict.fromkeys(why for word, why in found if word is worst)))


def _standstill(step: Step, catalog: Catalog) -> Iterator[tuple[Downtime, str]]:
    if step.lock < LockMode.SHARE:
        return
    if not step.long:
        yield Downtime.BRIEF, Downtime.BRIEF.meaning
        return
    size = sum(relation.bytes for t in step.tables if (relation := catalog.get(t)) is not None)
    apart = step.lock is LockMode.ACCESS_EXCLUSIVE and size > _WINDOW_BYTES
    why = f"'{step.title}' blocks {step.lock.blocks} while it works on {sized(size)}"
    yield Downtime.WINDOW if apart else Downtime.BLOCKING, why


def _works_under_lock(text: str) -> bool:
    """Tell whether what was found unsafe keeps rows or a table locked for long; drops and renames are soon done."""
    try:
        statements = split(text)
    except SqlError:
        return False  # the finding that says so counts by itself
    return any((s.lock >= LockMode.SHARE or s.writes) and not _is_catalog_only(s) for s in statements)


def _is_catalog_only(statement: Statement) -> bool:
    node = statement.node
    if is_a(node, ast.AlterTableStmt):
        return all(command.subtype in _CATALOG_ONLY for command in node.cmds or ())
    return is_a(node, ast.DropStmt, ast.RenameStmt, ast.TruncateStmt)


# -- the way back ---------------------------------------------------------------------------------------------------


def rollback_complexity(change: Change, plan: Plan) -> Rating:
    """Rate how hard it is to take the change back before contract."""
    if plan.one_way:
        return Rating("high", f"one-way after cutover: {'; '.join(plan.one_way)}")
    if left := [s.title for s in plan.steps if without_undo(s)]:
        return Rating("high", f"no undo of its own: {', '.join(left)}")
    raw = [operation for operation in change.operations if operation.kind == "sql"]
    if any(getattr(operation, "backfill", None) for operation in raw):
        return Rating("medium", "revert.sql was written by hand, and the rows filled are its to set back")
    if raw:
        return Rating("medium", "revert.sql was written by hand; the rehearsal proves it")
    if any(gives_rows_back(s) for s in plan.steps):
        return Rating("medium", "rows that were worked on are set back one by one, where they still hold our value")
    return Rating("low", "every step has an undo that needs no rows")


def reversible(part: Planned) -> str:
    """Say how long an operation can be taken back, by the undo of its own steps."""
    if part.one_way:
        return "until cutover only"
    if any(map(without_undo, part.steps)):
        return "partly" if any(map(has_undo, part.steps)) else "no"
    contracts = any(s.phase is Phase.CONTRACT for s in part.steps)
    days = max((kept.keep_days for kept in part.retired), default=0)
    kept = f"; the data for {counted(days, 'day')} more" if days else ""
    return f"yes, until {'contract' if contracts else 'it has landed'}{kept}"


def without_undo(step: Step) -> bool:
    """Tell whether a step leaves something behind that neither it nor an earlier step takes back."""
    return bool(
        step.phase is not Phase.CONTRACT and step.statements and step.lasting and not step.undo and not step.long
    )


def gives_rows_back(step: Step) -> bool:
    """Tell whether the undo of a step works on rows."""
    fill = step.backfill
    return fill is not None and (fill.remember or (fill.batch is not None and fill.batch.drain is not None))


def has_undo(step: Step) -> bool:
    """Tell whether a rollback has something to do for a step."""
    return bool(step.undo) or gives_rows_back(step)
