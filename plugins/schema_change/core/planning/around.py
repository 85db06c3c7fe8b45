"""What a change's file says about the time before, during and after it, in words for the guide."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from schema_change.core import templates
from schema_change.core.changes.spec import Change
from schema_change.core.model import Plan
from schema_change.core.surroundings.models import POINTS, Hook, PrometheusCheck
from schema_change.core.surroundings.sentinels import sentinels_of


def timetable(change: Change) -> Iterator[tuple[str, str]]:
    """Yield what the run does besides its steps: when, and what. Headers and bodies of calls are left out."""
    around = change.surroundings
    if change.window:
        how = "wait outside of it" if change.window.outside == "wait" else "refuse outside of it"
        yield "window", f"{change.window}; migrate, cutover and contract {how}"
    for blackout in around.blackouts:
        yield "blackout", f"{blackout.from_} to {blackout.to} ({blackout.timezone}): {blackout.reason}"
    for point in POINTS:
        for hook in around.hooks.at(point):
            yield point.replace("_", " "), _hook(hook)
    if around.backfill_dag:
        yield "between migrate and backfill", f"DAG {around.backfill_dag.dag_id} runs to its end"
    if soak := around.soak:
        pause = templates.duration(soak.every_s)
        looks = f"health and metrics are looked at every {pause}; {soak.failures} bad looks in a row roll it back"
        yield "between validate and contract", f"soak of {soak.hours:g} hours: {looks}"


def _hook(hook: Hook) -> str:
    if hook.http is not None:
        return f"{hook.http.method} {hook.http.url}"
    return shlex.join(hook.run or ())


def watched(change: Change, plan: Plan) -> Iterator[str]:
    """Yield what is looked at beside the database's own state, a sentence each."""
    around = change.surroundings
    yield from (f"{check.method} {check.url} answers as it should" for check in around.health)
    yield from (f"metric {check.query} {_bounds(check)}" for check in around.prometheus)
    for sentinel in sentinels_of(around, plan):
        consequence = "else the run is rolled back" if sentinel.critical else "else a warning"
        yield f"query '{sentinel.name}' costs at most {sentinel.max_cost_ratio:g} times what it did, {consequence}"
    for check in around.follow_ups:
        yield f"{check.after_hours:g} hours after it landed: {check.name}"


def _bounds(check: PrometheusCheck) -> str:
    bounds = {"at least": check.min, "at most": check.max}
    return "is " + " and ".join(f"{words} {bound:g}" for words, bound in bounds.items() if bound is not None)
