"""The daily upkeep of the template warehouse: days brought up to date, years folded, public access in an emergency."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import ConfigurationError, ExecutionError, LockNotAvailable, SchemaChangeError
from schema_change.core.execution.statements import message_of
from schema_change.core.wording import counted

#: Days of a tenant are brought up to date one after the other, so the members of a template wait for each other.
_PATIENCE = "1h"
#: Each dropped day takes several locks of the server's table of locks.
_DROPPED_AT_ONCE = 50
_ANSWER_WITHIN = "20s"
#: SQLSTATE classes after which a later try can succeed, as in operators/outcome, and a lock that was not free.
_TRANSIENT = ("08", "40", "53", "57P", "55P03")


@dataclass(frozen=True, slots=True)
class Member:
    """A template in a tenant's schema; ``tenant`` is the name of its connection."""

    template: str
    tenant: str
    schema: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.template}"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What was brought up to date; days whose year or month has its table are left alone, and counted in ``folded``."""

    member: Member
    days: int
    folded: int
    is_view_new: bool
    is_public_view_new: bool

    def __str__(self) -> str:
        more = (
            f", {counted(self.folded, 'day')} that are in tables left as they are" if self.folded else "",
            ", the tenant's view reads new parts" if self.is_view_new else "",
            ", the public view reads the tenant" if self.is_public_view_new else "",
        )
        return f"{self.member}: {counted(self.days, 'day')} brought up to date{''.join(more)}"


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of a year or a month; ``rows`` is None unless its table was made just now."""

    member: Member
    period: str
    rows: int | None
    dropped: int
    is_there: bool = True

    def __str__(self) -> str:
        if not self.is_there:
            return f"{self.member}: {self.period} has no days to fold"
        made = "already has its table" if self.rows is None else f"folded into a table of {counted(self.rows, 'row')}"
        return f"{self.member}: {self.period} {made}, {counted(self.dropped, 'part')} dropped"


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a tenant's source answers; ``error`` says why not. ``schemas`` have its data."""

    tenant: str
    schemas: tuple[str, ...]
    ms: int | None
    error: str | None

    def __str__(self) -> str:
        return f"{self.tenant}: " + (f"answers in {self.ms} ms" if self.error is None else self.error)


@dataclass(frozen=True, slots=True)
class LoggedError:
    """An error in the toolkit's log."""

    at: dt.datetime
    message: str
    context: Mapping[str, Any]
    actor: str


def members(connection: Connection, templates: Sequence[str] = ()) -> list[Member]:
    """Return every template with parts in a tenant's schema, of the templates given or of all.

    Raises ConfigurationError without a toolkit, and for a template that is not known.
    """
    _require_toolkit(connection)
    _require_templates(connection, templates)
    return [Member(*row) for row in _rows(connection, "members", templates=list(templates))]


def today(connection: Connection) -> dt.date:
    """Return the day it is in UTC, as the server says."""
    found: dt.date = _one(connection, "today")
    return found


def last_finished_year(connection: Connection) -> int:
    """Return the last year that is over in UTC."""
    return int(_one(connection, "last_finished_year"))


def refresh(connection: Connection, member: Member, first: dt.date, last: dt.date) -> Refreshed:
    """Bring each day up to date in a transaction of its own, then the views that lack what is new.

    A day that fails loses no other. Raises ExecutionError at the end, naming the days that failed and the first reason;
    it is retryable when a later try may succeed for all of them.
    """
    days = [first + dt.timedelta(n) for n in range((last - first).days + 1)]
    where = {"template": member.template, "tenant": member.tenant, "schema": member.schema}
    failures: list[tuple[str, psycopg.Error]] = []
    with _explained(str(member)):
        folded = list(_rows(connection, "folded", **where))
    wanted = [day for day in days if not any(first <= day < until for first, until in folded)]
    for day in wanted:
        with _kept(connection, failures, str(day)), _holding(connection, member.template, shared=True):
            _one(connection, "update_day", **where, day=day)
    is_view_new = is_public_view_new = False
    with _kept(connection, failures, "the views"):
        is_view_new = _update_if(connection, where, "view_lacks_parts", "update_tenant_view")
        is_public_view_new = _update_if(connection, where, "public_lacks_tenant", "update_public_view")
    if failures:
        raise _not_up_to_date(member, failures)
    return Refreshed(member, len(wanted), len(days) - len(wanted), is_view_new, is_public_view_new)


