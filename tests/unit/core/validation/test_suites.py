from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from schema_change.core.errors import ChangeFileError
from schema_change.core.model import Expectation
from schema_change.core.names import Table
from schema_change.core.validation.suites import load_suite, suite_from_operations

FIXTURES = Path(__file__).parents[3] / "fixtures" / "expectations"
HEAD = "name: s\ntable: app.t\nexpectations:\n"
NOT_NULL = "expect_column_values_to_not_be_null"


def test_reads_one_suite_per_document() -> None:
    orders, customers = load_suite(FIXTURES / "shop.yaml")
    assert (orders.name, orders.table, orders.conn_id) == ("orders", Table("shop", "orders"), "shop")
    assert (customers.name, customers.conn_id) == ("customers", None)
    assert [(c.check_id, c.severity) for c in orders.checks] == [
        ("expect_column_values_to_not_be_null:customer_id", "critical"),
        ("paid_at_most_total", "warning"),
        ("expect_no_orphaned_rows:customer_id", "critical"),
    ]
    assert orders.checks[0].notes == "every order has a customer"
    assert orders.checks[1].kwargs == {"sql": "paid <= total"}


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ("", None, None, "has no suite"),
        ("name: [", 1, None, "is not YAML"),
        ("name: s\ntable: app.t\nexpectations: []\n", 3, "expectations", "would always pass"),
        ("name: s\ntabel: app.t\nexpectations: []\n", 1, "table", "Field required"),
        ("name: s\ntable: a.b.c\nexpectations:\n  - {type: x}\n", 2, "table", "more than two parts"),
        ("name: s\nname: t\n", 2, "name", "is there twice, first on line 1"),
        (f"{HEAD}  - type: {NOT_NULL}s\n", 4, "expectations.0.type", f"did you mean '{NOT_NULL}'"),
        (f"{HEAD}  - type: {NOT_NULL}\n    kwarg: {{}}\n", 5, "expectations.0.kwarg", "did you mean 'kwargs'"),
        (f"{HEAD}  - type: {NOT_NULL}\n    kwargs: {{}}\n", 5, "expectations.0.kwargs.column", "field required"),
        (
            f"{HEAD}  - type: {NOT_NULL}\n    kwargs:\n      column: a\n      mostley: 1\n",
            7,
            "expectations.0.kwargs.mostley",
            "did you mean 'mostly'",
        ),
        (
            f"{HEAD}  - type: {NOT_NULL}\n    kwargs: {{column: a}}\n    severity: critcal\n",
            6,
            "expectations.0.severity",
            "did you mean 'critical'",
        ),
        (
            f"{HEAD}  - {{type: {NOT_NULL}, kwargs: {{column: a}}, meta: {{checkid: x}}}}\n",
            4,
            "expectations.0.meta",
            "",
        ),
        (f"{HEAD}" + f"  - {{type: {NOT_NULL}, kwargs: {{column: a}}}}\n" * 2, 5, "expectations.1", "used twice"),
        (
            "---\n".join(f"{HEAD}  - {{type: {NOT_NULL}, kwargs: {{column: {c}}}}}\n" for c in "ab"),
            6,
            "name",
            "two suites are named 's'",
        ),
        (
            f"{HEAD}  - type: expect_rows_to_satisfy_sql\n    kwargs: {{sql: 'a > 0; DROP TABLE t'}}\n",
            5,
            "expectations.0.kwargs",
            "exactly one expression",
        ),
        (
            f"{HEAD}  - type: expect_rows_to_satisfy_sql\n    kwargs: {{sql: 'a > 0', 'on': other.table}}\n",
            5,
            "expectations.0.kwargs.on",
            "no such kwarg",
        ),
        (
            HEAD
            + "  - type: expect_no_orphaned_rows\n    kwargs: {columns: [a, b], parent_table: p, parent_columns: [c]}",
            5,
            "expectations.0.kwargs",
            "same length",
        ),
        (
            HEAD + "  - type: expect_pg_schema_to_match\n    kwargs:\n      columns: {a: {type: text, nulable: true}}",
            6,
            "expectations.0.kwargs.columns.a",
            "extra fields",
        ),
    ],
)
def test_refuses_what_it_does_not_understand(
    tmp_path: Path, text: str, line: int | None, key: str | None, says: str
) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ChangeFileError) as raised:
        load_suite(file)
    error = raised.value
    assert (error.file, error.line) == (str(file), line)
    assert (error.key or "").startswith(key or "")
    assert says in str(error)


def test_a_missing_file_is_a_change_file_error(tmp_path: Path) -> None:
    with pytest.raises(ChangeFileError, match="cannot be read"):
        load_suite(tmp_path / "nothing.yaml")


def test_operations_make_one_suite_per_table_and_lose_no_check() -> None:
    one, other = Table("app", "a"), Table("app", "b")
    null = Expectation(one, NOT_NULL, {"column": "x"}, "not_null")
    twin = Expectation(one, NOT_NULL, {"column": "y"}, "not_null")
    third = Expectation(one, NOT_NULL, {"column": "z"}, "not_null")
    elsewhere = Expectation(other, NOT_NULL, {"column": "x"}, "not_null")
    first, second = suite_from_operations("20240208_x", [elsewhere, null, twin, null, twin, third])
    assert (first.name, second.name) == ("20240208_x:app.a", "20240208_x:app.b")
    assert [(c.check_id, c.kwargs["column"]) for c in first.checks] == [
        ("not_null", "x"),
        ("not_null#2", "y"),
        ("not_null#3", "z"),
    ]


def test_nothing_imports_great_expectations_before_it_is_needed() -> None:
    code = (
        "import sys, schema_change.core.validation.quality, schema_change.core.validation.gx\n"
        "sys.exit('great_expectations' in sys.modules)"
    )
    assert _python(code).returncode == 0


def test_the_library_is_imported_without_a_word() -> None:
    code = (
        "import logging; logging.basicConfig(level=logging.INFO)\n"
        "from schema_change.core.validation.quiet import load_builder; load_builder()"
    )
    result = _python("-W", "error", code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = str(Path(__file__).parents[4] / "plugins")
    command = [sys.executable, *arguments[:-1], "-c", arguments[-1]]
    return subprocess.run(command, env={"PYTHONPATH": path}, check=False, capture_output=True, text=True)


def test_the_library_still_drops_what_it_does_not_understand() -> None:
    """The reason for our own loader: when this fails, the library has become strict."""
    from schema_change.core.validation.quiet import load_builder

    load_builder()
    import great_expectations as gx

    suite = gx.ExpectationSuite(name="s", expectations=[{"type": "expect_nothing_we_know", "kwargs": {}}])
    assert suite.expectations == []
