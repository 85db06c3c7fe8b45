from __future__ import annotations

import contextlib
import json
import threading
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from upath import UPath

from schema_change.core.backup.checksums import checksums
from schema_change.core.backup.files import CHUNK_BYTES
from schema_change.core.backup.restore import restore_database, restore_tables
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError, ConfigurationError, LockNotAvailable
from schema_change.core.execution.locks import LockSettings
from schema_change.core.names import Table
from tests.integration.backup.conftest import OTHER, READING, STATION, WEIRD, back_up, one
from tests.memory import held


def test_rows_come_back_without_firing_triggers_or_cascades(
    awkward: Target, connection: Connection, folder: UPath, run_id: UUID
) -> None:
    manifest = back_up(awkward, folder, run_id, WEIRD, OTHER, READING)
    connection.execute(
        """
        INSERT INTO station VALUES (3, 'new');
        UPDATE "We ird"."t.a*b? ""q" SET j = NULL, f = 0 WHERE "Id" < 20;
        ALTER TABLE "We ird"."t.a*b? ""q" ADD COLUMN later text NOT NULL DEFAULT 'd';
        ALTER TABLE other DISABLE TRIGGER ALL; DELETE FROM other;
        ALTER TABLE other ENABLE TRIGGER refuse_truncate; ALTER TABLE other ENABLE ALWAYS TRIGGER refuse;
        UPDATE station SET name = 'changed' WHERE id = 1;
        """
    )
    catalog = (
        "SELECT jsonb_agg(jsonb_build_array(conname, pg_get_constraintdef(k.oid), convalidated,"
        " obj_description(k.oid, 'pg_constraint')) ORDER BY conname) || ("
        "  SELECT jsonb_agg(jsonb_build_array(tgname, tgenabled) ORDER BY tgname)"
        "  FROM pg_trigger WHERE NOT tgisinternal)"
        " FROM pg_constraint AS k WHERE connamespace::regnamespace::text <> 'pg_catalog'"
    )
    before = one(awkward, catalog)
    notes: list[str] = []
    result = restore_tables(awkward, folder, note=notes.append)
    assert checksums(connection, [t.table for t in manifest.tables], manifest.columns) == manifest.tables
    assert one(awkward, catalog) == before
    assert one(awkward, 'SELECT count(*) FROM "We ird"."t.a*b? ""q" WHERE later = $$d$$ AND twice > 0') == 50
    changed = {t.table: (t.rows_before, t.rows) for t in result.tables if t.changed}
    assert changed == {WEIRD: (50, 50), OTHER: (0, 1), STATION: (3, 2)}
    assert "public.station (3 → 2 rows)" in notes[-1]
    assert notes[-1] == result.lost_writes()
    assert json.loads(json.dumps(result.to_json()))["taken_at"] == manifest.taken_at.isoformat()
    # Sequences stay where they are, so that no identity is given twice.
    assert one(awkward, 'INSERT INTO "We ird"."t.a*b? ""q" (station_id) VALUES (1) RETURNING "Id"') == 51


def test_rows_pass_through_the_worker_in_blocks(
    small: Target, connection: Connection, folder: UPath, run_id: UUID
) -> None:
    # About 32 MB of rows, which a backup and a restore may not hold.
    connection.execute("INSERT INTO station SELECT g, repeat(md5(g::text), 1000) FROM generate_series(3, 1000) AS g")
    with held() as most:
        back_up(small, folder, run_id, STATION)
        connection.execute("DELETE FROM station WHERE id > 500")
        restore_tables(small, folder)
    assert one(small, "SELECT sum(length(name)) / 1000000 FROM station") == 31
    assert most() < 8 * CHUNK_BYTES


def test_a_restore_of_unchanged_tables_touches_nothing(
    awkward: Target, connection: Connection, folder: UPath, run_id: UUID
) -> None:
    back_up(awkward, folder, run_id, READING)
    file = "SELECT pg_relation_filenode('public.station')"
    before = one(awkward, file)
    result = restore_tables(awkward, folder)
    assert one(awkward, file) == before
    assert result.lost_writes().startswith("no write was lost")


def test_one_partitioned_table_is_restored_and_new_partitions_are_named(
    awkward: Target, connection: Connection, folder: UPath, run_id: UUID
) -> None:
    back_up(awkward, folder, run_id, everything=True)
    connection.execute(
        """
        DELETE FROM reading; DELETE FROM cache;
        CREATE TABLE reading_2025 PARTITION OF reading FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        INSERT INTO reading VALUES ('2025-01-01', 1, 1);
        """
    )
    result = restore_tables(awkward, folder, [READING])
    assert one(awkward, "SELECT count(*) FROM reading") == 61
    assert one(awkward, "SELECT count(*) FROM cache") == 0
    assert result.notices == ("public.reading_2025 was attached after the backup and keeps its rows",)


