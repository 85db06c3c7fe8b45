"""What a loaded change is: an immutable value, the same for every stage, the UI and the CLI."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from schema_change.core.errors import ChangeFileError
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation
from schema_change.core.surroundings.models import Surroundings

CHECKSUM_ALGORITHM = "sha256-v1"
"""Stored beside every checksum. It changes when :meth:`Change.canonical` or the chaining does."""

CHANGE_FILE = "change.yaml"

_NUMBERED = re.compile(r"(?P<version>\d{1,7})_(?P<name>[a-z][a-z0-9_]*)", re.ASCII)
_SEQUENCED = re.compile(r"(?P<version>\d{8}_\d{4})_(?P<name>[a-z][a-z0-9_]*)", re.ASCII)
_STAMPED = re.compile(r"(?P<version>\d{14})_(?P<name>[a-z][a-z0-9_]*)", re.ASCII)
_MAX_ID = 120
_NAME_REMEDY = (
    "name it YYYYMMDDHHMMSS_what_it_does (also read: YYYYMMDD_NNNN_what_it_does, 004_what_it_does); "
    "lower-case letters, digits and underscores"
)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """The place of a change among the others: numbered ones first, by number, then dated ones, by time.

    ``YYYYMMDD_NNNN`` takes the place of ``YYYYMMDDHHMM00`` with NNNN read as HHMM. Two versions with the same place
    (``4`` and ``004``, ``20240208_1430`` and ``20240208143000``) would be mistaken for each other and are refused.
    """

    dated: bool
    place: int
    text: str = field(compare=False)

    @classmethod
    def split(cls, folder: Path) -> tuple[Version, str]:
        """Return version and name from a folder's name. Raises ChangeFileError with the remedy."""
        file = str(folder)
        if len(folder.name) > _MAX_ID:
            raise ChangeFileError(f"the name is longer than {_MAX_ID} characters", file=file, hint=_NAME_REMEDY)
        if match := _NUMBERED.fullmatch(folder.name):
            return cls(dated=False, place=int(match["version"]), text=match["version"]), match["name"]
        match = _STAMPED.fullmatch(folder.name) or _SEQUENCED.fullmatch(folder.name)
        if match is None:
            raise ChangeFileError("not the name of a change", file=file, hint=_NAME_REMEDY)
        digits = match["version"].replace("_", "")
        try:
            # A sequence number is no time of day (0099 is fine), a timestamp's last six digits are.
            dt.datetime.strptime(digits[:8] + (digits[8:] if len(digits) == 14 else "000000"), "%Y%m%d%H%M%S")  # noqa: DTZ007
        except ValueError:
            raise ChangeFileError(f"{match['version']} is not a date", file=file, hint=_NAME_REMEDY) from None
        return cls(dated=True, place=int(digits.ljust(14, "0")), text=match["version"]), match["name"]


@dataclass(frozen=True, slots=True)
class RegistryVersion:
    """The version of a table before and after; ``from_version`` is None for a new table."""

    table: str
    from_version: str | None
    to_version: str
    definition: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The hours of a day in which the change may start, in ``timezone``; ``end`` before ``start`` spans midnight.

    ``outside`` says whether a stage waits for them, or refuses.
    """

    start: dt.time
    end: dt.time
    timezone: str = "UTC"
    outside: str = "wait"

    def contains(self, moment: dt.datetime) -> bool:
        """Tell whether an aware moment lies inside; the start belongs to the window, the end does not."""
        now = moment.astimezone(ZoneInfo(self.timezone)).time()
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def next_start(self, moment: dt.datetime) -> dt.datetime:
        """Return the first start after an aware moment, in UTC; a start the clock leaps over comes an hour later."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        start = dt.datetime.combine(local.date(), self.start, local.tzinfo)
        start = start if start > moment else start + dt.timedelta(days=1)  # on the wall clock
        return start.astimezone(dt.UTC)

    def __str__(self) -> str:
        return f"{self.start:%H:%M}–{self.end:%H:%M} {self.timezone}"


@dataclass(frozen=True)
class Change:
    """One versioned unit in git, read and checked.

    ``registry`` is None for a change that versions no table. ``expectations`` is a file name below the folder of
    expectations. ``waivers`` maps a lint rule to the reason it does not apply here; ``contacts`` a role to a person.
    ``checksum`` is chained: it covers the checksum of the change before it on the same connection. ``files_sha256``
    covers the bytes of every file that runs, so that a later task of a run sees when a file changed under it.
    """

    version: str
    name: str
    folder: Path
    description: str
    conn_id: str
    operations: tuple[Operation, ...]
    registry: RegistryVersion | None = None
    expectations: str | None = None
    waivers: Mapping[str, str] = field(default_factory=dict)
    window: Window | None = None
    contacts: Mapping[str, str] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()
    surroundings: Surroundings = field(default_factory=Surroundings)
    checksum: str = ""
    parent_checksum: str | None = None
    files_sha256: str = ""
    blocked_by: str | None = None
    """The broken change before it on this connection, if any: shown and finished as usual, but not to be started."""

    @property
    def id(self) -> str:
        """Return version and name, which is the folder's name."""
        return f"{self.version}_{self.name}"

    @property
    def mentioned(self) -> frozenset[Table]:
        """Return every name in the operations that could be a table's; most are not, and some tables are missing."""
        return frozenset(t for o in self.operations for text in _texts(o.model_dump(mode="json")) for t in _table(text))

    def canonical(self) -> dict[str, Any]:
        """Return the change as plain JSON data, without what follows from the place of the folder.

        Keys with their default value are left out, so that a release which adds an optional key leaves the
        checksums of applied changes alone.
        """
        registry = self.registry and {
            "table": self.registry.table,
            "from": self.registry.from_version,
            "to": self.registry.to_version,
            "definition": self.registry.definition,
        }
        window = self.window and {
            "from": self.window.start.isoformat(),
            "to": self.window.end.isoformat(),
            "timezone": self.window.timezone,
            **({} if self.window.outside == "wait" else {"outside": self.window.outside}),
        }
        data: dict[str, Any] = {
            "version": self.version,
            "name": self.name,
            "description": self.description,
            "conn_id": self.conn_id,
            "registry": registry,
            "operations": [{o.kind: o.model_dump(mode="json", exclude_defaults=True)} for o in self.operations],
            "expectations": self.expectations,
            "waivers": dict(self.waivers),
            "window": window,
            "contacts": dict(self.contacts),
            "extensions": list(self.extensions),
            **self.surroundings.to_json(),
        }
        return {key: value for key, value in data.items() if value}

    def ensure_startable(self) -> None:
        """Raise ChangeFileError when a change before this one is broken, so that its place in the chain is unknown."""
        if self.blocked_by is not None:
            raise ChangeFileError(
                f"cannot be started: {self.blocked_by}, which comes before it, is broken",
                file=str(self.folder / CHANGE_FILE),
                hint=f"repair {self.blocked_by} first",
            )


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _table(text: str) -> tuple[Table, ...]:
    try:
        return (Table.parse(text),)
    except ValueError:
        return ()
