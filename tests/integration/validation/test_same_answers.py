"""Our engine gives the answers that Great Expectations gives as it comes, from fewer passes over the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from sqlalchemy import quoted_name

from schema_change.core.database import Connection, Target
from schema_change.core.model import Expectation
from schema_change.core.names import Table
from schema_change.core.validation import pages, translate
from schema_change.core.validation.gx import run_suites
from schema_change.core.validation.outcomes import CheckOutcome
from schema_change.core.validation.quiet import load_builder
from schema_change.core.validation.suites import Suite

MIXED, EMPTY, SOUND = (Table("app", name) for name in ("Mixed", "empty", "sound"))

NOON = "2024-01-01T12:00:00+00:00"
# The library itself cannot filter a pair of columns whose NULLs count ("neither").
PAID = {"row_condition": {"type": "comparison", "column": {"name": "kind"}, "operator": "==", "parameter": "paid"}}

CHECKS: Sequence[tuple[str, Mapping[str, Any]]] = [
    ("expect_table_row_count_to_be_between", {"min_value": 1, "max_value": 1000}),
    ("expect_table_row_count_to_equal", {"value": 300}),
    ("expect_table_row_count_to_equal_other_table", {"other_table_name": "Twin"}),
    ("expect_table_row_count_to_equal_other_table", {"other_table_name": "sound"}),
    ("expect_table_row_count_to_equal_other_table", {"other_table_name": "empty"}),
    ("expect_table_row_count_to_equal_other_table", {"other_table_name": "nothing"}),
    ("expect_table_row_count_to_equal_other_table", {"other_table_name": "Twin", **PAID}),
    ("expect_table_column_count_to_equal", {"value": 9}),
    ("expect_table_columns_to_match_set", {"column_set": ["id", "Kind Of"], "exact_match": False}),
    ("expect_column_to_exist", {"column": "Kind Of"}),
    ("expect_column_values_to_be_of_type", {"column": "id", "type_": "INTEGER"}),
    ("expect_column_values_to_not_be_null", {"column": "id"}),
    ("expect_column_values_to_not_be_null", {"column": "n"}),
    ("expect_column_values_to_not_be_null", {"column": "n", "mostly": 0.5}),
    ("expect_column_values_to_not_be_null", {"column": "n", **PAID}),
    ("expect_column_values_to_be_null", {"column": "Kind Of"}),
    ("expect_column_values_to_be_between", {"column": "n", "min_value": 0, "max_value": 6}),
    ("expect_column_values_to_be_between", {"column": "n", "min_value": 2, "strict_min": True}),
    ("expect_column_values_to_be_between", {"column": "n", "max_value": 5, "mostly": 0.9, **PAID}),
    ("expect_column_values_to_be_between", {"column": "at", "min_value": NOON}),
    ("expect_column_values_to_be_in_set", {"column": "kind", "value_set": ["new", "paid"]}),
    ("expect_column_values_to_be_in_set", {"column": "kind", "value_set": ["new", "paid", "sent"]}),
    ("expect_column_values_to_not_be_in_set", {"column": "n", "value_set": [3, 4]}),
    ("expect_column_values_to_match_regex", {"column": "mail", "regex": "^u[0-9]+@x$"}),
    ("expect_column_values_to_match_regex", {"column": "mail", "regex": "^u[0-9]@x$"}),
    ("expect_column_values_to_not_match_regex", {"column": "mail", "regex": "9@x"}),
    ("expect_column_values_to_match_like_pattern", {"column": "mail", "like_pattern": "u1%"}),
    ("expect_column_value_lengths_to_equal", {"column": "mail", "value": 5}),
    ("expect_column_value_lengths_to_be_between", {"column": "mail", "min_value": 4, "max_value": 6}),
    ("expect_column_values_to_be_unique", {"column": "id"}),
    ("expect_column_values_to_be_unique", {"column": "n"}),
    ("expect_column_values_to_be_unique", {"column": "id", **PAID}),
    ("expect_column_values_to_be_unique", {"column": "slot", **PAID}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["id", "kind"]}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["n", "slot"]}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["n", "slot"], "ignore_row_if": "any_value_is_missing"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["n", "slot"], "ignore_row_if": "never", **PAID}),
    ("expect_column_min_to_be_between", {"column": "n", "min_value": 0}),
    ("expect_column_max_to_be_between", {"column": "n", "max_value": 5}),
    ("expect_column_max_to_be_between", {"column": "at", "max_value": NOON}),
    ("expect_column_mean_to_be_between", {"column": "price", "min_value": 1, "max_value": 1e6}),
    ("expect_column_sum_to_be_between", {"column": "n", "max_value": 10}),
    ("expect_column_stdev_to_be_between", {"column": "price", "min_value": 0}),
    ("expect_column_stdev_to_be_between", {"column": "price", "min_value": 0, "max_value": 1, **PAID}),
    ("expect_column_median_to_be_between", {"column": "n", "min_value": 1}),
    ("expect_column_unique_value_count_to_be_between", {"column": "kind", "max_value": 2}),
    ("expect_column_unique_value_count_to_be_between", {"column": "n", "max_value": 7, **PAID}),
    ("expect_column_proportion_of_unique_values_to_be_between", {"column": "n", "max_value": 0.1}),
    ("expect_column_proportion_of_non_null_values_to_be_between", {"column": "n", "min_value": 0.99}),
    ("expect_column_distinct_values_to_be_in_set", {"column": "kind", "value_set": ["new", "paid"]}),
    ("expect_column_most_common_value_to_be_in_set", {"column": "kind", "value_set": ["new"]}),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "price", "threshold": 1, "double_sided": True}),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "n", "threshold": 1, "double_sided": True}),
    ("expect_column_pair_values_to_be_equal", {"column_A": "n", "column_B": "slot"}),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "n", "column_B": "slot", "or_equal": True, "mostly": 0.2},
    ),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "n", "column_B": "slot", "ignore_row_if": "either_value_is_missing", **PAID},
    ),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "n", "column_B": "slot", "ignore_row_if": "neither"},
    ),
    (
        "expect_column_pair_values_to_be_in_set",
        {"column_A": "n", "column_B": "slot", "value_pairs_set": [[0, 0], [1, 1], [2, 2]]},
    ),
    ("expect_multicolumn_sum_to_equal", {"column_list": ["n", "slot"], "sum_total": 4}),
    (
        "expect_select_column_values_to_be_unique_within_record",
        {"column_list": ["n", "slot"], "ignore_row_if": "any_value_is_missing"},
    ),
    ("unexpected_rows_expectation", {"unexpected_rows_query": "SELECT * FROM {batch} WHERE n = 3"}),
    ("unexpected_rows_expectation", {"unexpected_rows_query": "SELECT * FROM {batch} WHERE subselect.n = 77"}),
    ("expect_column_values_to_be_between", {"column": "nothing", "min_value": 0}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["n", "nothing"]}),
    ("expect_column_values_to_match_regex", {"column": "mail", "regex": "(unclosed"}),
    ("expect_column_sum_to_be_between", {"column": "mail", "min_value": 0}),
]


@pytest.fixture
def tables(connection: Connection) -> Connection:
    """A table where about half of the checks fail, one of sound rows, and one without rows."""
    connection.execute("""
        CREATE SCHEMA app;
        CREATE TABLE app."Mixed" (
            id int PRIMARY KEY, "Kind Of" text, kind text, n int, slot int, mail text, price numeric(12, 2),
            at timestamptz, part text
        );
        CREATE TABLE app.empty (LIKE app."Mixed" INCLUDING ALL);
        CREATE TABLE app.sound (LIKE app."Mixed" INCLUDING ALL);
        INSERT INTO app."Mixed"
        SELECT
            g, CASE WHEN g % 50 = 0 THEN 'x' END, (ARRAY['new', 'paid', 'sent'])[1 + g % 3],
            CASE WHEN g % 10 > 0 THEN g % 7 END, CASE WHEN g % 15 > 0 THEN g % 5 END, 'u' || g || '@x', g * 1.25,
            '2024-01-01 00:00+00'::timestamptz + g * interval '5 minutes', 'p'
        FROM generate_series(1, 300) AS g;
        CREATE TABLE app."Twin" AS SELECT * FROM app."Mixed";
        INSERT INTO app.sound
        SELECT g, NULL, 'paid', g, g, 'u' || g || '@x', 1, '2024-01-02 00:00+00', NULL
        FROM generate_series(1, 6) AS g""")
    return connection


def as_it_comes(target: Target, suite: Suite) -> list[CheckOutcome]:
    """Return what the library finds by its quick start: its own data source, engine and result format."""
    import great_expectations as gx

    where = target.parameters
    context = pages.context()
    url = f"postgresql+psycopg2://{where['user']}@{where['host']}:{where['port']}/{where['dbname']}"
    source = context.data_sources.add_postgres("pg", connection_string=url)
    data = source.add_table_asset(
        "t", table_name=quoted_name(suite.table.name, quote=True), schema_name=suite.table.schema
    )
    builder = load_builder()
    try:
        results = (
            data.add_batch_definition_whole_table("all")
            .get_batch()
            .validate(gx.ExpectationSuite("s", [builder.build(check) for check in suite.checks]))
            .results
        )
    finally:
        source.get_execution_engine().close()
        source.get_engine().dispose()
    found: dict[str, Any] = {cast("Any", r).expectation_config.meta["check_id"]: r for r in results}
    return [translate.outcome(suite, check, found[check.check_id]) for check in suite.checks]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("table", [MIXED, EMPTY, SOUND], ids=str)
def test_every_answer_is_that_of_the_library(target: Target, tables: Connection, table: Table) -> None:
    checks = tuple(Expectation(table, t, kwargs, f"{i} {t}") for i, (t, kwargs) in enumerate(CHECKS))
    suite = Suite("s", table, checks)
    theirs = as_it_comes(target, suite)
    ours = run_suites(target, [suite], docs=None, run_name="r").outcomes
    statuses = {o.status for o in theirs}
    assert statuses == {"passed", "failed", "error"}
    different = [(m, o) for m, o in zip(ours, theirs, strict=True) if _comparable(m) != _comparable(o)]
    assert not different, "\n".join(f"{m}\n{o}\n" for m, o in different)


def _comparable(outcome: CheckOutcome) -> CheckOutcome:
    """Leave out the sample, which the library does not take, and the words of an error, which quote its query."""
    return dataclasses.replace(outcome, sample=(), error=outcome.error and "error")


def test_a_check_that_cannot_be_computed_leaves_the_others_alone(
    target: Target, tables: Connection, statements: list[str]
) -> None:
    """Aggregates are asked for together, and what is wrong with one of them is found without asking twice."""
    rules = {
        "division": "1 / (n - n) > 0",
        "cast": "kind::int > 0",
        "broken": "n > 3",
        "kept": "id > 0",
    }
    checks = [Expectation(MIXED, "expect_rows_to_satisfy_sql", {"sql": sql}, name) for name, sql in rules.items()]
    checks.append(Expectation(MIXED, "expect_table_row_count_to_equal", {"value": 300}, "rows"))
    outcomes = run_suites(target, [Suite("s", MIXED, tuple(checks))], docs=None, run_name="r").outcomes
    assert [(o.check_id, o.status) for o in outcomes] == [
        ("division", "error"),
        ("cast", "error"),
        ("broken", "failed"),
        ("kept", "passed"),
        ("rows", "passed"),
    ]
    assert "division by zero" in str(outcomes[0].error)
    assert "invalid input syntax for type integer" in str(outcomes[1].error)
    assert len(statements) == len(set(statements)), "something was counted twice"


def test_two_suites_of_one_table_share_what_was_counted(
    target: Target, tables: Connection, statements: list[str]
) -> None:
    checks = (
        Expectation(MIXED, "expect_table_row_count_to_equal", {"value": 300}, "rows"),
        Expectation(MIXED, "expect_column_values_to_not_be_null", {"column": "n"}, "n"),
    )
    run_suites(target, [Suite(name, MIXED, checks) for name in ("a", "b")], docs=None, run_name="r")
    assert len([s for s in statements if "count" in s]) == 1, "\n".join(statements)


def test_values_of_rows_are_never_read(target: Target, tables: Connection, statements: list[str]) -> None:
    checks = (
        Expectation(MIXED, "unexpected_rows_expectation", {"unexpected_rows_query": "SELECT mail FROM {batch}"}, "q"),
        Expectation(MIXED, "expect_column_values_to_be_null", {"column": "mail"}, "mail"),
    )
    query, mail = run_suites(target, [Suite("s", MIXED, checks)], docs=None, run_name="r").outcomes
    assert (query.status, query.observed) == ("failed", 300)
    assert (mail.status, mail.unexpected_count, len(mail.sample)) == ("failed", 300, 10)
    reading = [s for s in statements if "mail" in s and "count(" not in s.lower() and "sum(" not in s]
    assert all("LIMIT" in s for s in reading), "\n".join(reading)