def test_triggers_and_foreign_keys_of_partitions_are_as_before(
    connection: Connection, target: Target, folder: UPath, run_id: UUID
) -> None:
    connection.execute(
        """
        CREATE TABLE p (id integer PRIMARY KEY, x text) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
        CREATE TABLE child (id integer PRIMARY KEY, p integer REFERENCES p ON DELETE CASCADE);
        INSERT INTO p VALUES (1, 'a'), (11, 'b'); INSERT INTO child VALUES (1, 1), (2, 11);
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION refuse();
        """
    )
    back_up(target, folder, run_id, Table("public", "p"))
    connection.execute("UPDATE p SET x = 'changed'")
    catalog = """
        SELECT array_agg(t ORDER BY t) FROM (
            SELECT concat_ws(' ', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL
            SELECT concat_ws(' ', conrelid::regclass, confrelid::regclass, conname, pg_get_constraintdef(oid))
            FROM pg_constraint WHERE contype = 'f'
        ) AS x (t)
    """
    before = one(target, catalog)
    restore_tables(target, folder)
    assert one(target, "SELECT string_agg(x, ',' ORDER BY id) FROM p") == "a,b"
    assert one(target, "SELECT count(*) FROM child") == 2
    assert one(target, catalog) == before
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.execute("INSERT INTO child VALUES (3, 3)")


SPOILED = {
    "no column name any more": "ALTER TABLE station DROP COLUMN name CASCADE",
    "station.x is NOT NULL without a default": """
        ALTER TABLE station ADD COLUMN x integer; UPDATE station SET x = 1; ALTER TABLE station ALTER x SET NOT NULL
    """,
    "public.station does not exist any more": "DROP TABLE station CASCADE",
    "violates foreign key": """
        INSERT INTO station VALUES (9, 'n'); INSERT INTO reading VALUES ('2024-01-01', 9, 1)
    """,
    "differ from the backup": """
        UPDATE station SET name = 'x' WHERE id = 1; ALTER TABLE station ALTER name TYPE char(30)
    """,
    "violates check constraint": """
        UPDATE station SET name = 'x' WHERE id = 1; ALTER TABLE station ADD CHECK (id = 2 OR name = 'x') NOT VALID
    """,
}


@pytest.fixture(params=SPOILED)
def spoiled(request: pytest.FixtureRequest) -> tuple[str, str]:
    """What was done to the database since the backup, with what the error says."""
    return SPOILED[request.param], request.param


def test_what_does_not_fit_changes_nothing(
    small: Target, connection: Connection, folder: UPath, run_id: UUID, spoiled: tuple[str, str]
) -> None:
    spoil, message = spoiled
    back_up(small, folder, run_id, STATION)
    connection.execute("SET client_min_messages = error")
    connection.execute(spoil.encode())
    tables = [] if "DROP TABLE" in spoil else [STATION]
    before = checksums(connection, tables)
    keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'"
    count = one(small, keys)
    with pytest.raises(BackupError, match=message) as caught:
        restore_tables(small, folder)
    assert caught.value.hint
    assert checksums(connection, tables) == before
    assert one(small, keys) == count


def test_a_table_in_use_is_retryable(small: Target, connection: Connection, folder: UPath, run_id: UUID) -> None:
    back_up(small, folder, run_id, OTHER)
    with connection.transaction():
        connection.execute("SELECT count(*) FROM other")
        with pytest.raises(LockNotAvailable, match=f"blocked by session {connection.info.backend_pid}"):
            restore_tables(small, folder, locks=LockSettings(wait_s=0.5))


def test_a_restore_waits_without_standing_in_the_queue(
    small: Target, connection: Connection, folder: UPath, run_id: UUID
) -> None:
    back_up(small, folder, run_id, STATION)
    connection.execute("DELETE FROM station")
    reader = psycopg.connect(**small.parameters)
    reader.execute("SELECT count(*) FROM public.station")
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        reader.commit()

    assert restore_tables(small, folder, note=note).tables[0].changed
    reader.close()
    assert notes[0].startswith("waiting for ACCESS EXCLUSIVE lock on public.reading, public.station")
    assert one(small, "SELECT count(*) FROM public.station") == 2


def test_an_owner_who_is_no_superuser_restores(
    connection: Connection, target: Target, folder: UPath, run_id: UUID
) -> None:
    role = sql.Identifier(f"owner_{run_id.hex[:8]}")
    user = Target("t", {**target.parameters, "user": f"owner_{run_id.hex[:8]}"})
    connection.execute(sql.SQL("CREATE ROLE {0} LOGIN; GRANT CREATE ON SCHEMA public TO {0}").format(role))
    try:
        with user.connect("test") as session:
            session.execute(
                """
                CREATE TABLE public.parent (id integer PRIMARY KEY, x text);
                CREATE TABLE public.child (id integer, p integer REFERENCES public.parent ON DELETE CASCADE);
                INSERT INTO public.parent VALUES (1, 'one'); INSERT INTO public.child VALUES (1, 1);
                """
            )
            back_up(user, folder, run_id, Table("public", "parent"))
            session.execute("UPDATE public.parent SET x = 'two'; INSERT INTO public.child VALUES (2, 1)")
        restore_tables(user, folder)
        assert one(target, "SELECT x FROM parent") == "one"
        assert one(target, "SELECT count(*) FROM child") == 2
    finally:
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))


