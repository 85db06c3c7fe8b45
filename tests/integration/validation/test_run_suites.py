from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from jinja2 import Environment
from psycopg import sql
from sqlalchemy import event
from upath import UPath

from schema_change.core.database import Connection, Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.model import Expectation
from schema_change.core.names import Table
from schema_change.core.validation import gx
from schema_change.core.validation.gx import run_suites
from schema_change.core.validation.quiet import load_builder
from schema_change.core.validation.snapshot import exported
from schema_change.core.validation.suites import Suite

CHILD = Table("Odd App", "Chi ld")
PASSWORD = "p@$s:w/ö%rd'\"${HOME} x"  # noqa: S105 # of a role of this test


def check(type_: str, check_id: str | None = None, severity: str = "critical", **kwargs: Any) -> Expectation:
    return Expectation(CHILD, type_, kwargs, check_id or type_, severity)


@pytest.fixture
def child(connection: Connection) -> Connection:
    """A table with awkward names, wrong rows, and values that nobody may see."""
    connection.execute("""
        CREATE SCHEMA "Odd App";
        CREATE TABLE "Odd App"."Par Ent" (id int PRIMARY KEY);
        INSERT INTO "Odd App"."Par Ent" SELECT generate_series(1, 500);
        CREATE TYPE "Odd App".mood AS ENUM ('fine', 'sad');
        CREATE TABLE "Odd App"."Chi ld" (
            id int, part text, "Par" int, email text, n int NOT NULL, m numeric(12, 2), mood "Odd App".mood,
            at timestamptz, PRIMARY KEY (id, part)
        );
        INSERT INTO "Odd App"."Chi ld"
        SELECT
            g, 'p', CASE WHEN g <= 503 THEN g END, CASE WHEN g % 100 > 0 THEN 'secret' || g || '@x' END, g % 10, g,
            'fine', '2020-01-01 00:00+00'::timestamptz + g * interval '1 hour'
        FROM generate_series(1, 1000) AS g""")
    return connection


