from __future__ import annotations

import datetime as dt
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from schema_change.core.validation import translate
from schema_change.core.validation.outcomes import CheckOutcome, Status, ValidationOutcome
from schema_change.core.validation.pages import render


def _outcome(check_id: str, status: Status, severity: str, **more: Any) -> CheckOutcome:
    return CheckOutcome("s", "app.t", check_id, "expect_x", None, severity, status, **more)


def test_errors_block_whatever_their_severity() -> None:
    outcome = ValidationOutcome(
        (
            _outcome("a", "passed", "critical"),
            _outcome("b", "failed", "critical"),
            _outcome("c", "failed", "warning"),
            _outcome("d", "failed", "info"),
            _outcome("e", "error", "info"),
        )
    )
    assert [o.check_id for o in outcome.blocking] == ["b", "e"]
    assert [o.check_id for o in outcome.warnings] == ["c", "d"]


@pytest.mark.parametrize(
    ("type_", "value", "kept"),
    [
        ("expect_column_max_to_be_between", 3, 3),
        ("expect_column_max_to_be_between", Decimal("3.50"), "3.50"),
        ("expect_column_max_to_be_between", dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "2024-01-02T00:00:00+00:00"),
        ("expect_column_max_to_be_between", "2024-01-02T00:00:00+00:00", "2024-01-02T00:00:00+00:00"),
        ("expect_column_max_to_be_between", "ann@example.org", None),
        ("expect_column_distinct_values_to_equal_set", ["ann@example.org", "bob@example.org"], {"values": 2}),
        ("expect_pg_column_type", "numeric(12,2)", "numeric(12,2)"),
        ("expect_column_max_to_be_between", float("nan"), "nan"),
    ],
)
def test_observed_values_are_no_values_of_rows(type_: str, value: Any, kept: Any) -> None:
    assert translate.observed(type_, value) == kept


def test_samples_hold_primary_keys_only() -> None:
    rows = [{"id": 1, "email": "ann@example.org"}, {"email": "no key"}]
    result = SimpleNamespace(result={"partial_unexpected_index_list": rows})
    assert translate.sample(result, ("id",)) == ({"id": 1},)


@pytest.mark.parametrize(
    "info",
    [
        {"raised_exception": True, "exception_message": "no such column\n[SQL: SELECT 1]\n[parameters: x]"},
        {"metric": {"raised_exception": True, "exception_message": "no such column"}, "other": {}},
    ],
)
def test_both_shapes_of_an_error_are_read(info: dict[str, Any]) -> None:
    assert translate.error_of(SimpleNamespace(exception_info=info)) == "no such column"


def test_the_page_is_escaped_and_needs_no_network() -> None:
    outcomes = (
        _outcome("<b>", "failed", "critical", sample=({"id": 7},), unexpected_count=1234, element_count=10_000),
        _outcome("w", "failed", "warning", kwargs={"sql": "a < '<script>'"}),
        _outcome("e", "error", "info", error="<img src=x>"),
    )
    page = render(ValidationOutcome(outcomes), run_name="manual__<1>", conn_id="shop")
    assert "2 of 3 checks block this run" in page
    assert "1 warn" in page
    assert "1,234" in page
    assert "&#34;id&#34;: 7" in page
    for dangerous in ("<b>", "<script>", "<img", "manual__<1>", "http:", "https:", "src=", "href="):
        assert dangerous not in page.replace("&lt;img src=x&gt;", "")


def test_a_page_of_nothing_says_so() -> None:
    assert "No checks were run" in render(ValidationOutcome(()), run_name="r", conn_id="c")
