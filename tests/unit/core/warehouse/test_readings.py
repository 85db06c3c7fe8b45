"""The queries whose cost is compared are such that both shapes can answer them."""

from __future__ import annotations

import pytest

from schema_change.core.warehouse.readings import readings
from schema_change.core.warehouse.template import Template

COLUMNS = (("id", "bigint"), ("store", "character varying(40)"), ("logged_time", "timestamp with time zone"))
OLD = Template("sales", "", COLUMNS, key=("id",))
WEEK = 'SELECT schema_name, count(*) FROM "public"."sales" WHERE "{}" >= CURRENT_DATE - 7 GROUP BY schema_name'
DAY = 'SELECT count(*) FROM "public"."sales" WHERE "logged_time" >= CURRENT_DATE - 1 AND "logged_time" < CURRENT_DATE'
BY_TENANT = 'SELECT schema_name, count(*) FROM "public"."sales" GROUP BY schema_name'


def new(**types: str) -> Template:
    """Return the template with only these columns."""
    return Template("sales", "", tuple(types.items()))


def asked(old: Template, new: Template) -> list[str]:
    return [reading.query for reading in readings(old, new)]


def test_a_day_a_week_and_a_row() -> None:
    assert asked(OLD, OLD) == [
        DAY,
        WEEK.format("logged_time"),
        'SELECT * FROM "public"."sales" WHERE "id" = \'1\'',
    ]


@pytest.mark.parametrize(
    ("types", "queries"),
    [
        ({"id": "integer", "logged_time": "date"}, ["logged_time", "id"]),
        ({"id": "uuid", "logged_time": "text"}, []),
        ({"id": "text"}, ["id"]),
        ({"id": "bigint[]"}, []),
        ({"store": "text"}, []),
    ],
)
def test_what_goes_or_means_something_else_is_not_asked_for(types: dict[str, str], queries: list[str]) -> None:
    found = asked(OLD, new(**types))
    assert [name for name in ("logged_time", "id") if any(f'"{name}" ' in query for query in found)] == queries
    assert (BY_TENANT in found) is ("logged_time" not in queries)


def test_a_key_of_several_columns() -> None:
    old = Template("sales", "", (("day", "date"), ("Shop", "uuid")), key=("day", "Shop"))
    assert asked(old, old)[-1] == (
        'SELECT * FROM "public"."sales" WHERE "day" = \'today\' AND "Shop" = \'00000000-0000-0000-0000-000000000000\''
    )