def test_every_kind_of_check(
    target: Target, child: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checks = (
        check("expect_column_values_to_not_be_null", "nulls", column="email"),
        check("expect_column_values_to_be_between", "between", "warning", column="n", min_value=0, max_value=5),
        check("expect_column_values_to_be_in_set", "set", column="n", value_set=list(range(10))),
        check("expect_column_max_to_be_between", "max", column="n", max_value=9),
        check("expect_table_row_count_to_equal", "rows", value={"$PARAMETER": "rows_before + 1"}),
        check("expect_table_row_count_to_equal", "no parameter", value={"$PARAMETER": "nothing"}),
        check("expect_rows_to_satisfy_sql", "rule", sql="n < 9 OR email LIKE '%5%'"),
        check("expect_rows_to_satisfy_sql", "NULL is not true", sql="email <> ''"),
        check("expect_rows_to_satisfy_sql", "named", sql='"Chi ld".n IN (SELECT p.id - 1 FROM "Par Ent" AS p)'),
        check("expect_no_orphaned_rows", "orphans", columns=["Par"], parent_table='"Par Ent"', parent_columns=["id"]),
        check("expect_compound_key_to_be_unique", "unique", columns=["n", "m"]),
        check("expect_compound_key_to_be_unique", "twins", columns=["n", "mood"]),
        check("expect_compound_key_to_be_unique", "nulls differ", columns=["Par"]),
        check("expect_pg_column_type", "type", column="m", type="numeric(12,2)"),
        check("expect_pg_column_type", "own type", column="mood", type='"Odd App".mood'),
        check("expect_pg_column_type", "wrong type", "info", column="m", type="numeric"),
        check("expect_pg_schema_to_match", "schema", columns={"id": {"type": "integer", "nullable": True}, "zz": "x"}),
        check(
            "expect_column_quantile_values_to_be_between",
            "quantile",
            column="n",
            quantile_ranges={"quantiles": [0.5], "value_ranges": [[0, 9]]},
        ),
        check("expect_column_distinct_values_to_be_in_set", "distinct", "info", column="email", value_set=["x"]),
        check("expect_column_values_to_not_be_null", "no column", "info", column="nothing"),
        check("unexpected_rows_expectation", "query", unexpected_rows_query="SELECT * FROM {batch} WHERE n = 3"),
    )
    nowhere = Table("nowhere", "t")
    suites = [
        Suite("20240208_x:child", CHILD, checks),
        Suite("no table", nowhere, (Expectation(nowhere, "expect_table_row_count_to_equal", {"value": 1}, "rows"),)),
    ]
    docs = UPath(tmp_path / "docs")
    before = dict(os.environ)

    outcome = run_suites(
        target, suites, parameters={"rows_before": 999}, docs=docs, run_name="manual__2024-02-08T14:30:02+00:00"
    )

    assert [o.check_id for o in outcome.outcomes] == [c.check_id for c in checks] + ["rows"]
    found = {o.check_id: o for o in outcome.outcomes[:-1]}
    assert {i: o.status for i, o in found.items() if o.status != "passed"} == {
        "nulls": "failed",
        "between": "failed",
        "no parameter": "error",
        "rule": "failed",
        "NULL is not true": "failed",
        "orphans": "failed",
        "twins": "failed",
        "wrong type": "failed",
        "schema": "failed",
        "distinct": "failed",
        "no column": "error",
        "query": "failed",
    }
    assert (found["nulls"].unexpected_count, found["nulls"].element_count) == (10, 1000)
    assert found["nulls"].sample[:2] == ({"id": 100, "part": "p"}, {"id": 200, "part": "p"})
    assert len(found["between"].sample) == 10
    assert found["NULL is not true"].unexpected_count == 10
    assert found["orphans"].sample == tuple({"id": i, "part": "p"} for i in (501, 502, 503))
    assert found["twins"].unexpected_count == 1000
    assert {frozenset(key) for key in found["twins"].sample} == {frozenset({"id", "part"})}
    assert found["max"].observed == 9
    assert found["wrong type"].observed == "numeric(12,2)"
    assert found["schema"].observed[:2] == ["id: forbids NULL", "zz: missing"]
    assert found["distinct"].sample == ()
    assert "nothing" in str(found["no parameter"].error)
    assert "nothing" in str(found["no column"].error)
    assert "nowhere.t does not exist" in str(outcome.outcomes[-1].error)
    assert {o.check_id for o in outcome.warnings} == {"between", "wrong type", "distinct"}

    pages = [p for p in docs.rglob("*.html") if p.is_file()]
    assert {p.relative_to(docs).parts[0] for p in pages} == {"validation.html", "gx"}
    assert any("validations" in p.parts for p in pages)
    everything = json.dumps([repr(o) for o in outcome.outcomes]) + "".join(p.read_text() for p in pages) + caplog.text
    assert "secret" not in everything
    assert dict(os.environ) == before
    assert _sessions(child) == 0


def _sessions(connection: Connection) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'schema_change:validate'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_ten_checks_cost_one_query(target: Target, child: Connection, statements: list[str]) -> None:
    checks = [check("expect_table_row_count_to_be_between", min_value=1)]
    checks += [
        check("expect_column_values_to_not_be_null", f"null {c}", column=c) for c in ("id", "part", "n", "m", "at")
    ]
    checks += [check("expect_rows_to_satisfy_sql", f"rule {i}", sql=f"n + {i} >= 0") for i in range(4)]
    outcome = run_suites(target, [Suite("s", CHILD, tuple(checks))], docs=None, run_name="r")
    assert {o.status for o in outcome.outcomes} == {"passed"}
    scans = [s for s in statements if "LIMIT" not in s]
    assert len(scans) == 1, "\n".join(scans)
    assert {s.partition("LIMIT ")[2] for s in statements if "LIMIT" in s} == {"1"}, "a passed check looks for rows"


def test_all_checks_see_one_snapshot(target: Target, child: Connection) -> None:
    suites = [Suite(name, CHILD, (check("expect_table_row_count_to_equal", value=1000),)) for name in ("a", "b")]
    with exported(target, [CHILD]) as snapshot, gx._datasource(target, snapshot, 60) as (source, _):
        for suite in suites:
            child.execute('DELETE FROM "Odd App"."Chi ld" WHERE id <= 500')
            run = gx._SuiteRun(suite, source, snapshot.keys[CHILD])
            run.run(load_builder(), {})
            assert [(o.status, o.observed) for o in run.outcomes] == [("passed", 1000)]


def test_sessions_cannot_write(target: Target, child: Connection) -> None:
    child.execute("CREATE SEQUENCE public.counter")
    query = "SELECT nextval('public.counter') FROM {batch} WHERE n = 3"
    (outcome,) = run_suites(
        target,
        [Suite("s", CHILD, (check("unexpected_rows_expectation", unexpected_rows_query=query),))],
        docs=None,
        run_name="r",
    ).outcomes
    assert outcome.status == "error"
    assert "read-only transaction" in str(outcome.error)


def test_a_time_out_is_an_error_and_is_waited_for_once(target: Target, child: Connection) -> None:
    canceled: list[str] = []

    def note(context: sa.engine.ExceptionContext) -> None:
        if isinstance(getattr(context.original_exception, "pgcode", None), str) and context.statement:
            canceled.append(context.statement)

    query = "SELECT n, pg_sleep(30) FROM {batch} WHERE id = 1"
    event.listen(sa.Engine, "handle_error", note)
    try:
        checks = (
            check("unexpected_rows_expectation", "slow", "info", unexpected_rows_query=query),
            check("expect_column_values_to_not_be_null", "quick", column="n"),
        )
        slow, quick = run_suites(
            target, [Suite("s", CHILD, checks)], docs=None, run_name="r", statement_timeout_s=1
        ).outcomes
    finally:
        event.remove(sa.Engine, "handle_error", note)
    assert slow.status == "error"
    assert "statement timeout" in str(slow.error)
    assert quick.status == "passed"
    assert len(canceled) == len(set(canceled)) <= 2


def test_reader_with_an_awkward_password_on_a_unix_socket(
    target: Target, child: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    role = f"reader {target.database}"
    child.execute(
        sql.SQL("CREATE ROLE {role} LOGIN PASSWORD {password}").format(
            role=sql.Identifier(role), password=sql.Literal(PASSWORD)
        )
    )
    child.execute(
        sql.SQL(
            'GRANT USAGE ON SCHEMA "Odd App" TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA "Odd App" TO {role}'
        ).format(role=sql.Identifier(role))
    )
    reader = Target("reader", {**target.parameters, "host": tempfile.gettempdir(), "user": role, "password": PASSWORD})
    docs = UPath(tmp_path / "docs")
    try:
        with caplog.at_level("DEBUG"):
            outcome = run_suites(
                reader,
                [
                    Suite(
                        "s",
                        CHILD,
                        (
                            check("expect_table_row_count_to_equal", value=1000),
                            check("expect_column_values_to_be_between", column="n", max_value=1),
                            check("expect_column_values_to_not_be_null", column="nothing"),
                        ),
                    )
                ],
                docs=docs,
                run_name="r",
            )
        assert [o.status for o in outcome.outcomes] == ["passed", "failed", "error"]
        written = b"".join(p.read_bytes() for p in docs.rglob("*") if p.is_file())
        assert PASSWORD.encode() not in written
        assert PASSWORD not in repr(outcome) + caplog.text
        assert "w/ö%rd" not in repr(outcome) + caplog.text
    finally:
        child.execute(sql.SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(role=sql.Identifier(role)))


def test_a_target_that_cannot_be_reached_is_a_configuration_error(target: Target) -> None:
    suite = Suite("s", CHILD, (check("expect_table_row_count_to_equal", value=1),))
    with pytest.raises(ConfigurationError, match="cannot connect"):
        run_suites(target.with_database("nothing"), [suite], docs=None, run_name="r")


def test_pages_go_to_any_storage_and_two_suites_keep_two_pages(target: Target, child: Connection) -> None:
    rows = check("expect_table_row_count_to_equal", value=1000)
    suites = [Suite(name, CHILD, (rows,)) for name in ("x:y", "x_y")]
    docs = UPath(f"memory://validation/{target.database}")
    run_suites(target, suites, docs=docs, run_name="r")
    written = {p.path for p in docs.rglob("*.html")}
    assert len([p for p in written if "/gx/validations/" in p]) == 2
    assert (docs / "validation.html").read_text(encoding="utf-8").count("Odd App") == 2


def test_the_templates_of_pages_are_compiled_once(
    target: Target, child: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    compiled: list[str | None] = []
    compile_ = Environment.compile

    def note(self: Environment, source: Any, name: str | None = None, *given: Any, **named: Any) -> Any:
        compiled.append(name)
        return compile_(self, source, name, *given, **named)

    monkeypatch.setattr(Environment, "compile", note)
    suite = Suite("s", CHILD, (check("expect_table_row_count_to_equal", value=1000),))
    pages = []
    for run in ("first", "second"):
        compiled.clear()
        docs = UPath(tmp_path / run)
        run_suites(target, [suite], docs=docs, run_name="r")
        pages.append({p.name for p in docs.rglob("*.html")})
    assert compiled == ["validation.html"]
    assert pages[0] == pages[1] >= {"index.html", "validation.html"}


def test_pages_that_cannot_be_written_fail_no_check(
    target: Target, child: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    suite = Suite("s", CHILD, (check("expect_table_row_count_to_equal", value=1000),))
    outcome = run_suites(target, [suite], docs=UPath(tmp_path / "file" / "docs"), run_name="r")
    assert [o.status for o in outcome.outcomes] == ["passed"]
    assert "could not be written" in caplog.text


def test_two_suites_of_one_name_are_refused(target: Target) -> None:
    suite = Suite("s", CHILD, (check("expect_table_row_count_to_equal", value=1),))
    with pytest.raises(ConfigurationError, match="named s"):
        run_suites(target, [suite, suite], docs=None, run_name="r")


def test_extension_types_compare_as_the_application_sees_them(target: Target, connection: Connection) -> None:
    """An empty search_path would hide citext's own operators, and compare as text without a word."""
    try:
        connection.execute("CREATE EXTENSION citext SCHEMA public")
    except psycopg.errors.UndefinedFile:
        pytest.skip("the citext extension is not installed with this server")
    connection.execute("CREATE TABLE public.c (id int PRIMARY KEY, name citext); INSERT INTO c VALUES (1, 'ANN')")
    table = Table("public", "c")
    checks = (Expectation(table, "expect_rows_to_satisfy_sql", {"sql": "name = 'ann'"}, "same"),)
    (outcome,) = run_suites(target, [Suite("s", table, checks)], docs=None, run_name="r").outcomes
    assert outcome.status == "passed"


def test_columns_of_types_that_sqlalchemy_does_not_know_are_no_obstacle(target: Target, connection: Connection) -> None:
    connection.execute("CREATE TYPE pair AS (a int, b int)")
    connection.execute("CREATE TABLE places (id int PRIMARY KEY, at point, both_of pair[], n int NOT NULL)")
    connection.execute("INSERT INTO places VALUES (1, '(1,2)', NULL, 1)")
    table = Table("public", "places")
    checks = tuple(
        Expectation(table, "expect_column_values_to_not_be_null", {"column": c}, c) for c in ("n", "at", "both_of")
    )
    found = run_suites(target, [Suite("places", table, checks)], docs=None, run_name="r").outcomes
    assert [(o.check_id, o.status) for o in found] == [("n", "passed"), ("at", "passed"), ("both_of", "failed")]
