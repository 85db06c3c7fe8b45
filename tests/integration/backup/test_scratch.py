from __future__ import annotations

import itertools
from uuid import UUID, uuid4

import pytest
from psycopg import sql
from upath import UPath

from demo.postgres import Server
from schema_change.core.backup import dump, scratch
from schema_change.core.backup.dump import take_backup
from schema_change.core.backup.scratch import (
    drop_scratch,
    list_scratch,
    restore_to_scratch,
    scratch_name,
    scratch_server,
    scratch_to_change,
)
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError
from schema_change.core.names import Table
from tests.integration.backup.conftest import STATION, WEIRD, back_up, one


def test_a_small_scope_round_trip(awkward: Target, connection: Connection, folder: UPath, run_id: UUID) -> None:
    connection.execute(
        "CREATE ROLE reader; GRANT SELECT ON station TO reader; REVOKE USAGE ON SCHEMA public FROM PUBLIC"
    )
    connection.execute("GRANT USAGE ON SCHEMA public TO reader; ALTER TABLE other OWNER TO reader")
    notes: list[str] = []
    try:
        manifest = back_up(awkward, folder, run_id, WEIRD)
        name = scratch_name(run_id)
        assert scratch_server(awkward, None, manifest) == awkward
        copy = restore_to_scratch(folder, awkward, name, notes.append)
        # A second try replaces what the first one left.
        copy = restore_to_scratch(folder, awkward, name, notes.append)
        assert copy.database == name
        assert name in list_scratch(awkward)
        assert one(copy, "SELECT count(*) FROM other") == 0
        assert one(copy, 'SELECT sum(twice) FROM "We ird"."t.a*b? ""q"') == one(
            awkward, 'SELECT sum(twice) FROM "We ird"."t.a*b? ""q"'
        )
        acl = "SELECT (SELECT relacl::text FROM pg_class WHERE relname = 'station')"
        assert one(copy, acl) == one(awkward, acl)
        public = "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'"
        assert one(copy, public) == one(awkward, public)
        assert one(copy, "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'other'") == "reader"
        assert one(copy, "SELECT srvoptions FROM pg_foreign_server") is None
        assert one(copy, "SELECT relispopulated FROM pg_class WHERE relname = 'totals'") is False
        assert one(copy, "SELECT to_regclass('schema_change.event')") is None
        assert (
            one(
                copy,
                "SELECT string_agg(obj_description(oid, 'pg_extension'), '') FROM pg_extension"
                " WHERE extname = 'hstore'",
            )
            == "pairs"
        )
        assert any("unpopulated in the copy: public.totals" in n for n in notes)
        # The identity goes on after the restored rows.
        assert one(copy, 'INSERT INTO "We ird"."t.a*b? ""q" (station_id) VALUES (1) RETURNING "Id"') == 51
        drop_scratch(awkward, name)
        assert name not in list_scratch(awkward)
    finally:
        connection.execute("ALTER TABLE other OWNER TO postgres; DROP OWNED BY reader; DROP ROLE reader")


ODD = ('a"b', "a.b", "a|b", "(a)", "a*", "a?", "$a", "[a]", "A b", "ä\\b", "a\nb")


