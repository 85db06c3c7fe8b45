"""Compare the plans of sentinel queries before and after a change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.model import Plan
from schema_change.core.surroundings.models import Sentinel, Surroundings

_SHAPE = ("Node Type", "Relation Name", "Index Name", "Join Type", "Strategy")
#: Of more nodes below one, such as the parts of a view over hundreds of days, only the kinds are told.
_MANY = 12


@dataclass(frozen=True, slots=True)
class Measured:
    """The plan of a query as a text of its nodes, its total cost, and its time when it was run; or why it cannot be."""

    name: str
    shape: str = ""
    cost: float = 0
    ms: float | None = None
    error: str | None = None
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a sentinel; ``severity`` is ``critical``, ``warning`` or empty when it is fine."""

    name: str
    severity: str
    message: str

    def __str__(self) -> str:
        return f"sentinel {self.name}: {self.message}"


def sentinels_of(surroundings: Surroundings, plan: Plan) -> tuple[Sentinel, ...]:
    """Return the queries to compare: those of the change's file, and those that its operations know of."""
    named = {sentinel.name for sentinel in surroundings.sentinels}
    known = (Sentinel(name=r.name, query=r.query) for r in plan.readings if r.name not in named)
    return (*surroundings.sentinels, *known)


def measure(connection: Connection, sentinels: Sequence[Sentinel], *, run: bool = True) -> list[Measured]:
    """Explain each query in a read-only transaction; with ``run``, also run those that ask for it."""
    return [_measure(connection, sentinel, run=run and sentinel.analyze) for sentinel in sentinels]


def compare(
    sentinels: Sequence[Sentinel], before: Sequence[Mapping[str, Any]], after: Sequence[Measured]
) -> list[Verdict]:
    """Judge each sentinel by what was measured before, as the journal keeps it, and after."""
    earlier = {item["name"]: item for item in before}
    return [_compare(s, earlier.get(s.name), now) for s, now in zip(sentinels, after, strict=True)]


def _measure(connection: Connection, sentinel: Sentinel, *, run: bool) -> Measured:
    block = sqlfiles.block("queries/surroundings", "explain_analyze" if run else "explain")
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sqlfiles.block("queries/surroundings", "read_only"))
            connection.execute(sqlfiles.block("queries/surroundings", "query_settings"))
            row = connection.execute((block.as_string(None) + " " + sentinel.query).encode()).fetchone()
    except psycopg.Error as error:
        if connection.closed:
            raise
        timed_out = isinstance(error, (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable))
        reason = (error.diag.message_primary or str(error)).strip()
        return Measured(sentinel.name, error=reason, timed_out=timed_out)
    assert row is not None  # noqa: S101 - EXPLAIN gives one row
    [plan] = row[0]
    return Measured(sentinel.name, _shape(plan["Plan"]), plan["Plan"]["Total Cost"], plan.get("Execution Time"))


def _shape(node: Mapping[str, Any]) -> str:
    words = " ".join(str(node[key]) for key in _SHAPE if key in node)
    plans = node.get("Plans", ())
    if len(plans) > _MANY:
        kinds = Counter(plan["Node Type"] for plan in plans)
        below = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
    else:
        below = ", ".join(map(_shape, plans))
    return f"{words} ({below})" if below else words


def _compare(sentinel: Sentinel, before: Mapping[str, Any] | None, after: Measured) -> Verdict:
    worse = "critical" if sentinel.critical else "warning"
    if after.timed_out:
        return Verdict(sentinel.name, worse, f"took too long: {after.error}")
    if after.error is not None:
        ran = before is None or before["error"] is None
        what = f"does not run{' any more' if ran else ''}: {after.error}"
        return Verdict(sentinel.name, "critical" if ran else worse, what)
    if sentinel.max_ms is not None and after.ms is not None and after.ms > sentinel.max_ms:
        return Verdict(sentinel.name, worse, f"took {after.ms:.1f} ms, expected at most {sentinel.max_ms:g} ms")
    if before is None or before["error"] is not None:
        return Verdict(sentinel.name, "", f"cost {after.cost:g}; it was not measured before")
    changed = before["shape"] != after.shape
    plan = f"; its plan was {before['shape']} and is {after.shape}" if changed else "; the same plan"
    costs = f"cost {before['cost']:g} before, {after.cost:g} now{plan}"
    if after.cost > before["cost"] * sentinel.max_cost_ratio:
        return Verdict(sentinel.name, worse, f"{costs}; more than {sentinel.max_cost_ratio:g} times")
    return Verdict(sentinel.name, "", costs)
