"""What a pre-check is given, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal
from uuid import UUID

from upath import UPath

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.changes.spec import Change
from schema_change.core.database import Connection, Target
from schema_change.core.model import Plan
from schema_change.core.names import Table
from schema_change.core.stages.request import Options
from schema_change.core.surroundings.models import Blackout

Status = Literal["pass", "warn", "fail", "unknown", "skipped"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found. ``fail`` stops the run; ``unknown`` means it could not be looked at, with the reason."""

    name: str
    status: Status
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A check's answer, before the runner adds its name."""

    status: Status
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class CheckContext:
    """What the checks look at. ``connection`` is an autocommit session on the target; nothing is written through it."""

    connection: Connection
    target: Target
    plan: Plan
    catalog: Catalog
    change: Change
    options: Options
    artifacts: UPath
    scratch: Target | None
    run_id: UUID
    blackouts: tuple[Blackout, ...] = ()
    """Those of the installation, beside those of the change."""

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """Return the tables the plan changes, in order of name."""
        return tuple(sorted({t for step in self.plan.steps for t in step.tables} | set(self.plan.written)))

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        """Return those of the plan's tables that exist."""
        return tuple(r for t in self.tables if (r := self.catalog.get(t)) is not None)

    @cached_property
    def oids(self) -> list[int]:
        """Return the OIDs of the plan's tables and their partitions."""
        return list(self.rows("sessions", "relations", **names_of(self.tables))[0][0])

    @property
    def backfilled(self) -> tuple[Table, ...]:
        """Return the tables with a backfill."""
        return tuple(dict.fromkeys(s.backfill.table for s in self.plan.steps if s.backfill is not None))

    def rows(self, file: str, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a block of ``checks/<file>.sql``."""
        return self.connection.execute(sqlfiles.block(f"checks/{file}", name), parameters).fetchall()


CheckFunction = Callable[[CheckContext], Answer]


@dataclass(frozen=True, slots=True)
class Check:
    """A named check; the ``cheap`` ones run already when planning."""

    name: str
    run: CheckFunction
    cheap: bool = True


def names_of(tables: Iterable[Table]) -> dict[str, list[str]]:
    """Return tables as the two arrays that the SQL blocks take."""
    listed = list(tables)
    return {"schemas": [t.schema for t in listed], "names": [t.name for t in listed]}


def enumerate_some(items: Collection[object], limit: int = 10) -> str:
    """List up to ``limit`` items and say how many there are besides."""
    shown = [str(item) for item, _ in zip(items, range(limit), strict=False)]
    more = len(items) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def age(seconds: float) -> str:
    """Return a duration for people."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
