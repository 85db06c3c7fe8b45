from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from upath import UPath

from schema_change.core.backup import programs
from schema_change.core.backup.checksums import checksums, differences
from schema_change.core.backup.dump import take_backup
from schema_change.core.backup.manifest import Manifest, read_manifest
from schema_change.core.backup.scope import backup_scope
from schema_change.core.backup.scratch import restore_to_scratch, scratch_name
from schema_change.core.binaries import client_for
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError
from schema_change.core.names import Table
from tests.integration.backup.conftest import OTHER, READING, STATION, WEIRD, back_up


def test_the_scope_is_what_is_written_and_read_with_parents_and_partitions(
    awkward: Target, connection: Connection
) -> None:
    leaves = (Table("public", "reading_2023"), Table("public", "reading_2024"))
    missing = Table("public", "not_there_yet")
    assert backup_scope(connection, [WEIRD], []) == (WEIRD, STATION)
    assert backup_scope(connection, [READING, missing], []) == (*leaves, STATION)
    assert backup_scope(connection, [], [Table("public", "names")]) == (STATION,)
    assert backup_scope(connection, [], [Table("public", "a_total")]) == (*leaves, STATION)
    assert backup_scope(connection, [Table("public", "far")], []) == ()
    every = backup_scope(connection, (), (), everything=True)
    assert every == (WEIRD, Table("public", "cache"), OTHER, *leaves, STATION)


def test_checksums_do_not_depend_on_the_order_of_rows_or_the_session(awkward: Target, connection: Connection) -> None:
    before = checksums(connection, [WEIRD, READING])
    connection.execute("SET timezone = 'Asia/Kathmandu'; SET datestyle = 'German'; SET extra_float_digits = 0")
    connection.execute("SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape'")
    connection.execute('CREATE INDEX by_f ON "We ird"."t.a*b? ""q" (f DESC); CLUSTER "We ird"."t.a*b? ""q" USING by_f')
    connection.execute('ALTER TABLE "We ird"."t.a*b? ""q" ADD COLUMN later text DEFAULT $$x$$')
    columns = {c.table: c.columns for c in before}
    after = checksums(connection, [WEIRD, READING], columns)
    assert after == before
    assert before[1].rows == 60
    assert "twice" not in before[0].columns
    connection.execute("UPDATE reading SET v = v + 0.5 WHERE at = '2024-01-05'; DELETE FROM station WHERE id = 2")
    assert differences(before, checksums(connection, [WEIRD, READING], columns)) == (
        '"We ird"."t.a*b? ""q": 25 rows instead of 50',
        "public.reading: 60 rows as before, with other values",
    )
    assert connection.execute("SHOW timezone").fetchone() == ("Asia/Kathmandu",)


def test_a_checksum_tells_null_from_nothing_and_one_column_from_the_next(connection: Connection) -> None:
    wide = ", ".join(f"c{number} text" for number in range(120))
    connection.execute(f"CREATE TABLE t ({wide})".encode())
    found = []
    for row in ({}, {0: ""}, {1: ""}, {0: "a"}, {1: "a"}, {60: "a"}, {119: "a"}, {0: "a", 1: ""}, {0: "", 1: "a"}):
        columns, values = ", ".join(f"c{number}" for number in row), ", ".join(f"'{value}'" for value in row.values())
        what = f"({columns}) VALUES ({values})" if row else "DEFAULT VALUES"
        connection.execute(f"TRUNCATE t; INSERT INTO t {what}".encode())
        found += [c.checksum for c in checksums(connection, [Table("public", "t")])]
    assert len(set(found)) == len(found)


def test_columns_of_two_collations_make_a_checksum(connection: Connection) -> None:
    connection.execute("""
        CREATE TABLE t (a text COLLATE "C", b text COLLATE "POSIX", c text, d name);
        INSERT INTO t VALUES ('a', 'b', 'c', 'd')""")
    before = checksums(connection, [Table("public", "t")])
    connection.execute("UPDATE t SET b = 'B'")
    assert differences(before, checksums(connection, [Table("public", "t")])) == (
        "public.t: 1 rows as before, with other values",
    )


def test_texts_that_a_collation_calls_equal_make_different_checksums(connection: Connection, any_case: str) -> None:
    """Also those of the row's other columns, and those that differ in where one column ends."""
    connection.execute(f"CREATE TABLE t (a text COLLATE {any_case}, b text)".encode())
    found = []
    for values in ("'a', 'b'", "'A', 'b'", "'a', 'B'", "'ab', ''", "'', 'ab'"):
        connection.execute(f"TRUNCATE t; INSERT INTO t VALUES ({values})".encode())
        found += [c.checksum for c in checksums(connection, [Table("public", "t")])]
    assert len(set(found)) == len(found)


def test_checksums_name_what_is_gone(connection: Connection) -> None:
    connection.execute("CREATE TABLE a (x integer)")
    with pytest.raises(BackupError, match=r"public\.b does not exist"):
        checksums(connection, [Table("public", "b")])
    with pytest.raises(BackupError, match="no stored column y"):
        checksums(connection, [Table("public", "a")], {Table("public", "a"): ("x", "y")})


