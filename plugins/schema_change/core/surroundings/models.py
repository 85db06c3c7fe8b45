"""The keys of a change file that say what to do and to look at around the change."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schema_change.core.fields import Text, TimeZone
from schema_change.core.names import Table
from schema_change.core.sqltext.grammar import SqlError
from schema_change.core.sqltext.statements import split

POINTS = (
    "before_migrate",
    "after_migrate",
    "before_cutover",
    "after_cutover",
    "before_rollback",
    "after_rollback",
    "before_restore",
    "after_restore",
)
#: ``${NAME}`` stands for a variable of the environment in which the task runs, so that no secret is in git.
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "private-token"})


def _url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} and not VARIABLE.match(url):
        raise ValueError(f"expected a URL that starts with http:// or https://, found {url!r}")
    if "@" in parts.netloc:
        raise ValueError("a URL holds no user or password; send a header such as Authorization: Basic ${TOKEN}")
    return url


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - few changes have one

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"not a JSON Schema: {error.message}") from error
    return schema


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name.lower() in _SECRET_HEADERS and not VARIABLE.search(value):
            raise ValueError(f"{name} is a secret; take it from the environment: {name}: ${{NAME}}")
    return headers


def _program(argv: list[str]) -> list[str]:
    if "/" in argv[0] and not PurePosixPath(argv[0]).is_absolute():
        raise ValueError(f"{argv[0]!r} is relative; write an absolute path, or a name found in PATH")
    return argv


def _variable_names(names: list[str]) -> list[str]:
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"expected the name of an environment variable, found {name!r}")
    return names


def _one_query(query: str) -> str:
    statements = split(query)
    if len(statements) != 1 or statements[0].kind != "SELECT" or statements[0].writes:
        raise SqlError("expected one SELECT that writes nothing")
    return statements[0].text


def _index(name: str) -> str:
    Table.parse(name)
    return name


Url = Annotated[str, AfterValidator(_url)]
JsonSchema = Annotated[dict[str, Any], AfterValidator(_json_schema)]
Query = Annotated[str, AfterValidator(_one_query)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpCall(_Part):
    """A request, and what its answer must be."""

    url: Url = Field(description="Where to; ${NAME} is taken from the environment of the worker")
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = Field(
        default={}, description="Headers to send; secrets as ${NAME}, from the environment of the worker"
    )
    body: Any = Field(default=None, alias="json", description="What to send, as JSON")
    status: int | None = Field(default=None, ge=100, le=599, description="Status expected; without it, any 2xx")
    json_schema: JsonSchema | None = Field(default=None, description="JSON Schema that the answer must fit")
    latency_ms: int | None = Field(default=None, ge=1, description="How long the answer may take")
    timeout_s: float = Field(default=10, gt=0, le=600, description="When to give up on one request")
    within_s: float = Field(default=0, ge=0, le=3600, description="How long to keep asking until the answer is good")


class HealthCheck(HttpCall):
    """A request whose answer tells that a service is well."""

    within_s: float = Field(default=30, ge=0, le=3600, description="How long to keep asking until the answer is good")


class Metric(_Part):
    """A query of Prometheus, and the bounds within which every value of its result must be."""

    url: Url = Field(description="Prometheus itself, such as http://prometheus:9090; ${NAME} as in health")
    query: Text = Field(description="PromQL; an empty result fails, so write '… or vector(0)' where it means zero")
    max: float | None = Field(default=None, description="Highest value that is fine")
    min: float | None = Field(default=None, description="Lowest value that is fine")
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = {}
    timeout_s: float = Field(default=10, gt=0, le=600)

    @model_validator(mode="after")
    def _bounded(self) -> Metric:
        if self.max is None and self.min is None:
            raise ValueError("says no bound; add max or min")
        return self


class PrometheusCheck(Metric):
    """A metric that must be within its bounds at certain times of a run."""

    within_s: float = Field(default=30, ge=0, le=3600, description="How long to keep asking until the value is fine")


class Hook(_Part):
    """Something to do at a point of the run: start a program, or call a URL."""

    run: Annotated[list[str], Field(min_length=1), AfterValidator(_program)] | None = Field(
        default=None, description="Program and arguments; no shell, and a bare name is looked up in PATH"
    )
    env: Annotated[list[str], AfterValidator(_variable_names)] = Field(
        default=[], description="Variables of the worker's environment that the program gets besides"
    )
    timeout_s: float = Field(default=300, gt=0, le=86_400, description="When to end the program and fail")
    http: HttpCall | None = Field(default=None, description="A request instead of a program")

    @model_validator(mode="after")
    def _one(self) -> Hook:
        if (self.run is None) == (self.http is None):
            raise ValueError("expected either run or http")
        if self.http is not None and self.model_fields_set - {"http"}:
            raise ValueError("env and timeout_s are for run; http has a timeout_s of its own")
        return self


class Hooks(_Part):
    """What to do at each point of a run, in order."""

    before_migrate: list[Hook] = []
    after_migrate: list[Hook] = []
    before_cutover: list[Hook] = []
    after_cutover: list[Hook] = []
    before_rollback: list[Hook] = []
    after_rollback: list[Hook] = []
    before_restore: list[Hook] = []
    after_restore: list[Hook] = []

    def at(self, point: str) -> list[Hook]:
        """Return the hooks of a point."""
        hooks: list[Hook] = getattr(self, point)
        return hooks


class Sentinel(_Part):
    """A query that must not become slower: its plan and cost are compared before and after."""

    name: Text = Field(description="What it is called in the report")
    query: Query = Field(description="One SELECT, with typical values in place of parameters")
    max_cost_ratio: float = Field(default=2.0, gt=0, description="How many times the cost may be what it was before")
    critical: bool = Field(default=False, description="Roll back when it got worse, instead of a warning")
    analyze: bool = Field(default=False, description="Also run it, in a read-only transaction, and measure the time")
    max_ms: float | None = Field(default=None, gt=0, description="How long it may take afterwards; needs analyze")

    @model_validator(mode="after")
    def _measured(self) -> Sentinel:
        if self.max_ms is not None and not self.analyze:
            raise ValueError("max_ms needs analyze: true")
        return self


class Soak(_Part):
    """Time between validate and contract in which health and metrics are watched, and rollback loses nothing."""

    hours: float = Field(gt=0, le=24 * 90, description="How long to watch before the old shape is removed")
    every_s: float = Field(default=60, ge=1, le=86_400, description="How often to look")
    failures: int = Field(default=3, ge=1, description="After how many bad looks in a row the change is rolled back")


class Blackout(_Part):
    """A time in which nothing is changed, such as the days before Christmas."""

    from_: Text = Field(alias="from", description="First day, or a time such as 2024-12-20 18:00")
    to: Text = Field(description="Last day, or a time at which it is over")
    reason: Text = Field(description="Why")
    timezone: TimeZone = Field(default="UTC", description="Time zone of both, such as Europe/Berlin")

    @model_validator(mode="after")
    def _forwards(self) -> Blackout:
        if self.end <= self.start:
            raise ValueError(f"to ({self.to}) must be after from ({self.from_})")
        return self

    @property
    def start(self) -> dt.datetime:
        """Return the first moment."""
        return self._moment(self.from_, days=0)

    @property
    def end(self) -> dt.datetime:
        """Return the moment from which on changes are possible again."""
        return self._moment(self.to, days=1)

    def _moment(self, text: str, *, days: int) -> dt.datetime:
        """Return the moment a text stands for; a mere day is ``days`` later, so that a last day belongs to it."""
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"expected a day, or a time such as 2024-12-20 18:00, found {text!r}") from None
        if len(text) == len("2024-12-20"):
            moment += dt.timedelta(days=days)
        return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(self.timezone))


class Throttle(_Part):
    """Limits above which a backfill pauses; it goes on by itself below 80 % of them.

    Sizes are in MB of 1024 × 1024 bytes.
    """

    give_way: bool = Field(
        default=True, description="Whether batches are short, with a rest behind each, while other sessions are at work"
    )
    replica_lag_s: float = Field(default=5, gt=0, description="How far a streaming replica may be behind")
    lock_waiters: int = Field(default=1, ge=1, description="How many sessions waiting for a lock on the table are many")
    long_transaction_s: float = Field(
        default=600, gt=0, description="How old a transaction may be that keeps many dead rows from being vacuumed"
    )
    dead_rows: int = Field(default=10_000_000, ge=1, description="Dead rows that are many, once autovacuum is due")
    dead_rows_ratio: float = Field(default=0.5, gt=0, description="The same, as a share of the live rows; both count")
    growth_mb: int = Field(default=1_000, ge=1, description="By how much the table may grow while autovacuum is due")
    growth_ratio: float = Field(
        default=1, gt=0, description="The same, as a share of its size at the start; both count"
    )
    wal_mb_per_s: float | None = Field(default=None, gt=0, description="WAL the server may write per second")
    slot_wal_mb: int = Field(default=10_000, ge=1, description="WAL that a replication slot may hold back, used or not")
    sql: Query | None = Field(
        default=None, description="One SELECT of a boolean, or of a reason: true, or a text, means pause"
    )
    prometheus: Metric | None = Field(default=None, description="A metric; out of its bounds means pause")


class BackfillDag(_Part):
    """Another DAG that fills data, run to its end between migrate and backfill."""

    dag_id: Text = Field(description="The DAG to trigger")
    conf: dict[str, Any] = Field(default={}, description="Its conf")


class IndexUsage(_Part):
    """An index that must be used."""

    index: Annotated[str, AfterValidator(_index)] = Field(description="The index, such as public.idx_features_range")
    min_scans: int = Field(default=1, ge=1, description="How often it must have been used since the change landed")


class FollowUp(_Part):
    """A check that runs some time after the change landed."""

    name: Text = Field(description="What it is called in the table and in errors")
    after_hours: float = Field(ge=0, le=24 * 365, description="When, counted from the end of contract")
    index_usage: IndexUsage | None = None
    no_rows: Query | None = Field(default=None, description="One SELECT of what must not be there")

    @model_validator(mode="after")
    def _one(self) -> FollowUp:
        if (self.index_usage is None) == (self.no_rows is None):
            raise ValueError("expected either index_usage or no_rows")
        return self


class Surroundings(_Part):
    """What lies around a change. None of it says what is done to the database."""

    hooks: Hooks = Field(default=Hooks(), description="What to do before and after parts of the run")
    health: list[HealthCheck] = Field(default=[], description="Requests whose answers tell that services are well")
    prometheus: list[PrometheusCheck] = Field(default=[], description="Metrics that must stay within bounds")
    sentinels: list[Sentinel] = Field(default=[], description="Queries that must not become slower")
    soak: Soak | None = None
    blackouts: list[Blackout] = Field(default=[], description="When migrate, cutover and contract do not start")
    backfill_dag: BackfillDag | None = None
    throttle: Throttle = Field(default=Throttle(), description="When a backfill pauses")
    follow_ups: list[FollowUp] = Field(default=[], description="Checks that run some time after the change landed")

    @model_validator(mode="after")
    def _names(self) -> Surroundings:
        for what, names in (
            ("sentinels", [s.name for s in self.sentinels]),
            ("follow_ups", [f.name for f in self.follow_ups]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"two of the {what} have the same name")
        return self

    @classmethod
    def of(cls, change: Mapping[str, Any]) -> Surroundings:
        """Read them from a change as the journal keeps it."""
        return cls.model_validate({key: value for key, value in change.items() if key in cls.model_fields})

    def to_json(self) -> dict[str, Any]:
        """Return them as plain JSON data, without what has its default value."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
