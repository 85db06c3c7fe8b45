"""Checks of what lies around the change: is it its time, are services well, do the sentinel queries run."""

from __future__ import annotations

import datetime as dt
import os
import shutil

import psycopg

from schema_change.core.backfill.throttle import ask_condition, ask_metric
from schema_change.core.errors import ConfigurationError
from schema_change.core.execution.statements import message_of
from schema_change.core.prechecks.model import Answer, CheckContext, enumerate_some
from schema_change.core.surroundings.models import POINTS, VARIABLE, HttpCall, Metric
from schema_change.core.surroundings.sentinels import measure, sentinels_of
from schema_change.core.surroundings.timing import opens_at, waits
from schema_change.core.surroundings.watch import bad, look_around
from schema_change.core.wording import counted


def window(context: CheckContext) -> Answer:
    """Fail outside the hours in which the change may start, or warn when it waits for them."""
    change = context.change
    if change.window is None and not change.surroundings.blackouts and not context.blackouts:
        return Answer("skipped", "the change may start at any time")
    closed = opens_at(change, dt.datetime.now(dt.UTC), context.blackouts)
    if closed is None:
        return Answer("pass", f"inside {change.window}" if change.window else "no blackout")
    if waits(change):
        return Answer("warn", f"migrate will wait: {closed}", "nothing needs to be done; it goes on by itself")
    return Answer("fail", f"the change may not start now: {closed}", "wait for the window, or change it")


def hooks(context: CheckContext) -> Answer:
    """Fail when a program or a variable of the environment is missing that the way there, or back, will need."""
    around = context.change.surroundings
    wanted = [hook for point in POINTS for hook in around.hooks.at(point)]
    metrics = (*around.prometheus, *filter(None, [around.throttle.prometheus]))
    if not wanted and not around.health and not metrics:
        return Answer("skipped", "the change has no hooks")
    programs = {hook.run[0] for hook in wanted if hook.run}
    missing = sorted(program for program in programs if shutil.which(program) is None)
    calls: tuple[HttpCall | Metric, ...] = (
        *(hook.http for hook in wanted if hook.http),
        *around.health,
        *metrics,
    )
    texts = (text for call in calls for text in (call.url, *call.headers.values()))
    names = {*(name for hook in wanted for name in hook.env), *(n for text in texts for n in VARIABLE.findall(text))}
    missing += sorted(f"${name}" for name in names if name not in os.environ)
    if missing:
        remedy = "install the program, or set the variable, wherever this run's tasks run"
        return Answer("fail", f"not here: {enumerate_some(missing)}", remedy)
    return Answer("pass", f"{counted(len(programs), 'program')} and {counted(len(names), 'variable')} are here")


def health(context: CheckContext) -> Answer:
    """Warn about services and metrics that are not well before anything was changed."""
    looks = look_around(context.change.surroundings, patient=False)
    if not looks:
        return Answer("skipped", "the change names no service and no metric")
    wrong = bad(looks)
    if wrong:
        remedy = "unless the change itself mends it, validate would fail for it: put it right first"
        return Answer("warn", "; ".join(map(str, wrong)), remedy)
    return Answer("pass", "; ".join(map(str, looks)))


def throttle(context: CheckContext) -> Answer:
    """Fail when the change's own condition for pausing cannot be asked; warn when a backfill would pause now."""
    limits = context.change.surroundings.throttle
    if limits.sql is None and limits.prometheus is None:
        return Answer("skipped", "the change has no condition of its own")
    try:
        reasons = [
            ask_condition(context.connection, limits.sql) if limits.sql else None,
            ask_metric(limits.prometheus) if limits.prometheus else None,
        ]
    except psycopg.Error as error:
        return Answer("fail", f"throttle.sql cannot be asked: {message_of(error)}", "correct it; it may take a second")
    except ConfigurationError as error:
        return Answer("fail", error.message, error.hint or "")
    if found := "; ".join(filter(None, reasons)):
        return Answer("warn", f"a backfill would pause now: {found}", "nothing needs to be done; it goes on by itself")
    return Answer("pass", "a backfill would not pause now")


def sentinels(context: CheckContext) -> Answer:
    """Fail when a sentinel query cannot be explained: there would be nothing to compare with.

    Of those that the change's file does not name, but its operations know of, warn.
    """
    asked_for = context.change.surroundings.sentinels
    queries = sentinels_of(context.change.surroundings, context.plan)
    if not queries:
        return Answer("skipped", "the change names no query")
    measured = measure(context.connection, queries, run=False)
    if found := "; ".join(f"{m.name}: {m.error}" for m in measured[: len(asked_for)] if m.error):
        return Answer("fail", found, "write the query so that it runs before the change as well as after it")
    if found := "; ".join(f"{m.name}: {m.error}" for m in measured if m.error):
        return Answer("warn", found, "its cost before and after cannot be compared; look why it does not run")
    return Answer("pass", ", ".join(s.name for s in queries))
