"""The registry installs itself once, whoever comes first, and leaves a newer one alone."""

from __future__ import annotations

import threading

import pytest

from schema_change.core.database import Connection, Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.journal import registry

EVERYTHING = """
SELECT c.relname, c.relkind, a.attname
FROM pg_class AS c
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = to_regnamespace('schema_change')
ORDER BY c.relname, a.attnum
"""
COLUMNS = "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"


def test_installing_twice_changes_nothing(connection: Connection) -> None:
    assert not registry.is_installed(connection)
    assert registry.install(connection) == list(registry.migrations())
    assert registry.is_installed(connection)
    before = connection.execute(EVERYTHING).fetchall()
    assert registry.install(connection) == []
    assert connection.execute(EVERYTHING).fetchall() == before
    versions = connection.execute("SELECT version, name FROM schema_change.registry_version ORDER BY version")
    assert versions.fetchall() == [(v, file.stem) for v, file in registry.migrations().items()]


def test_sessions_that_install_at_once_do_not_meet(target: Target) -> None:
    ready = threading.Barrier(4)
    applied: list[list[int]] = []

    def install() -> None:
        with target.connect("install") as session:
            ready.wait(10)
            applied.append(registry.install(session))

    threads = [threading.Thread(target=install) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [[], [], [], list(registry.migrations())]


def test_an_install_that_fails_leaves_nothing(connection: Connection) -> None:
    """Somebody's own table is in the way."""
    connection.execute("CREATE SCHEMA schema_change; CREATE TABLE schema_change.owner (mine integer)")
    before = connection.execute(EVERYTHING).fetchall()
    with pytest.raises(Exception, match='relation "owner" already exists'):
        registry.install(connection)
    assert connection.execute(EVERYTHING).fetchall() == before


def test_the_registry_of_a_newer_release_is_left_alone(installed: Connection) -> None:
    installed.execute("INSERT INTO schema_change.registry_version (version, name) VALUES (999, '999_future')")
    with pytest.raises(ConfigurationError, match="version 999, newer than this release") as caught:
        registry.install(installed)
    assert "upgrade" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("view", "columns"),
    [
        ("schema_migrations", "version installed_by description installed_on success execution_time"),
        (
            "schema_audit",
            "migration_id operation_type object_type object_name description performed_at performed_by sql_statement",
        ),
    ],
)
def test_the_views_begin_with_the_columns_people_know(installed: Connection, view: str, columns: str) -> None:
    found = [name for (name,) in installed.execute(COLUMNS, [f"schema_change.{view}"])]
    assert found == [*columns.split(), "run_id"]
    kind = "SELECT relkind::text FROM pg_class WHERE oid = %s::regclass"
    assert installed.execute(kind, [f"schema_change.{view}"]).fetchall() == [("v",)]


def test_schema_registry_has_the_columns_and_the_key_people_know(installed: Connection) -> None:
    found = {name for (name,) in installed.execute(COLUMNS, ["schema_change.schema_registry"])}
    assert found >= {"table_name", "version", "schema_definition", "change_description", "created_at", "updated_at"}
    key = (
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'schema_change.schema_registry'::regclass AND contype = 'u'"
    )
    assert installed.execute(key).fetchall() == [("UNIQUE (table_name, version)",)]
