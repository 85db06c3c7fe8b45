from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest

from schema_change.core.changes.procedures import PROCEDURES
from schema_change.core.changes.spec import Change
from schema_change.core.errors import ConfigurationError
from schema_change.core.operations import catalogue

AT = datetime(2026, 2, 8, 14, 30, 2, tzinfo=UTC)


def change(procedure: str, run: str = "r", **values: Any) -> Change:
    return PROCEDURES[procedure].change(values, run=run, conn_id="shop", at=AT)


def test_the_form_gives_the_change_that_a_file_would_hold() -> None:
    made = change(
        "add_column",
        table="sales.orders",
        column="paid",
        type="boolean",
        nullable=False,
        fill="orders.status = 'paid'",
        default="",
        comment=None,
        version_from="v1.0.0",
        version_to="v1.1.0",
    )
    assert made.canonical() == {
        "version": made.version,
        "name": "add_column_orders_paid",
        "description": "Add a column: orders paid",
        "conn_id": "shop",
        "registry": {"table": "orders", "from": "v1.0.0", "to": "v1.1.0", "definition": None},
        "operations": [
            {
                "add_column": {
                    "table": "sales.orders",
                    "column": {"name": "paid", "type": "boolean", "nullable": False},
                    "fill": "orders.status = 'paid'",
                }
            }
        ],
    }
    assert made.version.startswith("20260208143002_")


def test_the_same_run_gives_the_same_change_and_another_run_another() -> None:
    values = {"table": "orders", "column": "paid", "type": "boolean"}
    assert change("add_column", **values) == change("add_column", **values)
    assert change("add_column", **values).version != change("add_column", run="other", **values).version


@pytest.mark.parametrize("name", PROCEDURES)
def test_every_parameter_is_a_key_of_its_operation_and_says_what_it_is(name: str) -> None:
    procedure = PROCEDURES[name]
    assert procedure.operation in catalogue()
    for parameter, schema in procedure.schemas().items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema.get("description"), parameter
        if "default" in schema:
            jsonschema.validate(schema["default"], schema)
    about = "template" if "template" in procedure.fields else "table"
    assert "default" not in procedure.schemas()[about]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fill": "(SELECT max(salary) FROM hr.people)"}, "fill: hr.people is read"),
        ({"fill": "public.steal(orders.id)"}, r"fill: public.steal\(\) is called"),
        ({"fill": "(SELECT max(a) FROM crosstab('SELECT 1') AS c (a int))"}, "fill: a subquery is run"),
        ({"fill": "orders.id OPERATOR(public.+) 1"}, r"fill: operator public.\+ is called"),
        ({"fill": "(orders).steal"}, "fill: a field of a composite value"),
        ({"default": "current_setting('primary_conninfo')"}, r"default: current_setting\(\) is called"),
        ({"default": "5", "fill": 5}, "fill: "),
        ({"default": "nextval('s')"}, "default: "),
        ({"fill": "1; DROP TABLE orders"}, "fill: "),
        ({"column": "x" * 64}, "column: .*64 bytes"),
        ({"version_to": "1.0"}, "version_to: "),
        ({"new_rows": "nobody"}, "new_rows: "),
    ],
)
def test_what_a_form_may_not_ask_for_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        change("add_column", **{"table": "orders", "column": "paid", "type": "integer", **values})
    assert refused.value.hint


@pytest.mark.parametrize("item", ["public.steal(id)", "(id OPERATOR(public.+) 1)", "((orders).steal)"])
def test_the_items_of_an_index_are_no_way_around_it(item: str) -> None:
    with pytest.raises(ConfigurationError, match=r"columns: .* which a form may not ask for"):
        change("add_index", table="orders", columns=["id", item])
    made = change("add_index", table="orders", columns=["My Id", "lower(name) DESC", "day text_pattern_ops"])
    assert made.canonical()["operations"] == [
        {"create_index": {"table": "orders", "columns": ["My Id", "lower(name) DESC", "day text_pattern_ops"]}}
    ]


def test_a_function_is_postgresqls_own_whatever_a_user_or_an_extension_calls_theirs() -> None:
    fill = "généré || lower(substring(orders.name from 2)) /* x */ || crosstab2('SELECT 1') -- y"
    [operation] = change("add_column", table="orders", column="a", type="text", fill=fill).canonical()["operations"]
    assert operation["add_column"]["fill"] == (
        "généré || pg_catalog.lower(substring(orders.name from 2))   || pg_catalog.crosstab2('SELECT 1')"
    )


def test_the_name_of_the_change_is_one_for_files_and_logs_whatever_the_column_is_called() -> None:
    odd = change("add_column", table='"a/../b"', column="../x\n<b>", type="text")
    assert odd.name == "add_column_a_b__x_b_"
    long = change("add_column", table="t" * 63, column="c" * 63, type="text")
    assert len(long.id) <= 120


def test_nulls_are_filled_only_with_a_value() -> None:
    assert change("set_not_null", table="t", column="c", nulls="fill", fill="0").operations[0].model_dump()[
        "nulls"
    ] == {"fill": "0"}
    for values in ({"nulls": "fill"}, {"fill": "0"}):
        with pytest.raises(ConfigurationError, match="nulls: fill"):
            change("set_not_null", table="t", column="c", **values)


