from __future__ import annotations

import pytest

from schema_change.core.model import LockMode
from schema_change.core.names import Table
from schema_change.core.sqltext.grammar import SqlError
from schema_change.core.sqltext.statements import split


def test_a_script_is_split_by_the_grammar() -> None:
    script = """-- Übersicht: é€𝒳
CREATE TABLE app.t (s text DEFAULT ';é');
/* a; b */
CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$;

COMMENT ON TABLE app.t IS 'täble'"""
    found = split(script)
    assert [s.kind for s in found] == ["CREATE TABLE", "CREATE FUNCTION", "COMMENT"]
    assert [s.line for s in found] == [2, 4, 6]
    assert found[0].text == "CREATE TABLE app.t (s text DEFAULT ';é')"
    assert found[2].text == "COMMENT ON TABLE app.t IS 'täble'"


def test_what_a_statement_touches() -> None:
    (update,) = split("UPDATE app.t SET a = s.a FROM src s WHERE s.id = t.id")
    assert (update.tables, update.reads, update.writes) == (
        (Table("app", "t"),),
        (Table("public", "src"),),
        (Table("app", "t"),),
    )
    assert update.rewrites_data
    assert update.lock is LockMode.ROW_EXCLUSIVE
    (create,) = split("CREATE TABLE a (id bigint REFERENCES b)")
    assert create.creates == (Table("public", "a"),)
    assert create.lock_on(Table("public", "b")) is LockMode.SHARE_ROW_EXCLUSIVE


def test_what_the_text_does_not_tell_is_taken_for_the_worst() -> None:
    for script in ("DO $$ BEGIN PERFORM 1; END $$", "CALL p()", "SELECT app.rebuild()"):
        (statement,) = split(script)
        assert (statement.known, statement.lock, statement.rewrites_data) == (False, LockMode.ACCESS_EXCLUSIVE, True)


@pytest.mark.parametrize(
    ("statement", "transactional"),
    [
        ("CREATE INDEX i ON t (a)", True),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", False),
        ("DROP INDEX CONCURRENTLY i", False),
        ("REINDEX (CONCURRENTLY) TABLE t", False),
        ("REINDEX (CONCURRENTLY off) TABLE t", True),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", False),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY m", True),
        ("VACUUM t", False),
        ("ANALYZE t", True),
        ("ALTER TYPE mood ADD VALUE 'x'", True),
    ],
)
def test_transaction_policy(statement: str, transactional: bool) -> None:
    assert split(statement)[0].transactional is transactional


def test_begin_and_commit_are_boundaries_only() -> None:
    found = split("BEGIN; CREATE TABLE a (); COMMIT; START TRANSACTION; CREATE TABLE b (); CREATE TABLE c (); END;")
    assert [(s.tables[0].name, s.ends_transaction) for s in found] == [("a", True), ("b", False), ("c", True)]


def test_set_becomes_a_property_of_what_follows() -> None:
    found = split("""
        CREATE TABLE a ();
        SET search_path TO app, public; SET maintenance_work_mem = '1GB'; SET lock_timeout = 0;
        CREATE TABLE b ();
        BEGIN; SET LOCAL search_path TO other; CREATE TABLE c (); COMMIT;
        CREATE TABLE d ()
    """)
    assert [s.tables[0].schema for s in found] == ["public", "app", "other", "app"]
    assert [s.local for s in found[3].settings] == [
        "SET LOCAL maintenance_work_mem TO '1GB'",
        "SET LOCAL search_path TO app, public",
    ] or {s.name for s in found[3].settings} == {"maintenance_work_mem", "search_path"}


def test_a_verify_script_may_end_with_rollback() -> None:
    (only,) = split("BEGIN; SELECT 1 / count(*) FROM t; ROLLBACK;", verify=True)
    assert only.reads == (Table("public", "t"),)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("SELECT 1;\nROLLBACK", "line 2: ROLLBACK is not allowed"),
        ("BEGIN;\nSAVEPOINT a; COMMIT", "line 2: SAVEPOINT is not allowed"),
        ("BEGIN;\nBEGIN; COMMIT", "line 2: BEGIN inside a transaction"),
        ("SELECT 1;\n\nCOMMIT", "line 3: COMMIT without BEGIN"),
        ("\nBEGIN; SELECT 1", "line 2: BEGIN without COMMIT"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE; COMMIT", "line 1: BEGIN with options"),
        ("BEGIN; CREATE INDEX CONCURRENTLY i ON t (a); COMMIT", "CREATE INDEX cannot run inside BEGIN"),
        ("SELECT 'é€';\n\\i other.sql", r"line 2: \i is a command of psql"),
        ("SELECT '𝒳𝒳𝒳';\n-- é\nSELECT :id", "line 3: syntax error"),
        ("SELECT 1;\nSELEC 2", 'line 2: syntax error at or near "SELEC"'),
        ("SELECT 1;\nSELECT (", "line 2: syntax error at end of input"),
        ("DROP DATABASE x", "DROP DATABASE is not allowed"),
        ("COPY t FROM PROGRAM 'rm -rf'", "PROGRAM is not allowed"),
        ("COPY (SELECT 1) TO PROGRAM 'sh'", "PROGRAM is not allowed"),
        ("COPY t FROM STDIN", "STDIN"),
        ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM is not allowed"),
        ("RESET ALL", "RESET"),
        ("DISCARD ALL", "DISCARD is not allowed"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION is not allowed"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_line(script: str, message: str) -> None:
    with pytest.raises(SqlError) as caught:
        split(script)
    assert message in caught.value.message
    assert caught.value.hint
