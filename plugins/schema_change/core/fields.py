"""Types of fields in files that people write; a wrong value is refused when the file is read, with its line."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from schema_change.core.names import MAX_IDENTIFIER_BYTES, Table


def _identifier(name: str) -> str:
    if not name or "\0" in name:
        raise ValueError("a name is empty")
    if (size := len(name.encode())) > MAX_IDENTIFIER_BYTES:
        raise ValueError(f"{name!r} has {size} bytes; PostgreSQL cuts names at {MAX_IDENTIFIER_BYTES}")
    return name


def _table(name: str) -> str:
    table = Table.parse(name)
    _identifier(table.schema)
    _identifier(table.name)
    return name


def _text(value: str) -> str:
    if not (stripped := value.strip()):
        raise ValueError("must not be empty")
    return stripped


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{value!r} is not a time zone; write one such as UTC or Europe/Berlin") from error
    return value


Identifier = Annotated[str, AfterValidator(_identifier)]
"""One name of at most 63 bytes, as the catalog spells it."""

TableName = Annotated[str, AfterValidator(_table)]
"""``table`` or ``schema.table``, with double quotes where needed; kept as written."""

Text = Annotated[str, AfterValidator(_text)]
"""Text that says something; blanks around it are dropped."""

TimeZone = Annotated[str, AfterValidator(_time_zone)]
"""A time zone by its name in the tz database."""
