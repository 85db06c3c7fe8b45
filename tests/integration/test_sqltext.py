"""What sqltext says about statements and functions, held against real servers."""

from __future__ import annotations

import psycopg
import pytest

from schema_change.core.database import Connection
from schema_change.core.model import LockMode
from schema_change.core.names import Table
from schema_change.core.sqltext import functions
from schema_change.core.sqltext.expression import normalise_type
from schema_change.core.sqltext.statements import split

SETUP = """
CREATE TABLE t (id bigint PRIMARY KEY, n integer, s varchar(10), r bigint);
CREATE TABLE p (id bigint PRIMARY KEY);
CREATE TABLE parent (id bigint, k integer) PARTITION BY LIST (k);
CREATE TABLE part1 PARTITION OF parent FOR VALUES IN (1);
CREATE TABLE part2 (id bigint, k integer);
CREATE TABLE heir (id bigint NOT NULL, n integer CONSTRAINT n_positive CHECK (n > 0), s varchar(10), r bigint);
CREATE INDEX t_n ON t (n);
CREATE VIEW v AS SELECT id FROM t;
CREATE MATERIALIZED VIEW m AS SELECT id FROM t;
CREATE UNIQUE INDEX m_id ON m (id);
CREATE SEQUENCE q;
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER trg AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION noop();
CREATE POLICY pol ON t;
ALTER TABLE t ADD CONSTRAINT n_positive CHECK (n > 0) NOT VALID;
ALTER TABLE t ADD CONSTRAINT r_fk FOREIGN KEY (r) REFERENCES p NOT VALID;
CREATE PUBLICATION pub;
CREATE SCHEMA attic;
"""

# Statement, relation to look at; the prediction must be what the server takes.
EXACT = [
    ("SELECT * FROM t", "t"),
    ("SELECT * FROM t FOR UPDATE", "t"),
    ("WITH d AS (DELETE FROM t RETURNING id) SELECT * FROM d", "t"),
    ("INSERT INTO t (id) SELECT id FROM p", "t"),
    ("INSERT INTO t (id) SELECT id FROM p", "p"),
    ("UPDATE t SET n = 1", "t"),
    ("DELETE FROM t", "t"),
    ("MERGE INTO t USING p ON t.id = p.id WHEN MATCHED THEN DELETE", "t"),
    ("MERGE INTO t USING p ON t.id = p.id WHEN MATCHED THEN DELETE", "p"),
    ("TRUNCATE t", "t"),
    ("LOCK TABLE t IN SHARE MODE", "t"),
    ("CREATE INDEX i ON t (s)", "t"),
    ("ANALYZE t", "t"),
    ("CLUSTER t USING t_n", "t"),
    ("REINDEX TABLE t", "t"),
    ("DROP TABLE part2", "part2"),
    ("DROP VIEW v", "v"),
    ("DROP TRIGGER trg ON t", "t"),
    ("DROP POLICY pol ON t", "t"),
    ("CREATE TRIGGER trg2 AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION noop()", "t"),
    ("CREATE POLICY pol2 ON t", "t"),
    ("CREATE RULE rul AS ON DELETE TO t DO NOTHING", "t"),
    ("CREATE STATISTICS st ON n, s FROM t", "t"),
    ("COMMENT ON TABLE t IS 'x'", "t"),
    ("COMMENT ON COLUMN t.n IS 'x'", "t"),
    ("CREATE VIEW v2 AS SELECT * FROM t", "t"),
    ("CREATE OR REPLACE VIEW v AS SELECT id FROM t", "v"),
    ("REFRESH MATERIALIZED VIEW m", "m"),
    ("REFRESH MATERIALIZED VIEW CONCURRENTLY m", "m"),
    ("CREATE TABLE new AS SELECT * FROM t", "t"),
    ("CREATE TABLE new (id bigint REFERENCES p)", "p"),
    ("CREATE TABLE new (LIKE t INCLUDING ALL)", "t"),
    ("CREATE TABLE new () INHERITS (t)", "t"),
    ("CREATE TABLE part3 PARTITION OF parent FOR VALUES IN (3)", "parent"),
    ("ALTER TABLE t ADD COLUMN x integer", "t"),
    ("ALTER TABLE t ADD COLUMN x bigint REFERENCES p", "p"),
    ("ALTER TABLE t DROP COLUMN s", "t"),
    ("ALTER TABLE t ALTER COLUMN n TYPE bigint", "t"),
    ("ALTER TABLE t ALTER COLUMN n SET DEFAULT 1", "t"),
    ("ALTER TABLE t ALTER COLUMN n SET NOT NULL", "t"),
    ("ALTER TABLE t ALTER COLUMN n SET STATISTICS 100", "t"),
    ("ALTER TABLE t ADD CHECK (n < 9) NOT VALID", "t"),
    ("ALTER TABLE t ADD FOREIGN KEY (r) REFERENCES p NOT VALID", "t"),
    ("ALTER TABLE t ADD FOREIGN KEY (r) REFERENCES p NOT VALID", "p"),
    ("ALTER TABLE t ADD UNIQUE (n)", "t"),
    ("ALTER TABLE t VALIDATE CONSTRAINT n_positive", "t"),
    ("ALTER TABLE t VALIDATE CONSTRAINT r_fk", "t"),
    ("ALTER TABLE t DISABLE TRIGGER USER", "t"),
    ("ALTER TABLE t SET (fillfactor = 90)", "t"),
    ("ALTER TABLE t RESET (fillfactor)", "t"),
    ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "t"),
    ("ALTER TABLE t SET UNLOGGED", "t"),
    ("ALTER TABLE t CLUSTER ON t_n", "t"),
    ("ALTER TABLE t RENAME COLUMN n TO nn", "t"),
    ("ALTER TABLE t RENAME CONSTRAINT n_positive TO x", "t"),
    ("ALTER TABLE t RENAME TO tt", "t"),
    ("ALTER TABLE t SET SCHEMA attic", "t"),
    ("ALTER TABLE t ADD COLUMN x integer, ALTER COLUMN n SET STATISTICS 10", "t"),
    ("ALTER TABLE heir INHERIT t", "heir"),
    ("ALTER TABLE heir INHERIT t", "t"),
    ("ALTER TABLE parent ATTACH PARTITION part2 FOR VALUES IN (2)", "parent"),
    ("ALTER TABLE parent ATTACH PARTITION part2 FOR VALUES IN (2)", "part2"),
    ("ALTER TABLE parent DETACH PARTITION part1", "parent"),
    ("ALTER INDEX t_n RENAME TO t_nn", "t_n"),
    ("DROP INDEX t_n", "t_n"),
    ("ALTER PUBLICATION pub ADD TABLE t", "t"),
    ("ALTER SEQUENCE q RESTART", "q"),
]