TEMPLATE = {"template": "foodlogstats", "column": "waste_category"}
ADD_TO_TEMPLATE = {**TEMPLATE, "type": "text", "expression": "l.waste_category"}


def test_a_form_for_a_template_of_the_warehouse_gives_what_a_file_would_hold() -> None:
    made = change(
        "warehouse_add_column",
        **ADD_TO_TEMPLATE,
        default="'UNKNOWN'",
        index=True,
        history_from=2024,
        tenants=["*"],
        canary=["landb"],
        source_down="skip",
        skip_at_most=2,
        source_pause_s=1,
        version_from="v1.0.0",
        version_to="v1.1.0",
    )
    assert made.name == "warehouse_add_column_foodlogstats_waste_category"
    assert made.description == "Add a column to a template of the warehouse: foodlogstats waste category"
    assert made.canonical()["registry"] == {
        "table": "foodlogstats",
        "from": "v1.0.0",
        "to": "v1.1.0",
        "definition": None,
    }
    assert made.canonical()["operations"] == [
        {
            "warehouse_add_column": {
                **ADD_TO_TEMPLATE,
                "default": "'UNKNOWN'",
                "index": True,
                "history_from": 2024,
                "canary": ["landb"],
                "source_down": "skip",
                "skip_at_most": 2,
                "source_pause_s": 1.0,
            }
        }
    ]


def test_the_other_forms_for_templates() -> None:
    modify = change("warehouse_modify_column", **TEMPLATE, type="varchar(20)", using="waste_category || ''")
    assert modify.canonical()["operations"] == [
        {
            "warehouse_modify_column": {
                **TEMPLATE,
                "type": "varchar(20)",
                "using": "waste_category || ''",
            }
        }
    ]
    remove = change("warehouse_remove_column", **TEMPLATE, keep_days=90, tenants=["cafe_*"])
    assert remove.canonical()["operations"] == [
        {"warehouse_remove_column": {**TEMPLATE, "keep_days": 90, "tenants": ["cafe_*"]}}
    ]


@pytest.mark.parametrize("name", [name for name in PROCEDURES if name.startswith("warehouse_")])
def test_a_form_for_templates_offers_every_key_of_its_operation(name: str) -> None:
    procedure = PROCEDURES[name]
    assert {f.key for f in procedure.fields.values()} == set(catalogue()[procedure.operation].model_fields)
    # Nobody means all tenants by an empty list.
    assert procedure.schemas()["tenants"]["minItems"] == 1


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("l.waste_category", "l.waste_category"),
        ('upper(l."Kind") || s.name', 'pg_catalog.upper(l."Kind") || s.name'),
        ("CASE WHEN l.weight > 5 THEN 'much' END", "CASE WHEN l.weight > 5 THEN 'much' END"),
    ],
)
def test_an_expression_is_over_the_rows_of_the_templates_query(written: str, asked: str) -> None:
    made = change("warehouse_add_column", **{**ADD_TO_TEMPLATE, "expression": written})
    assert made.canonical()["operations"][0]["warehouse_add_column"]["expression"] == asked


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"expression": "(SELECT max(salary) FROM hr.people)"}, "expression: hr.people is read"),
        ({"expression": "(SELECT l.a)"}, "expression: a subquery is run"),
        ({"expression": "EXISTS (SELECT)"}, "expression: a subquery is run"),
        ({"expression": "public.steal(l.id)"}, r"expression: public.steal\(\) is called"),
        ({"expression": "(l).steal"}, "expression: a field of a composite value"),
        ({"expression": "l.id OPERATOR(public.+) 1"}, r"expression: operator public.\+ is called"),
        ({"expression": "current_setting('primary_conninfo')"}, r"expression: current_setting\(\) is called"),
        ({"expression": "pg_read_file('/etc/passwd')"}, r"expression: .*pg_read_file\(\)"),
        ({"expression": "dblink('host=x', 'SELECT 1')"}, r"expression: .*dblink\(\)"),
        ({"expression": "l.a, l.b"}, "expression: .*more than one value"),
        ({"expression": "l.a FROM log l; DROP TABLE log; --"}, "expression: "),
        ({"expression": "sum(l.a)"}, "expression: .*needs many rows"),
        ({"default": "(SELECT 'x' FROM hr.people)"}, "default: hr.people is read"),
        ({"type": "text; DROP TABLE log", "source_down": "wait"}, "source_down: "),
        ({"history_from": 24}, "history_from: "),
        ({"template": "x" * 64}, "template: .*64 bytes"),
    ],
)
def test_what_a_form_may_not_ask_of_a_source_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        change("warehouse_add_column", **{**ADD_TO_TEMPLATE, **values})
    assert refused.value.hint


def test_using_is_no_way_around_it() -> None:
    for using in ("(SELECT 1)", "public.steal(waste_category)"):
        with pytest.raises(ConfigurationError, match=r"using: .* which a form may not ask for"):
            change("warehouse_modify_column", **TEMPLATE, type="text", using=using)
