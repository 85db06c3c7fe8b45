"""Checks of a change of a template of the warehouse: its sources, the locks of its readers, what lies on its views."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence

import psycopg

from schema_change.core.execution.statements import message_of
from schema_change.core.journal import registry
from schema_change.core.names import quote
from schema_change.core.prechecks.model import Answer, CheckContext, enumerate_some
from schema_change.core.templates import duration
from schema_change.core.warehouse.operation import WarehouseOperation
from schema_change.core.warehouse.template import Template
from schema_change.core.wording import counted

Chosen = list[tuple[WarehouseOperation, Template]]
#: The runbook's limit, in seconds, of what is a risk by its length alone.
_LONG_S = 2 * 3600
#: What a day of one tenant takes while none was ever built: the runbook's 15 to 45 minutes for 289 days.
_A_DAY_S = 6.0
#: Readers that should be able to read everything at the same time.
_READERS = 10
_NOT_ONE = Answer("skipped", "no template of a warehouse is changed")


def sources(context: CheckContext) -> Answer:
    """Fail when a tenant's source does not answer, unless such a tenant may be skipped."""
    chosen = _chosen(context)
    if not chosen:
        return _NOT_ONE
    if any(template.own for _, template in chosen):
        return _own_sources(context, [template for _, template in chosen])
    schemas = sorted({s for operation, template in chosen for wave in operation.waves(template) for s in wave})
    if unknown := [row[0] for row in context.rows("warehouse", "without_tenant", schemas=schemas)]:
        return Answer(
            "fail",
            f"nobody knows from which tenant connection the days come of {enumerate_some(unknown)}",
            "INSERT INTO _wh.tenant_schemas (schema_name, tenant_name) VALUES …",
        )
    answers = context.rows("warehouse", "connections", schemas=schemas)
    silent = [f"{schema}: {answer['error']}" for schema, answer in answers if not answer["success"]]
    if not silent:
        return Answer("pass", f"{counted(len(answers), 'source')} answered")
    most = min(operation.skip_at_most if operation.source_down == "skip" else 0 for operation, _ in chosen)
    remedy = "see _wh.tenant_connections, or leave the tenant out with tenants:"
    return Answer("warn" if len(silent) <= most else "fail", f"no answer: {enumerate_some(silent)}", remedy)


def _own_sources(context: CheckContext, templates: Sequence[Template]) -> Answer:
    """Fail when a source does not answer by the connections of a warehouse that has functions of its own."""
    if not context.rows("warehouse_own", "has_dblink")[0][0]:
        return Answer("skipped", "the warehouse's own functions ask the sources, and not by dblink")
    owns = [template.own for template in templates if template.own is not None]
    tenants = sorted({name for own in owns for names in own.connections.values() for name in names})
    silent = []
    for tenant in tenants:
        try:
            context.rows("warehouse_own", "answer", tenant=tenant)
        except psycopg.Error as error:
            silent.append(f"{tenant}: {message_of(error)}")
    if silent:
        return Answer("fail", f"no answer: {enumerate_some(silent)}", "see _wh.tenant_connections")
    return Answer("pass", f"{counted(len(tenants), 'source')} answered")


def owners(context: CheckContext) -> Answer:
    """Fail when a part or view of the template belongs to somebody as whom we may not act: it could not be moved."""
    chosen = _chosen(context)
    if not chosen:
        return _NOT_ONE
    if any(template.own for _, template in chosen):
        return Answer("skipped", "the warehouse's own functions move the parts")
    problems, remedies = [], []
    for name in sorted({template.name for _, template in chosen}):
        for owner, is_superuser, is_upon, number, example in context.rows("warehouse", "not_ours", template=name):
            what = f"of {name}" if not is_upon else f"that others made on {name}"
            problems.append(f"{counted(number, 'relation')} {what}, such as {example}, belong to {owner}")
            if not is_superuser:
                remedies.append(f"GRANT {quote(owner)} TO wh_admin")
            else:
                remedies.append(
                    f"ALTER TABLE {example} OWNER TO …" if is_upon else "as a superuser: SELECT _wh.give_to_admin()"
                )
    if problems:
        return Answer("fail", "; ".join(problems), "; ".join(dict.fromkeys(remedies)))
    return Answer("pass", "every part and view can be moved")


