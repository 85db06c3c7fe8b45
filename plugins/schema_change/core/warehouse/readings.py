"""What readers of a template's public view usually ask, so that its cost can be compared before and after. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from psycopg import sql

from schema_change.core.model import Reading
from schema_change.core.warehouse.template import Template

_TIMES = frozenset({"date", "timestamp"})
#: A value of each kind of key; which one does not matter to the planner, that it is of the type does.
_VALUES = {
    "smallint": "1",
    "integer": "1",
    "bigint": "1",
    "numeric": "1",
    "text": "1",
    "character": "1",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "date": "today",
    "timestamp": "now",
}


def readings(old: Template, new: Template) -> Iterator[Reading]:
    """Yield the queries that both shapes can answer: one day, the last week by tenant, one row by its key."""
    view = old.view.identifier
    types = dict(old.columns)
    both = {name: (types[name], type_) for name, type_ in new.columns if name in types}
    day = next((name for name, (was, is_) in both.items() if {_kind(was), _kind(is_)} <= _TIMES), None)
    if day is None:
        by_tenant = sql.SQL("SELECT schema_name, count(*) FROM {} GROUP BY schema_name").format(view)
        yield _reading(old, "all rows by tenant", by_tenant)
    else:
        column = sql.Identifier(day)
        one_day = sql.SQL("SELECT count(*) FROM {} WHERE {c} >= CURRENT_DATE - 1 AND {c} < CURRENT_DATE")
        yield _reading(old, "one day", one_day.format(view, c=column))
        week = sql.SQL("SELECT schema_name, count(*) FROM {} WHERE {} >= CURRENT_DATE - 7 GROUP BY schema_name")
        yield _reading(old, "the last week by tenant", week.format(view, column))
    if old.key and (values := _values(old, both)):
        pairs = (sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in values)
        row = sql.SQL("SELECT * FROM {} WHERE {}").format(view, sql.SQL(" AND ").join(pairs))
        yield _reading(old, "one row by its key", row)


def _reading(template: Template, name: str, query: sql.Composed) -> Reading:
    return Reading(f"{template.view}: {name}", query.as_string(None))


def _values(template: Template, both: Mapping[str, tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a value for each column of the key; none when one of them has none that fits before and after."""
    found = []
    for name in template.key:
        values = {_VALUES.get(_kind(type_)) for type_ in both.get(name, ())}
        if len(values) != 1 or None in values:
            return []
        found.append((name, str(values.pop())))
    return found


def _kind(type_: str) -> str:
    """Return the first word of a type, such as *timestamp*; empty for an array, and for what is in quotes."""
    found = re.match(r"\w+", type_)
    return found[0] if found and not type_.endswith("[]") else ""
