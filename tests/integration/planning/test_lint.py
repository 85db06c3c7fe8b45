"""What the linter says of rewrites, scans and dependants is what PostgreSQL does."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from demo.postgres import Server
from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Connection
from schema_change.core.model import Finding
from schema_change.core.operations.base import PlanContext
from schema_change.core.operations.sql import Sql
from schema_change.core.planning import squawk
from schema_change.core.planning.fit import raw_checks
from schema_change.core.planning.lint import SQUAWK, lint_plan
from schema_change.core.planning.plan import make_plan, plan_operations
from schema_change.core.stages.runner import Runner
from tests.acceptance.cases import Case, all_cases
from tests.bench import Bench

_SHAPE = """
CREATE DOMAIN email AS text;
CREATE DOMAIN filled AS text CHECK (value <> '');
CREATE DOMAIN present AS text DEFAULT '' NOT NULL;
CREATE FUNCTION length() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE SEQUENCE s;
CREATE TABLE parent (id bigint PRIMARY KEY);
CREATE TABLE t (
    id bigint NOT NULL, i integer, v varchar(10), tx text, b varbit(4), nu numeric(6, 2), nx numeric, c cidr,
    mail email, checked varchar(10) CHECK (checked <> ''), viewed integer, own integer
);
INSERT INTO parent SELECT generate_series(1, 100);
INSERT INTO t SELECT g, g % 7, 'v', 't', B'1010', 1.25, 1.25, '10.0.0.0/8', 'a@b', 'x', 1, 1
FROM generate_series(1, 20000) AS g;
CREATE VIEW "Report" AS SELECT viewed FROM t;
ANALYZE;
"""
_TYPES = {
    "ALTER TABLE t ALTER v TYPE varchar(20)",
    "ALTER TABLE t ALTER v TYPE varchar(5)",
    "ALTER TABLE t ALTER v TYPE varchar",
    "ALTER TABLE t ALTER v TYPE text",
    "ALTER TABLE t ALTER tx TYPE varchar",
    "ALTER TABLE t ALTER tx TYPE varchar(50)",
    "ALTER TABLE t ALTER b TYPE varbit(8)",
    "ALTER TABLE t ALTER b TYPE varbit",
    "ALTER TABLE t ALTER nu TYPE numeric(8, 2)",
    "ALTER TABLE t ALTER nu TYPE numeric(8, 3)",
    "ALTER TABLE t ALTER nu TYPE numeric",
    "ALTER TABLE t ALTER nx TYPE numeric(8, 2)",
    "ALTER TABLE t ALTER c TYPE inet",
    "ALTER TABLE t ALTER i TYPE bigint",
    "ALTER TABLE t ALTER i TYPE integer USING i + 1",
}
_COLUMNS = {
    "ALTER TABLE t ADD COLUMN x integer DEFAULT char_length('abc')",
    "ALTER TABLE t ADD COLUMN x integer DEFAULT public.length()",
    "ALTER TABLE t ADD COLUMN x bigint DEFAULT nextval('s')",
    "ALTER TABLE t ADD COLUMN x email",
    "ALTER TABLE t ADD COLUMN x filled",
    "ALTER TABLE t ADD COLUMN x public.present",
    "ALTER TABLE t ADD COLUMN x timestamptz DEFAULT now()",
    "ALTER TABLE t ADD COLUMN x bigint NOT NULL DEFAULT 0",
    "ALTER TABLE t ADD COLUMN x uuid DEFAULT gen_random_uuid()",
    "ALTER TABLE t ADD COLUMN x bigserial",
    "ALTER TABLE t ADD COLUMN x bigint GENERATED ALWAYS AS IDENTITY",
    "ALTER TABLE t ADD COLUMN x bigint GENERATED ALWAYS AS (i + 1) STORED",
    "ALTER TABLE t SET UNLOGGED",
    "CLUSTER parent USING parent_pkey",
}
_REWRITE = {"constrained-domain", "type-rewrite", "serial-column", "full-rewrite", "squawk:adding-field-with-default"}


@pytest.fixture
def db(connection: Connection) -> Connection:
    connection.execute(_SHAPE.encode())
    return connection


def _lint(db: Connection, script: str) -> tuple[Finding, ...]:
    catalog = read_catalog(db)
    planned = Sql(deploy=script, revert="SELECT 1").plan(catalog, PlanContext("1"))
    return lint_plan(planned.steps, catalog)


def _rewrites(db: Connection, statement: str) -> bool:
    """Run a statement, tell whether a table got another file, and take it back."""
    files = "SELECT array_agg(pg_relation_filenode(c) ORDER BY c) FROM unnest(ARRAY['t', 'parent']::regclass[]) AS c"
    with db.transaction(force_rollback=True):
        before = db.execute(files.encode()).fetchone()
        db.execute(statement.encode())
        return db.execute(files.encode()).fetchone() != before


def test_rewrites_are_found_and_nothing_else_is_called_one(db: Connection) -> None:
    virtual = {"ALTER TABLE t ADD COLUMN x bigint GENERATED ALWAYS AS (i + 1) VIRTUAL"}
    for statement in sorted(_TYPES | _COLUMNS | (virtual if db.info.server_version >= 180000 else set())):
        found = bool(_REWRITE & {f.rule for f in _lint(db, statement)})
        assert found == _rewrites(db, statement), statement


def _reads_rows(db: Connection, before: str, statement: str) -> bool:
    """Run two statements, tell whether the second reads all rows of t, and take both back."""
    read = "SELECT pg_stat_get_xact_tuples_returned('t'::regclass)"
    with db.transaction(force_rollback=True):
        db.execute(before.encode())
        [(already,)] = db.execute(read.encode()).fetchall()
        db.execute(statement.encode())
        [(now,)] = db.execute(read.encode()).fetchall()
    return bool(now - already >= 20_000)


@pytest.mark.parametrize(
    ("before", "statement", "rule"),
    [
        ("", "ALTER TABLE t ALTER i SET NOT NULL", "set-not-null"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (i IS NOT NULL)", "ALTER TABLE t ALTER i SET NOT NULL", ""),
        ("", "ALTER TABLE t ALTER checked TYPE text", "type-change-with-check"),
        ("ALTER TABLE t DROP CONSTRAINT t_checked_check", "ALTER TABLE t ALTER checked TYPE text", ""),
        ("", "ALTER TABLE t ADD COLUMN x bigint CHECK (x > 0)", "add-column-check"),
        ("", "ALTER TABLE t ADD COLUMN x bigint", ""),
        ("", "ALTER DOMAIN email ADD CONSTRAINT c CHECK (value <> '')", "domain-constraint"),
        ("", "ALTER DOMAIN email ADD CONSTRAINT c CHECK (value <> '') NOT VALID", ""),
    ],
)
def test_scans_are_found_and_nothing_else_is_called_one(db: Connection, before: str, statement: str, rule: str) -> None:
    long = {"set-not-null", "type-change-with-check", "add-column-check", "domain-constraint"}
    separate = f"BEGIN; {before}; COMMIT; " if before else ""
    assert {f.rule for f in _lint(db, separate + statement)} & long == ({rule} if rule else set())
    assert _reads_rows(db, before or "SELECT 1", statement) == bool(rule)


def test_a_foreign_key_that_comes_with_its_column_reads_no_rows(db: Connection) -> None:
    together = "ALTER TABLE t ADD COLUMN x bigint REFERENCES parent (id)"
    assert {f.rule: f.level for f in _lint(db, together)}["add-reference"] == "warning"
    assert not _reads_rows(db, "SELECT 1", together)
    alone = "ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (own) REFERENCES parent (id)"
    assert {f.rule: f.level for f in _lint(db, alone)}["squawk:adding-foreign-key-constraint"] == "error"


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("DROP TABLE leaf", "drop-table-with-foreign-keys"),
        ("ALTER TABLE leaf DROP COLUMN parent_id", "drop-column-with-parts"),
        ("ALTER TABLE leaf DROP COLUMN id", ""),
    ],
)
def test_a_foreign_key_that_goes_locks_the_table_it_points_at(db: Connection, statement: str, rule: str) -> None:
    db.execute(b"CREATE TABLE leaf (id bigint, parent_id bigint REFERENCES parent)")
    rules = {"drop-table-with-foreign-keys", "drop-column-with-parts"}
    assert {f.rule for f in _lint(db, statement)} & rules == ({rule} if rule else set())
    locked = b"SELECT FROM pg_locks WHERE relation = 'parent'::regclass AND mode = 'AccessExclusiveLock'"
    with db.transaction(force_rollback=True):
        db.execute(statement.encode())
        assert bool(db.execute(locked).fetchall()) == bool(rule)


def test_a_new_partition_reads_the_default_one_unless_a_check_keeps_its_rows_out(connection: Connection) -> None:
    connection.execute(
        b"CREATE TABLE whole (id bigint NOT NULL, day date NOT NULL) PARTITION BY RANGE (day);"
        b"CREATE TABLE t PARTITION OF whole DEFAULT;"
        b"INSERT INTO whole SELECT g, '2020-06-01' FROM generate_series(1, 20000) AS g; ANALYZE"
    )
    create = "CREATE TABLE next PARTITION OF whole FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')"
    assert [f.level for f in _lint(connection, create) if f.rule == "create-partition"] == ["warning", "error"]
    assert _reads_rows(connection, "SELECT 1", create)
    connection.execute(b"ALTER TABLE t ADD CONSTRAINT others CHECK (NOT (day >= '2024-01-01' AND day < '2025-01-01'))")
    assert [f.level for f in _lint(connection, create) if f.rule == "create-partition"] == ["warning"]
    assert not _reads_rows(connection, "SELECT 1", create)


@pytest.mark.parametrize(
    ("check", "scanned"),
    [
        ("day >= '2024-01-01' AND day < '2025-01-01'", False),
        ("day >= '2023-01-01' AND day < '2025-01-01'", True),
        ("id > 0", True),
    ],
)
def test_a_partition_is_attached_without_a_scan_when_a_check_proves_its_rows(
    connection: Connection, check: str, scanned: bool
) -> None:
    connection.execute(
        b"CREATE TABLE whole (id bigint NOT NULL, day date NOT NULL) PARTITION BY RANGE (day);"
        b"CREATE TABLE t (LIKE whole);"
        b"INSERT INTO t SELECT g, '2024-06-01' FROM generate_series(1, 20000) AS g; ANALYZE"
    )
    connection.execute(f"ALTER TABLE t ADD CONSTRAINT proof CHECK ({check})".encode())
    attach = "ALTER TABLE whole ATTACH PARTITION t FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')"
    assert ("attach-partition" in {f.rule for f in _lint(connection, attach)}) == scanned
    assert _reads_rows(connection, "SELECT 1", attach) == scanned


def test_dependants_are_named_as_the_catalog_names_them(db: Connection) -> None:
    alter = "ALTER TABLE t DROP COLUMN viewed"
    found = {f.rule: f.message for f in _lint(db, alter)}
    assert 'used by view public."Report"' in found["drop-with-dependants"]
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        db.execute(alter.encode())
    assert "drop-with-dependants" not in {f.rule for f in _lint(db, f'DROP VIEW "Report"; {alter}')}
    assert "drop-with-dependants" not in {f.rule for f in _lint(db, "ALTER TABLE t DROP COLUMN own")}


def test_what_raw_sql_would_stumble_over_is_counted(db: Connection) -> None:
    catalog = read_catalog(db)
    script = "ALTER TABLE t ADD CONSTRAINT u UNIQUE (i)"
    [check] = raw_checks(Sql(deploy=script, revert="SELECT 1").plan(catalog, PlanContext("1")).steps, catalog)
    [(count,)] = db.execute(check.count.encode()).fetchall()
    assert count == 20_000
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.execute(script.encode())


def test_a_waiver_is_in_the_guide_and_in_the_audit(bench: Bench, connection: Connection) -> None:
    more = {"waivers": {"truncate": "a cache", "squawk:ban-drop-column": "read by nobody"}}
    bench.write("001_empty", more, deploy="TRUNCATE public.readings", revert="SELECT 1")
    request = bench.request("001_empty", skip_backup=True, skip_rehearsal=True)
    guide = Runner(request).run("plan").data["guide"]
    assert "**waived** truncate" in guide
    assert "(waived: a cache)" in guide
    assert "unused-waiver" in guide
    said = connection.execute("SELECT message FROM schema_change.event WHERE kind = 'waived'").fetchall()
    assert said == [("truncate: a cache",)]


@pytest.mark.parametrize("server", [18], indirect=True)
@pytest.mark.parametrize("case", all_cases(), ids=lambda c: c.id)
def test_typed_operations_are_clean(case: Case, server: Server, connection: Connection, tmp_path: Path) -> None:
    if server.installation.major < case.oldest or case.scripts:
        pytest.skip("not for this server, or raw SQL")
    connection.execute(b"SET search_path = public")
    connection.execute(case.setup.encode())
    bench = Bench(server.target(connection.info.dbname), tmp_path)
    bench.write("001_case", {"operations": list(case.operations)})
    change = bench.request("001_case").change
    assert change is not None
    catalog = read_catalog(connection)
    assert [f for f in make_plan(change, catalog).findings if f.level == "error"] == []
    steps = [step for part in plan_operations(change, catalog) for step in part.steps]
    blocking = {f"{SQUAWK}{rule}" for rule, way in squawk.RULES.items() if way.kind is squawk.Kind.LOCK}
    if any(r.kind == "p" for r in catalog.relations.values()):
        return  # a parent's own statements find what was made on every partition before
    as_raw = lint_plan(steps, catalog)
    assert [f for f in as_raw if f.level == "error" and f.rule in blocking] == [], "they do what is asked of raw SQL"