def test_a_whole_database_comes_back_under_its_name(
    awkward: Target, connection: Connection, folder: UPath, run_id: UUID
) -> None:
    role = sql.Identifier(f"app_{run_id.hex[:8]}")
    database = sql.Identifier(awkward.database)
    connection.execute(sql.SQL("CREATE ROLE {}").format(role))
    for setting in ('search_path TO "$user", app, public', "statement_timeout TO '7s'"):
        connection.execute(sql.SQL("ALTER DATABASE {} SET {}").format(database, sql.SQL(setting)))
    connection.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(database, role))
    connection.execute(sql.SQL("COMMENT ON DATABASE {} IS 'ours'").format(database))
    manifest = back_up(awkward, folder, run_id, everything=True)
    connection.execute(
        """
        ALTER TABLE station DROP COLUMN name CASCADE; DROP TABLE other; CREATE TABLE newer (x integer);
        INSERT INTO schema_change.event (message) VALUES ('after the backup');
        """
    )
    before = server_side(awkward)
    with pytest.raises(BackupError, match=r"1 sessions are on .* schema_change:test"):
        restore_database(awkward, folder)
    result = restore_database(awkward, folder, terminate_sessions=True)
    assert result.kept_database is not None
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")

    with awkward.connect("test") as session:
        assert checksums(session, [t.table for t in manifest.tables]) == manifest.tables
        messages = session.execute("SELECT message FROM schema_change.event ORDER BY id").fetchall()
    assert messages == [("before the backup",), ("after the backup",)]
    assert one(awkward, "SELECT n FROM a_total") == 60
    assert one(awkward, "SELECT umoptions::text FROM pg_user_mappings") == "{user=u,password=s3cr3t-of-a-user-mapping}"
    assert one(awkward, "SELECT srvoptions::text FROM pg_foreign_server") == (
        "{host=db.example,dbname=s3cr3t-of-a-server}"
    )
    assert server_side(awkward) == before
    old = awkward.with_database(result.kept_database)
    assert one(old, "SELECT count(*) FROM newer") == 0
    assert "public.newer is newer than the backup and is in the kept database only" in result.notices
    assert any("publication everything" in n for n in result.notices)
    assert [t.table for t in result.tables if t.changed] == [OTHER, STATION]
    with awkward.with_database("postgres").connect("test") as admin:
        admin.execute(
            sql.SQL("REVOKE ALL ON DATABASE {}, {} FROM {}").format(
                database, sql.Identifier(result.kept_database), role
            )
        )
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


def server_side(target: Target) -> object:
    """Return what the server knows about a database, apart from what is in it."""
    with target.with_database("postgres").connect("test") as admin:
        return admin.execute(
            """
            SELECT
                d.datdba, d.encoding, d.datcollate, d.datconnlimit, d.datallowconn, s.setconfig,
                shobj_description(d.oid, 'pg_database'),
                (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(d.datacl) AS a)
            FROM pg_database AS d
            LEFT JOIN pg_db_role_setting AS s ON s.setdatabase = d.oid
            WHERE d.datname = %s
            """,
            [target.database],
        ).fetchone()


def test_no_journal_entry_is_lost_while_sessions_keep_coming(awkward: Target, folder: UPath, run_id: UUID) -> None:
    back_up(awkward, folder, run_id, everything=True)
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.is_set():
            message = f"entry {len(written)}"
            with contextlib.suppress(psycopg.Error, ConfigurationError), awkward.connect("writer") as session:
                session.execute("INSERT INTO schema_change.event (message) VALUES (%s)", [message])
                written.append(message)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        restore_database(awkward, folder, terminate_sessions=True)
    finally:
        stop.set()
        thread.join()
    with awkward.connect("test") as session:
        rows = session.execute("SELECT message FROM schema_change.event").fetchall()
    assert len(written) > 1
    assert set(written) <= {row[0] for row in rows}


def test_a_backup_of_some_tables_cannot_replace_a_database(small: Target, folder: UPath, run_id: UUID) -> None:
    back_up(small, folder, run_id, STATION)
    with pytest.raises(BackupError, match="backups of scope database"):
        restore_database(small, folder, terminate_sessions=True)


def test_a_failed_whole_restore_leaves_the_database_as_it_was(
    small: Target, connection: Connection, folder: UPath, run_id: UUID
) -> None:
    back_up(small, folder, run_id, everything=True)
    (folder / "dump" / "toc.dat").write_bytes(b"damaged")
    connection.close()
    with pytest.raises(BackupError, match="is not the file that was written"):
        restore_database(small, folder)
    assert one(small, "SELECT count(*) FROM station") == 2
    with small.with_database("postgres").connect("test") as admin:
        rows = admin.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [f"{small.database}_"]
        ).fetchall()
    assert rows == []
