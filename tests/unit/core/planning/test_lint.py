from __future__ import annotations

from dataclasses import replace

import pytest

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation
from schema_change.core.model import Finding, LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext
from schema_change.core.operations.create_index import CreateIndex
from schema_change.core.operations.set_not_null import SetNotNull
from schema_change.core.planning.lint import apply_waivers, lint_plan

BIG, EMPTY, CHILD = Table("public", "big"), Table("public", "empty"), Table("public", "child")
_COLUMNS = (Column("id", "bigint", nullable=False), Column("n", "integer"), Column("s", "character varying(10)"))
_BIG = Relation(
    BIG,
    "r",
    "owner",
    columns=_COLUMNS,
    rows=1_000_000,
    dependants=("view report",),
    indexes=(
        Index("big_pkey", "CREATE UNIQUE INDEX big_pkey ON public.big USING btree (id)", ("id",), True, True),
        Index("half", "CREATE INDEX half ON public.big USING btree (n)", ("n",), valid=False),
    ),
)
_FK = Constraint("child_fk", "f", "FOREIGN KEY (id) REFERENCES public.empty(id)", ("id",), references=EMPTY)
CATALOG = Catalog(
    180000,
    {
        BIG: _BIG,
        EMPTY: Relation(EMPTY, "r", "owner", columns=_COLUMNS),
        CHILD: Relation(CHILD, "r", "owner", columns=_COLUMNS, constraints=(_FK,)),
    },
)


def _lint(*statements: str, transactional: bool = True) -> dict[str, str]:
    step = Step(Phase.EXPAND, "raw", (), statements, LockMode.ACCESS_EXCLUSIVE, transactional=transactional)
    return {f.rule: f.level for f in lint_plan([step], CATALOG)}


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("CREATE INDEX i ON big (n)", "squawk:require-concurrent-index-creation"),
        ("DROP INDEX half", "squawk:require-concurrent-index-deletion"),
        ("ALTER TABLE public.big ADD CHECK (n > 0)", "squawk:constraint-missing-not-valid"),
        ("ALTER TABLE big ADD FOREIGN KEY (n) REFERENCES empty (id)", "squawk:adding-foreign-key-constraint"),
        ("ALTER TABLE big ADD COLUMN x uuid DEFAULT gen_random_uuid()", "squawk:adding-field-with-default"),
        ("ALTER TABLE big DROP COLUMN n", "squawk:ban-drop-column"),
        ("ALTER TABLE big RENAME COLUMN n TO m", "squawk:renaming-column"),
        ("ALTER TABLE big ALTER n SET NOT NULL", "set-not-null"),
        ("ALTER TABLE big ALTER n TYPE bigint", "type-rewrite"),
        ("UPDATE big SET n = 1", "dml-without-where"),
        ("DELETE FROM big", "dml-without-where"),
        ("TRUNCATE big", "truncate"),
        ("CLUSTER big USING big_pkey", "full-rewrite"),
        ("LOCK TABLE big", "lock-table"),
        ("CREATE INDEX IF NOT EXISTS half ON big (n)", "invalid-index"),
        ("DROP TABLE big", "drop-with-dependants"),
        ("ALTER TABLE big DROP COLUMN s", "drop-with-dependants"),
    ],
)
def test_what_hurts_a_table_with_rows_is_an_error(statement: str, rule: str) -> None:
    assert _lint(statement).get(rule) == "error"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX i ON empty (n)",
        "ALTER TABLE empty ALTER n SET NOT NULL",
        "ALTER TABLE empty DROP COLUMN n",
        "UPDATE empty SET n = 1",
        "ALTER TABLE empty ALTER n TYPE bigint",
        "CREATE TABLE new (id bigint NOT NULL)",
    ],
)
def test_empty_and_new_tables_give_no_error(statement: str) -> None:
    assert "error" not in _lint(statement).values()


def test_the_executor_s_work_is_not_demanded_again() -> None:
    assert _lint("ALTER TABLE big ADD COLUMN x bigint") == {}
    assert _lint("CREATE INDEX CONCURRENTLY i ON big (n)", transactional=False) == {}
    assert _lint("ALTER TABLE big ALTER s TYPE text") == {}


def test_a_referenced_table_is_not_dropped_unseen() -> None:
    assert _lint("DROP TABLE empty")["drop-with-dependants"] == "error"


def test_ddl_and_bulk_rows_belong_into_different_transactions() -> None:
    ddl, rows = "ALTER TABLE big ADD COLUMN x bigint", "UPDATE big SET x = n WHERE n > 0"
    assert _lint(ddl, rows) == {"ddl-with-bulk-dml": "error"}
    assert _lint(rows) == {}
    assert "ddl-with-bulk-dml" not in _lint(ddl, "INSERT INTO big (id) VALUES (1)")


def test_what_cannot_be_analysed_is_said() -> None:
    assert _lint("DO $$ BEGIN END $$") == {"unanalysable": "warning"}
    assert _lint("FROBNICATE big") == {"unanalysable": "warning"}


def test_findings_name_their_statement_across_steps_and_lines() -> None:
    steps = [
        Step(Phase.EXPAND, "a", (), ("SET LOCAL search_path TO public", "ALTER TABLE big\n  ADD x bigint", "SELECT 1")),
        Step(Phase.EXPAND, "b", (), ("SELECT 'ü;\n'", "CREATE INDEX i\n  ON big (n)", "COMMENT ON TABLE big IS 'x'")),
    ]
    (finding,) = lint_plan(steps, CATALOG)
    assert (finding.rule, finding.statement) == (
        "squawk:require-concurrent-index-creation",
        "CREATE INDEX i\n  ON big (n)",
    )
    assert finding.remedy


@pytest.mark.parametrize("version", [150000, 180000])
def test_typed_operations_are_clean(version: int) -> None:
    catalog = replace(CATALOG, server_version=version)
    operations = (CreateIndex(table="big", columns=("n",)), SetNotNull.model_validate({"table": "big", "column": "n"}))
    for operation in operations:
        assert lint_plan(operation.plan(catalog, PlanContext("1")).steps, catalog) == ()


def test_waivers() -> None:
    found = Finding("truncate", "error", "m", "r")
    assert apply_waivers([found], {"truncate": "it is a cache"}) == (replace(found, waived="it is a cache"),)
    unused = apply_waivers([found], {"lock-table": "x"})[1]
    assert (unused.rule, unused.level) == ("unused-waiver", "warning")