# Here versions differ or the weaker lock depends on the catalog: the prediction must not be weaker than the truth.
AT_LEAST = [
    ("GRANT SELECT ON t TO pg_monitor", "t"),
    ("ALTER TABLE t ALTER CONSTRAINT r_fk DEFERRABLE", "t"),
    ("ALTER TABLE t OWNER TO CURRENT_USER", "t"),
    ("DO 'BEGIN UPDATE t SET n = 2; END'", "t"),
    ("COMMENT ON CONSTRAINT n_positive ON t IS 'x'", "t"),
]


def _locks(connection: Connection, statement: str, relation: str) -> tuple[LockMode, LockMode]:
    """Return the lock predicted for a relation and the strongest one the server takes."""
    (analysed,) = split(statement)
    oid = connection.execute("SELECT %s::regclass::oid", [relation]).fetchone()
    with connection.transaction(force_rollback=True):
        connection.execute(statement.encode())
        modes = connection.execute(
            "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation = %s", oid
        ).fetchall()
    by_name = {mode.catalog: mode for mode in LockMode}
    return analysed.lock_on(Table("public", relation)), max((by_name[m[0]] for m in modes), default=LockMode.NONE)


def test_predicted_locks_are_the_locks_taken(connection: Connection) -> None:
    connection.execute(SETUP)
    connection.execute("ALTER TABLE t SET (autovacuum_enabled = off)")
    wrong = []
    for statement, relation in EXACT:
        predicted, taken = _locks(connection, statement, relation)
        if predicted is not taken:
            wrong.append(f"{statement!r} on {relation}: predicted {predicted.name}, taken {taken.name}")
    for statement, relation in AT_LEAST:
        predicted, taken = _locks(connection, statement, relation)
        if predicted < taken:
            wrong.append(f"{statement!r} on {relation}: predicted {predicted.name}, taken {taken.name}")
    assert wrong == []


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM t",
        "CREATE INDEX CONCURRENTLY i ON t (s)",
        "DROP INDEX CONCURRENTLY t_n",
        "REINDEX INDEX CONCURRENTLY t_n",
        "ALTER TABLE parent DETACH PARTITION part1 CONCURRENTLY",
        "CLUSTER",
        "REINDEX SCHEMA public",
        "CREATE DATABASE never",
    ],
)
def test_what_is_said_to_run_outside_transactions_cannot_run_inside(connection: Connection, statement: str) -> None:
    (analysed,) = split(statement)
    assert not analysed.transactional
    connection.execute(SETUP)
    with pytest.raises(psycopg.errors.ActiveSqlTransaction), connection.transaction():
        connection.execute(statement.encode())


def test_every_volatile_function_is_harmless_or_refused(connection: Connection) -> None:
    rows = connection.execute("""
        SELECT DISTINCT proname FROM pg_proc
        WHERE provolatile = 'v' AND pronamespace = 'pg_catalog'::regnamespace
          AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
    """).fetchall()
    unknown = {r[0] for r in rows if r[0] not in functions.HARMLESS_VOLATILE and not functions.is_refused(r[0])}
    assert unknown == set()


def test_every_aggregate_is_known(connection: Connection) -> None:
    rows = connection.execute("""
        SELECT DISTINCT proname FROM pg_proc
        WHERE prokind = 'a' AND pronamespace = 'pg_catalog'::regnamespace AND proname !~ '(^|_)rank$|^cume_dist$'
    """).fetchall()
    assert {r[0] for r in rows if not functions.is_aggregate(r[0])} == set()


TYPES = [
    *("int", "int2", "bigint", "float(10)", "float", "numeric(10,2)", "numeric(10)", "numeric", "decimal", "bool"),
    *("varchar", "varchar(10)", "char", "char(3)", "bpchar", "text", '"char"', "name", "bit", "bit varying(3)"),
    *("date", "time", "time(3)", "timetz", "timestamp", "timestamptz(3)", "timestamp with time zone", "interval"),
    *("interval(3)", "interval day to second(3)", "interval year", "json", "jsonb", "xml", "uuid", "bytea"),
    *("int[]", "int[3][4]", "text array", "varchar(3)[]", "inet", "int4range", "tsvector", "point", "money"),
]


def test_types_are_spelled_as_format_type_spells_them(connection: Connection) -> None:
    for number, text in enumerate(TYPES):
        spelled = normalise_type(text)
        table = f"types{number}"
        connection.execute(f"CREATE TABLE {table} (c {text})".encode())
        row = connection.execute(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum = 1",
            [table],
        ).fetchone()
        assert row == (spelled,), text
