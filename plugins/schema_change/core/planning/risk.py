"""Price a plan: lock mode, size, write rate, reversibility, dependants. The highest reason decides."""

from __future__ import annotations

from collections.abc import Iterator

from schema_change.core.catalog.model import Catalog
from schema_change.core.model import LockMode, Phase, Plan, Risk
from schema_change.core.wording import counted, sized

_LARGE_TABLE_BYTES = 10 * 1024**3
_MANY_ROWS = 10_000_000


def assess(plan: Plan, catalog: Catalog, after: Catalog | None = None) -> tuple[Risk, tuple[str, ...]]:
    """Return the risk and the reasons for it, highest first; ``after`` is the catalog that the plan leads to."""
    reasons = sorted((*_reasons(plan, catalog), *_of_shape(catalog, after or catalog)), key=lambda r: -r[0].rank)
    if not reasons:
        return Risk.LOW, ("every step is brief or lets reads and writes go on, and can be undone",)
    return reasons[0][0], tuple(f"{risk.value}: {why}" for risk, why in reasons)


def unrated(reason: str) -> str:
    """Return a reason without its risk, for a place where the risk stands beside it."""
    risk, _, why = reason.partition(": ")
    return why if risk in list(Risk) else reason


def _reasons(plan: Plan, catalog: Catalog) -> Iterator[tuple[Risk, str]]:
    if plan.data_migration:
        yield Risk.HIGH, "data that exists is changed or moved"
    for reason in plan.one_way:
        yield Risk.HIGH, f"one-way after cutover: {reason}"
    for kept in plan.retired:
        yield Risk.MEDIUM, f"{kept.what} dropped; the data is kept for {counted(kept.keep_days, 'day')}"
    yield from _of_steps(plan)
    yield from _of_findings(plan)
    yield from _of_tables(plan, catalog)


def _of_shape(catalog: Catalog, after: Catalog) -> Iterator[tuple[Risk, str]]:
    """Yield what an application that knows only the old shape will miss."""
    for table, old in catalog.read.items():
        new = after.get(table)
        names = [str(table)] if new is None else [f"{table}.{c.name}" for c in old.columns if not new.column(c.name)]
        if names:
            yield Risk.MEDIUM, f"an application that still uses {', '.join(names)} fails once the change has landed"


def _of_steps(plan: Plan) -> Iterator[tuple[Risk, str]]:
    for step in plan.steps:
        if step.phase is not Phase.CONTRACT and step.statements and step.lasting and not step.undo and not step.long:
            yield Risk.MEDIUM, f"step '{step.title}' has no undo of its own"
        if step.long and step.lock >= LockMode.SHARE:
            yield Risk.HIGH, f"step '{step.title}' blocks {step.lock.blocks} for as long as it runs"


def _of_findings(plan: Plan) -> Iterator[tuple[Risk, str]]:
    for finding in plan.findings:
        if finding.rule == "unanalysable":
            yield Risk.MEDIUM, f"SQL that cannot be analysed: {finding.message}"
        elif finding.level == "error":
            yield Risk.HIGH, f"{finding.rule}: {finding.message}" + (" (waived)" if finding.waived else "")


def _of_tables(plan: Plan, catalog: Catalog) -> Iterator[tuple[Risk, str]]:
    for table in plan.written:
        relation = catalog.get(table)
        if relation is None:
            continue
        if relation.bytes > _LARGE_TABLE_BYTES:
            yield Risk.MEDIUM, f"{table} is large ({sized(relation.bytes)})"
        if relation.rows > _MANY_ROWS and plan.of_phase(Phase.BACKFILL):
            yield Risk.MEDIUM, f"about {counted(relation.rows, 'row')} of {table} are rewritten"
        # A generated column only ever depends on its own table; dropping what it is made of is a finding.
        if others := [d for d in relation.dependants if not d.startswith("generated column ")]:
            yield Risk.MEDIUM, f"{table} has dependants: {', '.join(others[:5])}"
