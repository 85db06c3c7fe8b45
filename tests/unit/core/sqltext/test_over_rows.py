from __future__ import annotations

import pytest

from schema_change.core.sqltext.expression import parse_over_rows
from schema_change.core.sqltext.grammar import SqlError


@pytest.mark.parametrize(
    "text",
    [
        "count(*)",
        "min(day)",
        "MIN(year || '-' || (quarter * 3 - 2) || '-01')::DATE",
        "upper(station) || max(t.name)",
        "array_agg(name ORDER BY day) FILTER (WHERE day IS NOT NULL)",
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY v)",
        "stats.median(v)",
        "coalesce(sum(v), 0)",
    ],
)
def test_aggregates_and_columns_of_the_group(text: str) -> None:
    assert parse_over_rows(text, {"station"}).text


def test_it_tells_what_it_reads() -> None:
    read = parse_over_rows("min(day) + max(t.hours)", {"station"})
    assert read.columns == ("day", "hours")
    assert read.may_read("t", "hours")


@pytest.mark.parametrize(
    "text",
    [
        "day",
        "min(day) + hours",
        "t.*",
        "row_number() OVER (ORDER BY day)",
        "(SELECT max(x) FROM other)",
        "min(day), max(day)",
        "max(random())",
        "pg_sleep(1)",
        "min(day) FROM t",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(SqlError):
        parse_over_rows(text, {"station"})
