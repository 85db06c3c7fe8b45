"""A catalog read in part says the same as the whole, in as many queries however many tables there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from schema_change.core.catalog.model import Catalog, Unread
from schema_change.core.catalog.read import on_catalog, read_around, read_catalog
from schema_change.core.database import Connection
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext
from schema_change.core.operations.rename_table import RenameTable

SHOP = """
CREATE TABLE parent (id integer PRIMARY KEY, name text);
CREATE TABLE child (id integer PRIMARY KEY, parent integer REFERENCES parent);
CREATE TABLE grandchild (id integer PRIMARY KEY, child integer REFERENCES child);
CREATE TABLE apart (id integer PRIMARY KEY, note text);
CREATE INDEX apart_note ON apart (note);
CREATE VIEW names AS SELECT name FROM parent;
CREATE VIEW more_names AS SELECT name FROM names;
CREATE VIEW of_the_type AS SELECT NULL::parent AS whole;
CREATE TABLE part (id integer, at date) PARTITION BY RANGE (at);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE ruled (id integer);
CREATE POLICY seen ON ruled USING (EXISTS (SELECT FROM parent));
"""


def names(*texts: str) -> set[Table]:
    return {Table.parse(text) for text in texts}


@pytest.fixture
def shop(connection: Connection) -> Connection:
    connection.execute(SHOP)
    return connection


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    sent: list[Any] = []
    execute = psycopg.Cursor.execute

    def spy(*arguments: Any, **more: Any) -> Any:
        sent.append(arguments[1])
        return execute(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", spy)
        yield sent


def test_what_refers_to_a_table_is_read_with_it(shop: Connection) -> None:
    near = read_around(shop, names("parent"))
    assert set(near.read) == names("parent", "child", "names", "more_names", "of_the_type", "ruled")
    assert set(near.relations) == set(read_catalog(shop).relations)
    assert set(read_around(shop, names("part_1")).read) == names("part", "part_1")
    assert set(read_around(shop, names("child")).read) == names("parent", "child", "grandchild")
    assert read_around(shop, names("missing")).read == {}


def test_a_part_says_the_same_as_the_whole(shop: Connection) -> None:
    whole, near = read_catalog(shop), read_around(shop, names("parent"))
    assert near.read == {t: whole.relations[t] for t in near.read}
    assert (near.objects, near.extensions) == (whole.objects, whole.extensions)
    for scope in (names("parent"), names("parent", "child", "missing"), names("part", "part_1")):
        assert read_catalog(shop, scope) == Catalog(whole.server_version, dict(whole.restricted(scope).relations))
        assert read_catalog(shop, scope).fingerprint == whole.restricted(scope).fingerprint


def test_a_part_gives_a_renamed_table_the_scope_that_the_whole_gives(shop: Connection) -> None:
    """What names the table is in it, and nothing that names another one whose name begins the same."""
    shop.execute("""
        CREATE TABLE looked_at (id integer);
        CREATE POLICY looks ON parent USING (EXISTS (SELECT FROM looked_at));
        CREATE TABLE logged (id integer);
        CREATE RULE logs AS ON INSERT TO parent DO ALSO INSERT INTO logged VALUES (1);
        CREATE TABLE parenthood (id integer);
        CREATE TABLE watched (id integer);
        CREATE POLICY alike ON watched USING (EXISTS (SELECT FROM parenthood));
    """)

    def scope(catalog: Catalog) -> set[Table]:
        renaming = RenameTable.model_validate({"table": "parent", "to": "ancestor"})
        return set(renaming.plan(catalog, PlanContext("1", live=catalog)).touched)

    near = on_catalog(shop, names("parent"), scope)
    assert near == names("ancestor", "child", "names", "of_the_type", "ruled", "looked_at", "logged")
    assert scope(read_catalog(shop)) == near


def test_what_was_not_read_is_never_taken_for_missing(shop: Connection) -> None:
    near = read_around(shop, names("parent"))
    apart, child = Table("public", "apart"), Table("public", "child")
    assert apart in near.relations
    assert near.get(Table("public", "missing")) is None
    assert near.has_index(Table("public", "apart_note"))
    assert near.get(child) is not None
    for look, missing in (
        (lambda: near.get(apart), apart),
        (lambda: near.owner_of(Table("public", "apart_note")), apart),
        (lambda: near.around(child), child),  # it was read, what refers to it was not
        (near.relations.values, None),
        (near.relations.items, None),
        (lambda: near.fingerprint, None),
    ):
        with pytest.raises(Unread) as caught:
            look()
        assert caught.value.table == missing


def test_a_look_further_reads_more(shop: Connection) -> None:
    seen: list[Catalog] = []

    def work(catalog: Catalog) -> str:
        seen.append(catalog)
        return str(catalog.get(Table("public", "apart")))

    assert "note" in on_catalog(shop, names("parent"), work)
    assert [len(c.read) for c in seen] == [6, 7]
    assert on_catalog(shop, (), lambda c: c.fingerprint) == read_catalog(shop).fingerprint


def test_the_number_of_queries_does_not_grow_with_the_tables(shop: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent() -> list[int]:
        found = []
        reads: tuple[Callable[[], Catalog], ...] = (
            lambda: read_catalog(shop),
            lambda: read_catalog(shop, names("parent")),
            lambda: read_around(shop, names("parent")),
        )
        for read in reads:
            with counted(monkeypatch) as queries:
                read()
            found.append(len(queries))
        return found

    few = sent()
    shop.execute("""
        DO $$ BEGIN
            FOR i IN 1..200 LOOP
                EXECUTE format('CREATE TABLE many_%s (id integer PRIMARY KEY, parent integer REFERENCES parent)', i);
            END LOOP;
        END $$
    """)
    assert len(read_around(shop, names("parent")).read) == 206
    assert sent() == few
    assert max(few) <= 12