@pytest.fixture(params=[3, 100])
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many names pg_dump is told in one pattern."""
    monkeypatch.setattr(dump, "_NAMES", request.param)


@pytest.mark.usefixtures("together")
def test_the_rows_of_the_tables_in_scope_are_dumped_and_no_others(
    connection: Connection, target: Target, folder: UPath, run_id: UUID
) -> None:
    for schema, name in itertools.product(("public", 'S "x"'), ODD):
        table = sql.Identifier(schema, name)
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("CREATE TABLE {} (id serial, x integer)").format(table))
        connection.execute(sql.SQL("INSERT INTO {} (x) VALUES (1), (2)").format(table))
    connection.execute("CREATE SEQUENCE alone; SELECT nextval('alone'), nextval('alone')")
    connection.execute("SELECT lo_from_bytea(4242, 'large')")
    wanted = (Table('S "x"', 'a"b'), Table("public", "(a)"))
    manifest = take_backup(target, wanted, folder, everything=False, run_id=run_id)
    assert manifest.left_out == ("1 large objects",)
    copy = restore_to_scratch(folder, target, scratch_name(run_id))
    with copy.connect("test") as session:
        for schema, name in itertools.product(("public", 'S "x"'), ODD):
            table = sql.Identifier(schema, name)
            query = sql.SQL("SELECT count(*), (SELECT last_value FROM {}) FROM {}")
            sequence = sql.Identifier(schema, f"{name}_id_seq")
            expected = (2, 2) if Table(schema, name) in wanted else (0, 1)
            assert session.execute(query.format(sequence, table)).fetchone() == expected
    assert one(copy, "SELECT last_value FROM alone") == 1
    assert one(copy, "SELECT count(*) FROM pg_largeobject_metadata") == 0


def test_the_verified_copy_is_changed_once(small: Target, folder: UPath, run_id: UUID) -> None:
    back_up(small, folder, run_id, STATION)
    name = scratch_name(run_id)
    which = "SELECT oid FROM pg_database WHERE datname = %s"
    verified = one(restore_to_scratch(folder, small, name), which, name)
    copy = scratch_to_change(folder, small, name)
    assert one(copy, which, name) == verified
    one(copy, "DELETE FROM station RETURNING id")
    # What was changed is no copy any more, and neither is that of another backup.
    assert one(scratch_to_change(folder, small, name), "SELECT count(*) FROM station") == 2
    restore_to_scratch(folder, small, name)
    one(small, "INSERT INTO station VALUES (3, 'c') RETURNING id")
    back_up(small, folder, run_id, STATION)
    assert one(scratch_to_change(folder, small, name), "SELECT count(*) FROM station") == 3


def test_everything_round_trip_through_object_storage(awkward: Target, connection: Connection, run_id: UUID) -> None:
    connection.execute("SELECT lo_from_bytea(4242, 'large')")
    folder = UPath(f"memory://backups/{run_id}")
    manifest = back_up(awkward, folder, run_id, everything=True)
    name = scratch_name(run_id)
    copy = restore_to_scratch(folder, awkward, name)
    assert one(copy, "SELECT count(*) FROM cache") == 1
    assert one(copy, "SELECT count(*) FROM reading WHERE at < '2024-01-01'") == 30
    assert one(copy, "SELECT convert_from(lo_get(4242), 'UTF8')") == "large"
    assert manifest.scope == "database"


def test_a_database_without_schema_public(connection: Connection, target: Target, folder: UPath, run_id: UUID) -> None:
    connection.execute("DROP SCHEMA public; CREATE SCHEMA app; CREATE TABLE app.t (x integer)")
    back_up(target, folder, run_id, everything=True)
    copy = restore_to_scratch(folder, target, scratch_name(run_id))
    assert one(copy, "SELECT to_regnamespace('public')") is None


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, connection: Connection) -> Target:
    """The server of the other version."""
    other = "server_15" if connection.info.server_version >= 180000 else "server_18"
    server: Server = request.getfixturevalue(other)
    return server.target(conn_id="scratch")


def test_another_server_gets_the_missing_roles(
    awkward: Target, connection: Connection, elsewhere: Target, folder: UPath, run_id: UUID
) -> None:
    if connection.info.server_version >= 180000:
        back_up(awkward, folder, run_id, STATION)
        with pytest.raises(BackupError, match="PostgreSQL 18 is not restored on version 15"):
            restore_to_scratch(folder, elsewhere, scratch_name(run_id))
        return
    role, name = f"owner_{run_id.hex[:8]}", scratch_name(run_id)
    identifier = sql.Identifier(role)
    connection.execute(sql.SQL("CREATE ROLE {0} LOGIN; ALTER TABLE other OWNER TO {0}").format(identifier))
    notes: list[str] = []
    try:
        manifest = back_up(awkward, folder, run_id, STATION)
        copy = restore_to_scratch(folder, scratch_server(awkward, elsewhere, manifest), name, notes.append)
        assert one(copy, "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'other'") == role
        assert one(copy, "SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", role) is False
        assert any(role in n for n in notes)
    finally:
        drop_scratch(elsewhere, name)
        with elsewhere.connect("test") as admin:
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(identifier))
        connection.execute(sql.SQL("ALTER TABLE other OWNER TO postgres; DROP ROLE {}").format(identifier))


def test_a_damaged_file_is_found_and_no_database_is_left(small: Target, folder: UPath, run_id: UUID) -> None:
    manifest = back_up(small, folder, run_id, STATION)
    file = folder / next(f.name for f in manifest.files if f.name.endswith(".dat.gz"))
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[-10] ^= 1
    for damaged in (bytes(flipped), content[:-20], None):
        file.unlink()
        if damaged is not None:
            file.write_bytes(damaged)
        with pytest.raises(BackupError, match=r"is not the file that was written|is missing"):
            restore_to_scratch(folder, small, scratch_name(run_id))
        assert scratch_name(run_id) not in list_scratch(small)


def test_a_large_backup_needs_a_scratch_connection(
    small: Target, folder: UPath, run_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = back_up(small, folder, run_id, STATION)
    monkeypatch.setattr(scratch, "SCRATCH_LIMIT_BYTES", 1)
    with pytest.raises(BackupError, match="configure a scratch connection"):
        scratch_server(small, None, manifest)
    assert scratch_server(small, small, manifest) == small


def test_an_ordinary_user_needs_createdb_and_restores_without_owners(
    connection: Connection, target: Target, folder: UPath, run_id: UUID
) -> None:
    role = f"user_{run_id.hex[:8]}"
    identifier, database = sql.Identifier(role), sql.Identifier(target.database)
    connection.execute(sql.SQL("CREATE ROLE {0} LOGIN; ALTER DATABASE {1} OWNER TO {0}").format(identifier, database))
    user = Target("t", {**target.parameters, "user": role})
    try:
        with user.connect("test") as session:
            session.execute("CREATE TABLE public.mine (id integer PRIMARY KEY); INSERT INTO public.mine VALUES (1)")
        assert back_up(user, folder, run_id, everything=True).restore_point is None
        with pytest.raises(BackupError, match="may not create databases"):
            restore_to_scratch(folder, user, scratch_name(run_id))
        connection.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(identifier))
        notes: list[str] = []
        copy = restore_to_scratch(folder, user, scratch_name(run_id), notes.append)
        assert one(copy, "SELECT count(*) FROM mine") == 1
        assert any("owners and grants are not restored" in n for n in notes)
        drop_scratch(user, scratch_name(run_id))
    finally:
        connection.execute(
            sql.SQL("ALTER DATABASE {1} OWNER TO postgres; DROP OWNED BY {0}; DROP ROLE {0}").format(
                identifier, database
            )
        )


def test_only_scratch_databases_are_dropped(target: Target) -> None:
    with pytest.raises(BackupError, match="is not a scratch database"):
        drop_scratch(target, target.database)
    drop_scratch(target, scratch_name(uuid4()))
