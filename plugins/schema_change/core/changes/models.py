"""The pydantic models of ``change.yaml``, apart from its operations, which the catalogue defines."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from schema_change.core.changes import spec
from schema_change.core.fields import TableName, Text, TimeZone
from schema_change.core.surroundings.models import Surroundings

_VERSION = re.compile(r"v\d{1,6}\.\d{1,6}\.\d{1,6}", re.ASCII)
_CONN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_SUITE = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*\.ya?ml", re.ASCII)
_HOUR = re.compile(r"([01]\d|2[0-3]):[0-5]\d", re.ASCII)
_MAX_VERSION = 20


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"expected {what}, found {value!r}")
        return value

    return AfterValidator(check)


def _schema(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


Version = Annotated[str, _matching(_VERSION, "a version such as v1.2.0"), _schema(_VERSION)]
ConnId = Annotated[str, _matching(_CONN_ID, "letters, digits, dots, dashes and underscores"), _schema(_CONN_ID)]
Suite = Annotated[str, _matching(_SUITE, "a .yaml file below the folder of expectations"), _schema(_SUITE)]
Hour = Annotated[str, _matching(_HOUR, "a time such as 22:00"), _schema(_HOUR)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Registry(_Model):
    """The table whose version this change raises; a run stops when the database says another version."""

    table: TableName = Field(description="Table as the registry names it")
    from_: Version | None = Field(alias="from", description="Version before the change; null for a new table")
    to: Version = Field(description="Version after the change, such as v1.1.0")
    definition: dict[str, Any] | None = Field(default=None, description="What to store as the table's definition")

    @model_validator(mode="after")
    def _upwards(self) -> Registry:
        if self.from_ is not None and _number(self.to) <= _number(self.from_):
            raise ValueError(f"to ({self.to}) must be higher than from ({self.from_})")
        if len(self.to) > _MAX_VERSION:
            raise ValueError(f"a version has at most {_MAX_VERSION} characters")
        return self

    def value(self) -> spec.RegistryVersion:
        """Return what a loaded change carries."""
        return spec.RegistryVersion(self.table, self.from_, self.to, self.definition)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.removeprefix("v").split(".")))


class Window(_Model):
    """The hours of a day in which migrate, cutover and contract may start."""

    from_: Hour = Field(alias="from", description="First minute, such as 22:00")
    to: Hour = Field(description="End, such as 04:00; earlier than from means the next day")
    timezone: TimeZone = Field(default="UTC", description="Time zone of both, such as Europe/Berlin")
    outside: Literal["wait", "refuse"] = Field(
        default="wait", description="What migrate, cutover and contract do outside of it, and in a blackout"
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Window:
        if self.from_ == self.to:
            raise ValueError("from and to are the same; leave the window out when any time is fine")
        return self

    def value(self) -> spec.Window:
        """Return what a loaded change carries."""
        start, end = dt.time.fromisoformat(self.from_), dt.time.fromisoformat(self.to)
        return spec.Window(start, end, self.timezone, self.outside)


class ChangeFile(Surroundings):
    """A schema change of a PostgreSQL database.

    It has typed operations, or the scripts deploy.sql and revert.sql (and verify.sql) beside this file, or both.
    """

    description: Text = Field(description="What the change does and why, in a sentence")
    conn_id: ConnId = Field(description="Airflow connection of the database")
    registry: Registry | None = None
    operations: list[Any] = Field(default=[], description="What to do, in order; each item is one operation")
    backfill: Any = Field(default=None, description="What to fill in batches after deploy.sql")
    expectations: Suite | None = Field(
        default=None, description="Great Expectations suite, a .yaml file below the folder of expectations"
    )
    extensions: list[Text] = Field(default=[], description="PostgreSQL extensions that must be installed")
    waivers: dict[str, Text] = Field(default={}, description="Lint rules that do not apply here, each with its reason")
    window: Window | None = None
    contacts: dict[str, Text] = Field(default={}, description="Whom to ask: a role, and the person")

    def surroundings(self) -> Surroundings:
        """Return what lies around the change, without the change."""
        return Surroundings.model_construct(**{name: getattr(self, name) for name in Surroundings.model_fields})