def test_no_secret_and_nothing_of_ours_reaches_a_backup(awkward: Target, folder: UPath, run_id: UUID) -> None:
    with awkward.connect("test") as session:
        session.execute("SELECT lo_from_bytea(4242, 'large')")
    manifest = back_up(awkward, folder, run_id, everything=True)
    client = client_for(manifest.server_version)
    for file in manifest.files:
        assert (folder / file.name).stat().st_size == file.bytes
    everything = (folder / "manifest.json").read_bytes() + b"".join(
        programs.run([client.tool("pg_restore"), "--file=-", str(folder / name)], {})
        for name in ("dump", "large_objects.dump")
    )
    assert b"s3cr3t" not in everything
    assert b"schema_change.event" not in everything
    assert b"CREATE PUBLICATION" not in everything
    assert b"pg_authid" not in everything
    assert b"COMMENT ON EXTENSION hstore" in everything


def test_the_manifest_says_what_was_backed_up(awkward: Target, folder: UPath, run_id: UUID) -> None:
    manifest = back_up(awkward, folder, run_id, WEIRD)
    assert read_manifest(folder) == manifest
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert [(t.table, t.rows) for t in manifest.tables] == [(WEIRD, 50), (STATION, 2)]
    assert manifest.scope == "tables"
    assert manifest.restore_point == f"schema_change_{run_id}"
    assert [str(v) for v in manifest.matviews] == ["public.totals", "public.a_total"]
    assert manifest.left_out == (
        "options of foreign server elsewhere",
        "publication everything",
        "user mapping of public on elsewhere",
    )


def test_a_backup_without_rows_holds_the_schema_only(small: Target, folder: UPath, run_id: UUID) -> None:
    manifest = take_backup(small, (), folder, everything=False, run_id=run_id)
    assert [f.name for f in manifest.files] == ["dump/toc.dat"]
    assert manifest.tables == ()


def test_a_killed_dump_leaves_nothing(small: Target, connection: Connection, folder: UPath, run_id: UUID) -> None:
    back_up(small, folder, run_id, STATION)
    outcome: list[BaseException] = []

    def dump() -> None:
        try:
            take_backup(small, [STATION], folder, everything=False, run_id=run_id)
        except BackupError as error:
            outcome.append(error)

    with small.connect("test") as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE public.other")
        thread = threading.Thread(target=dump)
        thread.start()
        deadline = time.monotonic() + 20
        killed = 0
        while not killed and time.monotonic() < deadline:
            killed = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                " AND starts_with(application_name, 'schema_change:dump:')"
            ).rowcount
            time.sleep(0.02)
    thread.join(20)
    assert killed == 1
    assert "pg_dump failed (code 1)" in str(outcome[0])
    assert not folder.exists()
    with pytest.raises(BackupError, match="holds no complete backup"):
        read_manifest(folder)


_TAKE = """
import json, sys
from uuid import UUID
from upath import UPath
from schema_change.core.backup.dump import take_backup
from schema_change.core.database import Target
from schema_change.core.names import Table
target = Target("t", json.loads(sys.argv[1]))
take_backup(target, [Table("public", "station")], UPath(sys.argv[2]), everything=False, run_id=UUID(sys.argv[3]))
"""
_DUMPS_THAT_WAIT = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = %s
"""


def test_a_killed_worker_leaves_no_backup_and_the_next_try_ends_its_dump(
    small: Target, connection: Connection, folder: UPath, run_id: UUID
) -> None:
    name = f"schema_change:dump:{run_id}"

    def dump_that_waits(*others: int) -> int:
        for _ in range(400):
            for (pid,) in connection.execute(_DUMPS_THAT_WAIT.encode(), [name]).fetchall():
                if pid not in others:
                    return int(pid)
            time.sleep(0.05)
        raise AssertionError("no dump waits for the lock")

    with ThreadPoolExecutor(1) as pool:
        with small.connect("test") as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE public.other")
            arguments = [json.dumps(dict(small.parameters)), str(folder), str(run_id)]
            worker = subprocess.Popen([sys.executable, "-c", _TAKE, *arguments])
            abandoned = dump_that_waits()
            worker.kill()
            worker.wait()
            with pytest.raises(BackupError, match="holds no complete backup"):
                read_manifest(folder)
            assert dump_that_waits() == abandoned
            again = pool.submit(take_backup, small, [STATION], folder, everything=False, run_id=run_id)
            dump_that_waits(abandoned)
            alive = connection.execute("SELECT pid FROM pg_stat_activity WHERE pid = %s", [abandoned]).fetchall()
        assert again.result(timeout=60).rows == 2
    assert alive == []
    assert {path.name for path in folder.iterdir()} == {"dump", "manifest.json"}


def test_writers_do_not_break_the_equality(awkward: Target, folder: UPath, run_id: UUID) -> None:
    stop = threading.Event()

    def write() -> None:
        with awkward.connect("writer") as session:
            number = 10
            while not stop.is_set():
                number += 1
                session.execute("INSERT INTO public.station VALUES (%s, %s)", [number, f"n{number}"])
                session.execute("UPDATE public.reading SET v = v + 1 WHERE at < '2023-12-10'")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        manifest = back_up(awkward, folder, run_id, READING)
    finally:
        stop.set()
        thread.join()
    name = scratch_name(run_id)
    restore_to_scratch(folder, awkward, name)
    with awkward.connect("test") as session:
        now = checksums(session, [STATION])
    assert now[0].rows > manifest.tables[-1].rows


def test_a_user_without_rights_gets_the_tools_own_words(
    small: Target, connection: Connection, folder: UPath, run_id: UUID
) -> None:
    connection.execute("CREATE ROLE nobody_much LOGIN")
    try:
        target = Target("t", {**small.parameters, "user": "nobody_much"})
        with pytest.raises(BackupError, match="permission denied for"):
            take_backup(target, [STATION], folder, everything=False, run_id=run_id)
        assert not folder.exists()
    finally:
        connection.execute("DROP ROLE nobody_much")
