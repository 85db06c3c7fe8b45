from __future__ import annotations

from dataclasses import replace

import pytest

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation, Use
from schema_change.core.model import Finding, LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.add_column import AddColumn
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
    dependants=("view public.report",),
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
        CHILD: Relation(CHILD, "r", "owner", columns=_COLUMNS, constraints=(_FK,), rows=10),
    },
)


def _step(*statements: str, transactional: bool = True) -> Step:
    return Step(Phase.EXPAND, "raw", (), statements, LockMode.ACCESS_EXCLUSIVE, transactional=transactional)


def _lint(*statements: str, transactional: bool = True) -> dict[str, str]:
    return {f.rule: f.level for f in lint_plan([_step(*statements, transactional=transactional)], CATALOG)}


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


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("ADD FOREIGN KEY (n) REFERENCES public.empty (id)", "squawk:adding-foreign-key-constraint"),
        ("ADD UNIQUE (n)", "squawk:disallowed-unique-constraint"),
        ("ADD PRIMARY KEY (id)", "squawk:adding-serial-primary-key-field"),
        ("ADD CHECK (n > 0)", "squawk:constraint-missing-not-valid"),
        ("ADD EXCLUDE USING gist (n WITH =)", "add-exclude"),
        ("ADD COLUMN x bigserial", "serial-column"),
        ("ADD COLUMN x bigint REFERENCES public.empty (id)", "add-reference"),
        ("ALTER id DROP NOT NULL", "drop-not-null"),
        ("ALTER n SET NOT NULL", "set-not-null"),
    ],
)
def test_one_problem_is_one_finding(statement: str, rule: str) -> None:
    assert set(_lint(f"ALTER TABLE public.child {statement}")) == {rule}


def test_the_executor_s_work_is_not_demanded_again() -> None:
    assert _lint("ALTER TABLE public.big ADD COLUMN x bigint") == {}
    assert _lint("CREATE INDEX CONCURRENTLY i ON public.big (n)", transactional=False) == {}


def test_a_referenced_table_is_not_dropped_unseen() -> None:
    assert _lint("DROP TABLE empty")["drop-with-dependants"] == "error"


def test_ddl_and_bulk_rows_belong_into_different_transactions() -> None:
    ddl, rows = "ALTER TABLE public.big ADD COLUMN x bigint", "UPDATE public.big SET x = n WHERE n > 0"
    assert _lint(ddl, rows) == {"ddl-with-bulk-dml": "error"}
    assert _lint(rows) == {}
    assert "ddl-with-bulk-dml" not in _lint(ddl, "INSERT INTO public.big (id) VALUES (1)")


def test_what_cannot_be_analysed_is_said() -> None:
    assert _lint("DO $$ BEGIN END $$") == {"unanalysable": "warning"}
    assert _lint("FROBNICATE big") == {"unanalysable": "warning"}


def test_findings_name_their_statement_across_steps_and_lines() -> None:
    steps = [
        Step(
            Phase.EXPAND,
            "a",
            (),
            ("SET LOCAL search_path TO public", "ALTER TABLE public.big\n  ADD x bigint", "SELECT 1"),
        ),
        Step(
            Phase.EXPAND,
            "b",
            (),
            ("SELECT 'ü;\n'", "CREATE INDEX i\n  ON public.big (n)", "COMMENT ON TABLE public.big IS 'x'"),
        ),
    ]
    (finding,) = lint_plan(steps, CATALOG)
    assert (finding.rule, finding.statement) == (
        "squawk:require-concurrent-index-creation",
        "CREATE INDEX i\n  ON public.big (n)",
    )
    assert finding.remedy


@pytest.mark.parametrize("version", [150000, 180000])
def test_typed_operations_would_be_clean_as_raw_sql(version: int) -> None:
    catalog = replace(CATALOG, server_version=version)
    operations = (CreateIndex(table="big", columns=("n",)), SetNotNull.model_validate({"table": "big", "column": "n"}))
    for operation in operations:
        assert lint_plan(operation.plan(catalog, PlanContext("1")).steps, catalog) == ()


