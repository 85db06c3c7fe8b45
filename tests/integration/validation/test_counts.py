"""Counts for a report: what is counted, and what becomes of a query that cannot be run."""

from __future__ import annotations

from schema_change.core.database import Connection
from schema_change.core.model import Tally, to_json
from schema_change.core.validation.counts import Counts, take_counts


def test_each_count_is_by_itself(connection: Connection) -> None:
    queries = {
        "wrong": "SELECT 1 / 0",
        "writes": "CREATE TABLE t (id integer)",
        "right": "SELECT g AS of_tenant, 'a' AS what FROM generate_series(1, 2) AS g",
        "long": "SELECT g FROM generate_series(1, 501) AS g",
    }
    wrong, writes, right, long = take_counts(connection, [Tally(*item) for item in queries.items()])
    assert wrong == Counts("wrong", "", error="division by zero")
    assert writes.error == "cannot execute CREATE TABLE in a read-only transaction"
    assert right == Counts("right", "", ("of tenant", "what"), ((1, "a"), (2, "a")))
    assert to_json(right)["rows"] == [[1, "a"], [2, "a"]]
    assert (len(long.rows), long.more) == (500, True)
