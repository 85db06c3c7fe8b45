"""The pages and texts people read: the migration guide and the run's report."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from schema_change.core.wording import counted, sized

_ISO = re.compile(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(.*)$")
_SPECIAL = re.compile(r"([\\`*\[\]|<>])")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("schema_change.core", "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "md": escape_markdown,
        "fence": fence,
        "duration": duration,
        "moment": moment,
        "number": number,
        "counted": counted,
        "sized": sized,
    }
    return environment


def render(template: str, **context: Any) -> str:
    """Render a template of this package; values are escaped in those that end in ``.html``."""
    return _environment().get_template(template).render(**context)


def escape_markdown(text: object) -> str:
    """Return text that Markdown shows as it is, on one line, also inside a table."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def fence(text: str) -> str:
    """Return a fence of back-ticks longer than any in the text."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))


def duration(seconds: float | None) -> str:
    """Return a duration for people: ``12 ms``, ``3.4 s``, ``5 min``, ``1 h 05 min``; empty when there is none."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def moment(text: str) -> str:
    """Return an ISO time for people, to the second: ``2024-02-08 14:30:02 UTC``; other text stays as it is."""
    return _ISO.sub(r"\1 \2 \3", text).replace("+00:00", "UTC")


def number(value: float | None) -> str:
    """Return a number with separators; empty when there is none."""
    return "" if value is None else f"{value:,}"