def fold(connection: Connection, member: Member, period: str) -> Folded:
    """Make the table of a year (2025) or a month (2026-03), let the tenant's view read it, then drop what it took in.

    Can be repeated: it goes on where it was interrupted. Raises ExecutionError, for example when days are missing.
    """
    where = {"template": member.template, "schema": member.schema, "period": period}
    rows, dropped = None, 0
    with _explained(f"{member}: {period} could not be folded"):
        if not _one(connection, "has_parts", **where):
            return Folded(member, period, None, 0, is_there=False)
        with _holding(connection, member.template):
            made = _one(connection, "fold", **where)
            rows = made.get("rows")
        # By itself, so that a reader who is in the way does not cost the table.
        with _holding(connection, member.template):
            _one(connection, "update_tenant_view", **where)
        while True:
            with _holding(connection, member.template):
                batch = _one(connection, "drop_folded", **where, at_most=_DROPPED_AT_ONCE)
            dropped += batch
            if batch < _DROPPED_AT_ONCE:
                return Folded(member, period, rows, dropped)


def emergency(connection: Connection, template: str, *, only_years: bool, schemas: Sequence[str] = ()) -> None:
    """Let the public view read only yearly tables, or only the tenants given, whatever else is broken.

    It stays so until :func:`back_to_normal`. Raises ConfigurationError when nothing is chosen, or what is chosen is not
    there; ExecutionError.
    """
    _require_toolkit(connection)
    _require_templates(connection, [template])
    known = [name for (name,) in _rows(connection, "schemas_with_view", template=template)]
    if not only_years and not schemas:
        raise ConfigurationError("nothing is chosen for the public view", hint="yearly tables only, or some tenants")
    if unknown := sorted(set(schemas) - set(known)):
        raise ConfigurationError(
            f"no tenant's view of template {template} is in schema {', '.join(unknown)}",
            hint=f"there are {', '.join(known) or 'none'}",
        )
    with _naming_readers(connection, template), connection.transaction():
        _one(
            connection,
            "emergency_public_view",
            template=template,
            only_years=only_years,
            schemas=list(schemas) or None,
        )


def back_to_normal(connection: Connection, template: str) -> None:
    """Let the public view read all tenants again. Raises ConfigurationError; ExecutionError while one is broken."""
    _require_toolkit(connection)
    _require_templates(connection, [template])
    with _naming_readers(connection, template), _holding(connection, template):
        _one(connection, "update_public_view", template=template)


def check(connection: Connection) -> list[Answer]:
    """Ask the source of every tenant whether it answers."""
    _require_toolkit(connection)
    return [_ask(connection, tenant, tuple(schemas)) for tenant, schemas in _rows(connection, "tenants")]


def healthy_schemas(connection: Connection, template: str) -> list[str]:
    """Return the schemas with a view of a template whose tenants' sources answer.

    Raises ConfigurationError; ExecutionError when there is none.
    """
    answers = check(connection)
    _require_templates(connection, [template])
    shown = {name for (name,) in _rows(connection, "schemas_with_view", template=template)}
    found = sorted(s for answer in answers if answer.error is None for s in answer.schemas if s in shown)
    if not found:
        failed = "; ".join(str(answer) for answer in answers if answer.error is not None)
        raise ExecutionError(
            f"no tenant of template {template} is healthy: {failed or 'there is none'}",
            hint="restore the yearly tables only: they need no source",
        )
    return found


def errors_since(connection: Connection, at: dt.datetime) -> list[LoggedError]:
    """Return the errors in the toolkit's log since a time."""
    _require_toolkit(connection)
    return [LoggedError(*row) for row in _rows(connection, "errors_since", at=at)]


def _ask(connection: Connection, tenant: str, schemas: tuple[str, ...]) -> Answer:
    try:
        with connection.transaction():
            connection.execute(_block("set_statement_timeout"), {"timeout": _ANSWER_WITHIN})
            answer = _one(connection, "check_connection", tenant=tenant)
    except psycopg.errors.QueryCanceled:
        return Answer(tenant, schemas, None, f"does not answer within {_ANSWER_WITHIN}")
    return Answer(tenant, schemas, answer.get("ms"), None if answer["success"] else answer["error"])


