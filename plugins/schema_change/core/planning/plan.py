"""Plan a change against a catalog. Pure: the same change and catalog give the same plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from schema_change.core.catalog.model import Catalog
from schema_change.core.changes.spec import Change
from schema_change.core.model import Expectation, Phase, Plan, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.planning.lint import apply_waivers, lint_plan
from schema_change.core.planning.risk import assess

_ORDER = list(Phase)


def make_plan(change: Change, catalog: Catalog) -> Plan:
    """Return the plan of a change. Raises PlanError when an operation does not fit the catalog."""
    parts = _plan_operations(change, catalog)
    steps = tuple(sorted((s for part in parts for s in part.steps), key=lambda s: _ORDER.index(s.phase)))
    written = _unique(part.written for part in parts)
    whole = any(part.whole for part in parts)
    scope = () if whole else _unique((*part.written, *part.touched) for part in parts)
    plan = Plan(
        steps=steps,
        expectations=_named_once([e for part in parts for e in part.expectations]),
        data_checks=tuple(check for part in parts for check in part.data_checks),
        written=written,
        read=tuple(t for t in _unique(part.read for part in parts) if t not in written),
        scope=scope,
        findings=apply_waivers(lint_plan(steps, catalog), change.waivers),
        data_migration=any(part.data_migration for part in parts),
        notices=tuple(n for part in parts for n in part.notices) + _notices(steps),
        one_way=tuple(reason for part in parts for reason in part.one_way),
        retired=tuple(kept for part in parts for kept in part.retired),
        fingerprint=catalog.restricted(scope).fingerprint,
    )
    risk, reasons = assess(plan, catalog)
    return replace(plan, risk=risk, risk_reasons=reasons)


def _plan_operations(change: Change, catalog: Catalog) -> list[Planned]:
    """Plan each operation against the shape that the operations before it leave behind."""
    parts: list[Planned] = []
    filled: frozenset[tuple[Table, str]] = frozenset()
    for operation in change.operations:
        part = operation.plan(catalog, PlanContext(version=change.version, filled=filled))
        catalog, filled = part.catalog, filled | part.filled
        parts.append(part)
    return parts


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
