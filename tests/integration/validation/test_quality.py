from __future__ import annotations

from pathlib import Path

import pytest
from upath import UPath

from schema_change.core.database import Connection, Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.journal import registry
from schema_change.core.validation.outcomes import CheckOutcome
from schema_change.core.validation.quality import run_data_quality
from schema_change.core.validation.results import store_results

FIXTURES = Path(__file__).parents[2] / "fixtures" / "expectations"


@pytest.fixture
def shop(connection: Connection) -> Connection:
    connection.execute("""
        CREATE SCHEMA shop;
        CREATE TABLE shop.customers (id int PRIMARY KEY);
        CREATE TABLE shop.orders (id int PRIMARY KEY, customer_id int, total numeric, paid numeric);
        INSERT INTO shop.customers VALUES (1), (2);
        INSERT INTO shop.orders VALUES (1, 1, 10, 10), (2, 2, 10, 20), (3, 7, 10, 0)""")
    return connection


def test_runs_the_suites_of_a_connection_and_stores_what_they_found(
    target: Target, shop: Connection, tmp_path: Path
) -> None:
    mine = Target("shop", target.parameters)
    for run_id in ("scheduled__1", "scheduled__1", "scheduled__2"):
        outcome = run_data_quality(mine, FIXTURES, run_id=run_id, dag_id="data_quality", docs=UPath(tmp_path))
        assert [o.check_id for o in outcome.blocking] == ["expect_no_orphaned_rows:customer_id"]
    stored = shop.execute(
        "SELECT suite, table_name, check_id, column_name, severity, status, element_count, unexpected_count, sample,"
        " kwargs, dag_id FROM schema_change.data_quality_results WHERE run_id = 'scheduled__1' ORDER BY id"
    ).fetchall()
    assert stored == [
        (
            "orders",
            "shop.orders",
            "expect_column_values_to_not_be_null:customer_id",
            "customer_id",
            "critical",
            "passed",
            3,
            0,
            None,
            {"column": "customer_id"},
            "data_quality",
        ),
        (
            "orders",
            "shop.orders",
            "paid_at_most_total",
            None,
            "warning",
            "failed",
            3,
            1,
            [{"id": 2}],
            {"sql": "paid <= total"},
            "data_quality",
        ),
        (
            "orders",
            "shop.orders",
            "expect_no_orphaned_rows:customer_id",
            "customer_id",
            "critical",
            "failed",
            3,
            1,
            [{"id": 3}],
            {"columns": ["customer_id"], "parent_table": "customers", "parent_columns": ["id"]},
            "data_quality",
        ),
        (
            "customers",
            "shop.customers",
            "expect_table_row_count_to_be_between",
            None,
            "critical",
            "passed",
            None,
            None,
            None,
            {"min_value": 1},
            "data_quality",
        ),
    ]


def test_suites_of_other_connections_are_left_out(target: Target, shop: Connection) -> None:
    outcome = run_data_quality(target, FIXTURES, run_id="r")
    assert {o.suite for o in outcome.outcomes} == {"customers"}


def test_a_folder_without_suites_is_no_success(target: Target, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no suite"):
        run_data_quality(target, tmp_path, run_id="r")


def test_a_retried_run_replaces_its_results(connection: Connection) -> None:
    registry.install(connection)
    first = CheckOutcome("s", "a.t", "c", "expect_x", None, "critical", "error", error="time-out")
    second = CheckOutcome("s", "a.t", "c", "expect_x", None, "critical", "passed", observed={"quantiles": [0.5]})
    assert store_results(connection, [first], run_id="r", dag_id=None) == 1
    assert store_results(connection, [second], run_id="r", dag_id="d") == 1
    assert store_results(connection, [], run_id="r", dag_id="d") == 0
    rows = connection.execute(
        "SELECT status, error, observed, dag_id FROM schema_change.data_quality_results"
    ).fetchall()
    assert rows == [("passed", None, {"quantiles": [0.5]}, "d")]
