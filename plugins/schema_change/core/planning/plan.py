"""Plan a change against a catalog. Pure: the same change and catalog give the same plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from schema_change.core.catalog.model import Catalog
from schema_change.core.changes.spec import Change
from schema_change.core.model import Expectation, Phase, Plan, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.planning.fit import raw_checks
from schema_change.core.planning.lint import apply_waivers, lint_plan
from schema_change.core.planning.risk import assess

_ORDER = list(Phase)


def make_plan(change: Change, catalog: Catalog) -> Plan:
    """Return the plan of a change. Raises PlanError when an operation does not fit the catalog."""
    parts = plan_operations(change, catalog)
    steps = tuple(sorted((s for part in parts for s in part.steps), key=lambda s: _ORDER.index(s.phase)))
    typed = _typed(change, parts)
    written = _unique(part.written for part in parts)
    whole = any(part.whole for part in parts)
    scope = () if whole else _unique((*part.written, *part.touched) for part in parts)
    plan = Plan(
        steps=steps,
        expectations=_named_once([e for part in parts for e in part.expectations]),
        data_checks=(
            *(check for part in parts for check in part.data_checks),
            *raw_checks(steps, catalog, typed),
        ),
        written=written,
        read=tuple(t for t in _unique(part.read for part in parts) if t not in written),
        scope=scope,
        findings=apply_waivers(lint_plan(steps, catalog, typed), change.waivers),
        data_migration=any(part.data_migration for part in parts),
        notices=tuple(n for part in parts for n in part.notices) + _notices(steps),
        one_way=tuple(reason for part in parts for reason in part.one_way),
        retired=tuple(kept for part in parts for kept in part.retired),
        readings=tuple({reading.name: reading for part in parts for reading in part.readings}.values()),
        tallies=tuple(tally for part in parts for tally in part.tallies),
        fingerprint=catalog.restricted(scope).fingerprint,
    )
    risk, reasons = assess(plan, catalog, parts[-1].catalog if parts else catalog)
    return replace(plan, risk=risk, risk_reasons=reasons)


def plan_operations(change: Change, catalog: Catalog) -> list[Planned]:
    """Plan each operation against the shape that the operations before it leave behind."""
    parts: list[Planned] = []
    filled: frozenset[tuple[Table, str]] = frozenset()
    live = catalog
    for operation in change.operations:
        steps = tuple(step for part in parts for step in part.steps)
        context = PlanContext(version=change.version, filled=filled, live=live, steps=steps)
        part = operation.plan(catalog, context)
        catalog, filled = part.catalog, filled | part.filled
        parts.append(part)
    return parts


def _typed(change: Change, parts: Iterable[Planned]) -> frozenset[Step]:
    """Return the steps of typed operations; the others are raw SQL, and linted in full."""
    pairs = zip(change.operations, parts, strict=True)
    return frozenset(step for operation, part in pairs if operation.kind != "sql" for step in part.steps)


def _unique(groups: Iterable[Iterable[Table]]) -> tuple[Table, ...]:
    return tuple(dict.fromkeys(table for group in groups for table in group))


def _named_once(expectations: list[Expectation]) -> tuple[Expectation, ...]:
    """Drop an expectation that two operations both ask for."""
    return tuple({(e.table, e.check_id): e for e in expectations}.values())


def _notices(steps: tuple[Step, ...]) -> tuple[str, ...]:
    notices = []
    if any(step.phase is Phase.CONTRACT for step in steps):
        notices.append("until contract begins the change can be undone; after that only forward")
    return tuple(notices)