def lock_capacity(context: CheckContext) -> Answer:
    """Warn when few readers could read the public view at the same time, and say what the server would need."""
    found = []
    for _, template in _chosen(context):
        file = "warehouse" if template.own is None else "warehouse_own"
        of_a_read, per_transaction, transactions = context.rows(file, "locks", template=template.name)[0]
        room = per_transaction * transactions
        if of_a_read * _READERS > room:
            needed = math.ceil(of_a_read * _READERS / transactions)
            found.append(
                f"one read of public.{template.name} takes {of_a_read} locks, and the server has room for {room}; "
                f"for {_READERS} readers max_locks_per_transaction must be {needed}, it is {per_transaction}"
            )
    if not _chosen(context):
        return _NOT_ONE
    if found:
        remedy = "raise it and restart the server, or fold finished years and months: schema-change warehouse fold"
        return Answer("warn", "; ".join(found), remedy)
    return Answer("pass", f"room for {_READERS} readers of everything")


def risks(context: CheckContext) -> Answer:
    """Warn about what makes such a change a bad idea today: what is new, what is long, and days that must be quiet."""
    chosen = _chosen(context)
    if not chosen:
        return _NOT_ONE
    if any(template.own for _, template in chosen):
        new_tenants, new_functions = context.rows("warehouse_own", "new_tenants")[0][0], False
    else:
        new_tenants, new_functions = context.rows("warehouse", "risks")[0]
    seconds, expected = _expected(context, chosen)
    found = [
        *([f"tenants of this week: {enumerate_some(new_tenants)}"] if new_tenants else []),
        *(["the toolkit was upgraded this week"] if new_functions else []),
        *(["it is not rehearsed"] if context.options.skip_rehearsal or context.options.skip_backup else []),
        *(f"no {kind} has landed in this warehouse before" for kind in _untried(context, chosen)),
        *(["it takes more than two hours"] if seconds > _LONG_S else []),
        *_reached(context, dt.timedelta(seconds=seconds)),
    ]
    if found:
        message = "; ".join((*found, f"expected to take {expected}"))
        return Answer("warn", message, "look at the plan once more, or name a tenant to begin with in canary:")
    return Answer("pass", f"no new tenants, no new functions; expected to take {expected}")


def _expected(context: CheckContext, chosen: Chosen) -> tuple[float, str]:
    """Return how long the days will take to be built, in seconds and in words that say from what it is known."""
    known = registry.is_installed(context.connection)
    found = context.rows("warehouse", "seconds_a_day") if known else []
    a_day = max(found[0][0], 0.0) if found else _A_DAY_S
    seconds, days = 0.0, 0
    for operation, template in chosen:
        schemas = [schema for wave in operation.waves(template) for schema in wave]
        work = _work(context, operation, template, schemas)
        # A source is asked by one session at a time.
        seconds += work * (a_day + operation.source_pause_s) / min(context.options.shards, len(schemas))
        days += work
    rests = " and the rest behind it" if any(operation.source_pause_s for operation, _ in chosen) else ""
    why = "as when days were built last" if found else "assumed, none was built by a change here"
    return seconds, f"about {duration(seconds)} for {counted(days, 'day')}, {a_day:.2g} s each{rests} ({why})"


def _work(context: CheckContext, operation: WarehouseOperation, template: Template, schemas: Sequence[str]) -> int:
    """Return how many days the sources are asked for, one of each tenant counted by itself."""
    if template.own is not None:
        return template.days
    beside = operation.strategy == "build_beside"
    year = getattr(operation, "history_from", None) if beside else None
    rows = context.rows("warehouse", "work", template=template.name, schemas=schemas, history_from=year)
    return int(rows[0][0])


def _untried(context: CheckContext, chosen: Chosen) -> list[str]:
    """Return the operations that have never landed in this database."""
    kinds = sorted({operation.kind for operation, _ in chosen})
    if not registry.is_installed(context.connection):
        return kinds
    return [row[0] for row in context.rows("warehouse", "never_landed", kinds=kinds)]


def _reached(context: CheckContext, takes: dt.timedelta) -> Iterator[str]:
    """Yield the blackouts that the change would run into, when it began now."""
    now = dt.datetime.now(dt.UTC)
    for blackout in (*context.change.surroundings.blackouts, *context.blackouts):
        if blackout.start < now + takes and now < blackout.end:
            yield f"it would run into a blackout, from {blackout.start:%Y-%m-%d %H:%M %Z} on: {blackout.reason}"


def _chosen(context: CheckContext) -> Chosen:
    templates = context.catalog.templates or {}
    operations = (o for o in context.change.operations if isinstance(o, WarehouseOperation))
    return [(o, templates[o.template]) for o in operations if o.template in templates]