def test_of_typed_operations_only_what_their_author_chose_is_linted() -> None:
    step = _step("ALTER TABLE big DROP COLUMN n", "ALTER TABLE big ADD COLUMN x json", "TRUNCATE big", "DO $$ $$")
    assert {f.rule for f in lint_plan([step], CATALOG, typed={step})} == {"json-column"}
    unreadable = _step("FROBNICATE big")
    assert lint_plan([unreadable], CATALOG, typed=[unreadable]) == ()


def test_a_typed_column_of_a_domain_with_constraints_is_an_error_where_many_rows_are_written_anew() -> None:
    operation = AddColumn.model_validate({"table": "big", "column": {"name": "m", "type": "public.email"}})
    domain = {"domain public.email": "text email_check CHECK ((VALUE ~ '@'::text))\nowner: owner"}
    large = replace(CATALOG, objects=domain)
    big = large.relations[Table("public", "big")]
    for catalog, level in ((large, "error"), (large.with_relation(replace(big, rows=10, bytes=8192)), "warning")):
        steps = operation.plan(catalog, PlanContext("1")).steps
        assert [(f.rule, f.level) for f in lint_plan(steps, catalog, typed=steps)] == [("constrained-domain", level)]


def test_without_a_database_nothing_is_an_error_that_rows_would_make_one() -> None:
    script = ("CREATE INDEX i ON public.t (a)", "TRUNCATE public.t", "ALTER TABLE public.t ALTER a SET NOT NULL")
    found = lint_plan([_step(s) for s in script], Catalog(180000, {}))
    assert {f.rule: f.level for f in found} == {
        "squawk:require-concurrent-index-creation": "warning",
        "truncate": "warning",
        "set-not-null": "warning",
    }


def test_tables_of_the_plan_itself_are_nobody_elses_yet() -> None:
    steps = [
        _step("CREATE TABLE public.new (id bigint)"),
        _step("CREATE INDEX i ON public.new (id)", "ALTER TABLE public.new ADD CONSTRAINT c CHECK (id > 0)"),
        _step("ALTER TABLE public.new RENAME TO newer"),
        _step("INSERT INTO public.new SELECT 1", "DROP TABLE public.new"),
    ]
    assert lint_plan(steps, CATALOG) == ()


def test_a_table_that_is_there_already_is_not_new_by_if_not_exists() -> None:
    create = "CREATE TABLE IF NOT EXISTS public.big (\n id bigint\n)"
    found = lint_plan([_step(create, "CREATE INDEX i ON public.big (n)"), _step("TRUNCATE public.big")], CATALOG)
    assert [(f.rule, f.level, f.statement) for f in found] == [
        ("squawk:require-concurrent-index-creation", "error", "CREATE INDEX i ON public.big (n)"),
        ("truncate", "error", "TRUNCATE public.big"),
    ]


def test_what_the_plan_dropped_before_is_in_nobodys_way() -> None:
    drop, alter = _step("DROP VIEW public.report"), _step("ALTER TABLE public.big ALTER s TYPE text")
    assert "retype-with-dependants" in {f.rule for f in lint_plan([alter], CATALOG)}
    assert {f.rule for f in lint_plan([drop, alter], CATALOG)} == {"squawk:ban-drop-view"}


def test_only_users_of_the_column_count() -> None:
    big = replace(_BIG, uses=(Use("view", "public.report", ("n",)), Use("function", "f(public.big)")))
    catalog = CATALOG.with_relation(big)
    for column, users in {"n": "view public.report, function f(public.big)", "s": "function f(public.big)"}.items():
        found = lint_plan([_step(f"ALTER TABLE public.big DROP COLUMN {column}")], catalog)
        assert f"used by {users}" in next(f.message for f in found if f.rule == "drop-with-dependants")


@pytest.mark.parametrize(("phase", "level"), [(Phase.EXPAND, "error"), (Phase.CONTRACT, "warning")])
def test_drops_belong_into_contract(phase: Phase, level: str) -> None:
    step = replace(_step("ALTER TABLE public.child DROP COLUMN n"), phase=phase)
    assert {f.rule: f.level for f in lint_plan([step], CATALOG)}["squawk:ban-drop-column"] == level


def test_waivers() -> None:
    found = Finding("truncate", "error", "m", "r")
    assert apply_waivers([found], {"truncate": "it is a cache"}) == (replace(found, waived="it is a cache"),)
    unused = apply_waivers([found], {"lock-table": "x"})[1]
    assert (unused.rule, unused.level) == ("unused-waiver", "warning")