def _update_if(connection: Connection, where: Mapping[str, Any], lacks: str, update: str) -> bool:
    """Update a view when it lacks something; both are blocks."""
    if not _one(connection, lacks, **where):
        return False
    with _holding(connection, where["template"]):
        _one(connection, update, **where)
    return True


@contextlib.contextmanager
def _holding(connection: Connection, template: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the template's lock for a transaction; for that one, unlike for tables, there is time.

    Who makes days shares it: those of several tenants are made side by side.
    """
    with connection.transaction():
        usual = _one(connection, "lock_timeout")
        _one(connection, "set_lock_timeout", timeout=_PATIENCE)
        try:
            _one(connection, "lock_template", template=template, shared=shared)
        except psycopg.errors.LockNotAvailable as error:
            raise LockNotAvailable(
                f"template {template} was in use by other sessions for {_PATIENCE}",
                hint="a change, or another upkeep, is at work on it: see schema-change status, and try again later",
            ) from error
        _one(connection, "set_lock_timeout", timeout=usual)
        yield


@contextlib.contextmanager
def _kept(connection: Connection, failures: list[tuple[str, psycopg.Error]], what: str) -> Iterator[None]:
    """Keep an error for later, as long as the session can go on."""
    try:
        yield
    except psycopg.Error as error:
        if connection.closed:
            raise _failed(what, error) from error
        failures.append((what, error))


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _failed(what, error) from error


@contextlib.contextmanager
def _naming_readers(connection: Connection, template: str) -> Iterator[None]:
    """Say which sessions are in the way when the public view cannot be exchanged: a person has to decide on them."""
    try:
        yield
    except psycopg.Error as error:
        failed = _failed(f"public.{template}", error)
        if isinstance(failed, LockNotAvailable) and (found := _one(connection, "in_the_way", template=template)):
            failed.hint = f"in use by {found}: try again, or end them with pg_terminate_backend"
        raise failed from error


def _failed(what: str, error: psycopg.Error) -> ExecutionError:
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return LockNotAvailable(
            f"{what}: {message_of(error)}", hint="somebody reads or changes it just now: try again, or end that session"
        )
    failed = ExecutionError(f"{what}: {message_of(error)}", hint=error.diag.message_hint)
    failed.retryable = _is_transient(error)
    return failed


def _not_up_to_date(member: Member, failures: list[tuple[str, psycopg.Error]]) -> SchemaChangeError:
    what, first = failures[0]
    names = ", ".join(name for name, _ in failures)
    failed = ExecutionError(
        f"{member}: could not be brought up to date: {names}; {what}: {message_of(first)}",
        hint=first.diag.message_hint or "schema-change warehouse check says whether the tenant's source answers",
    )
    failed.retryable = all(_is_transient(error) for _, error in failures)
    failed.__cause__ = first
    return failed


def _is_transient(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_TRANSIENT)


def _require_toolkit(connection: Connection) -> None:
    row = connection.execute(sqlfiles.block("queries/warehouse", "is_installed")).fetchone()
    if row is None or not row[0]:
        raise ConfigurationError(
            "this database has no toolkit of the warehouse",
            hint="schema-change warehouse install, as a superuser; where _wh has other functions, these do the upkeep",
        )


def _require_templates(connection: Connection, templates: Sequence[str]) -> None:
    known = [name for (name,) in _rows(connection, "template_names")]
    if unknown := sorted(set(templates) - set(known)):
        raise ConfigurationError(
            f"there is no template {', '.join(unknown)}", hint=f"known: {', '.join(known) or 'none'}"
        )


def _rows(connection: Connection, name: str, **values: Any) -> list[tuple[Any, ...]]:
    return connection.execute(_block(name), values).fetchall()


def _row(connection: Connection, name: str, **values: Any) -> tuple[Any, ...]:
    return _rows(connection, name, **values)[0]


def _one(connection: Connection, name: str, **values: Any) -> Any:
    return _row(connection, name, **values)[0]


def _block(name: str) -> sql.SQL:
    return sqlfiles.block("queries/warehouse_upkeep", name)
