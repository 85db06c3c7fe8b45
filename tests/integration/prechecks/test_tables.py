"""Checks of the tables and the plan, on real tables."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from schema_change.core.database import Connection
from schema_change.core.model import Backfill, DataCheck, Phase, Step
from schema_change.core.names import Table
from tests.integration.prechecks.conftest import PLAN, STEP, Ask, T

FILL = Step(Phase.BACKFILL, "fill t.extra", (T,), backfill=Backfill(T, "extra", "'x'", "extra IS NULL"))


def test_invalid_index(ask: Ask, connection: Connection) -> None:
    assert ask("invalid_indexes").status == "pass"
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY t_v ON t (v)")
    found = ask("invalid_indexes")
    assert (found.status, found.message) == ("warn", 'not valid: "public"."t_v"')
    connection.execute("UPDATE t SET v = id")
    connection.execute(found.remedy.split(", or")[0])
    assert ask("invalid_indexes").status == "pass"


def test_dependants_and_publications(ask: Ask, connection: Connection) -> None:
    connection.execute("CREATE VIEW w AS SELECT id FROM t")
    found = ask("dependants")
    assert (found.status, found.message) == ("pass", "public.t: view public.w")
    connection.execute("CREATE PUBLICATION p FOR TABLE t")
    found = ask("dependants")
    assert (found.status, "publication p" in found.message) == ("warn", True)


def test_unlogged_and_foreign_tables(ask: Ask, connection: Connection) -> None:
    assert ask("table_kinds").status == "pass"
    connection.execute("ALTER TABLE t SET UNLOGGED")
    found = ask("table_kinds")
    assert (found.status, found.remedy) == ("warn", 'ALTER TABLE "public"."t" SET LOGGED')
    connection.execute("CREATE EXTENSION postgres_fdw")
    connection.execute("CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw")
    connection.execute("CREATE FOREIGN TABLE elsewhere (a integer) SERVER far")
    found = ask("table_kinds", plan=replace(PLAN, written=(Table("public", "elsewhere"),)))
    assert (found.status, "public.elsewhere" in found.message) == ("fail", True)


def test_triggers_on_backfilled_tables(ask: Ask, connection: Connection) -> None:
    connection.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    connection.execute("CREATE TRIGGER on_insert BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()")
    plan = replace(PLAN, steps=(STEP, FILL))
    assert ask("triggers", plan=plan).status == "pass"
    connection.execute("CREATE TRIGGER stamp BEFORE INSERT OR UPDATE OF v ON t FOR EACH ROW EXECUTE FUNCTION f()")
    found = ask("triggers", plan=plan)
    assert (found.status, found.message) == ("warn", "the backfill's writes fire stamp on public.t")
    assert ask("triggers").status == "pass"
    connection.execute("ALTER TABLE t DISABLE TRIGGER stamp")
    assert ask("triggers", plan=plan).status == "pass"


def test_data_that_does_not_fit_is_counted_and_shown(ask: Ask, connection: Connection) -> None:
    check = DataCheck(
        name="NULL in public.t.v",
        count="SELECT count(*) FROM public.t WHERE v IS NULL",
        sample="SELECT id FROM public.t WHERE v IS NULL ORDER BY id LIMIT 10",
        remedy="fill them",
    )
    plan = replace(PLAN, data_checks=(check,))
    assert ask("data_fit").status == "skipped"
    assert ask("data_fit", plan=plan).status == "pass"
    connection.execute("UPDATE t SET v = NULL WHERE id IN (3, 5)")
    found = ask("data_fit", plan=plan)
    assert (found.status, found.message, found.remedy) == (
        "fail",
        "NULL in public.t.v: 2 rows, such as 3, 5",
        "fill them",
    )
    broken = replace(check, count="SELECT count(*) FROM public.t WHERE no_such_column = 1")
    found = ask("data_fit", plan=replace(PLAN, data_checks=(broken,)))
    assert (found.status, "no_such_column" in found.message) == ("unknown", True)
