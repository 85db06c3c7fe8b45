"""``rename_column`` on real tables: both names can be read and written until contract, and nothing is lost."""

from __future__ import annotations

import re
from typing import Any

import pytest

from schema_change.core.database import Connection
from tests.bench import Bench, Run
from tests.integration.operations.running import comes_back, lands
from tests.integration.operations.test_change_type import TABLES, catalog_of, everything
from tests.integration.stages.test_hardening import FAST, Rows, forward

__all__ = ["everything"]

PEOPLE = """
CREATE TABLE people (id integer PRIMARY KEY, name text NOT NULL DEFAULT 'nobody', made timestamptz DEFAULT now());
CREATE UNIQUE INDEX by_name ON people (name) WHERE id > 100;
INSERT INTO people SELECT g, 'n' || g FROM generate_series(1, 300) AS g;
"""
ORDER: dict[str, Any] = {
    "table": '"My Shop"."Orders"',
    "column": "Order",
    "to": 'The "new" name: as long as a name may be, and with ünicode',
}


def rename(table: str, column: str, to: str) -> list[dict[str, Any]]:
    return [{"rename_column": {"table": table, "column": column, "to": to}}]


def start(bench: Bench, table: str, column: str, to: str) -> Run:
    return Run(bench.request(bench.write("001_change", {"operations": rename(table, column, to)}), **FAST))


@pytest.mark.parametrize("stage", ["backfill", "cutover", "validate", "contract"])
def test_both_names_can_be_written(bench: Bench, rows: Rows, stage: str) -> None:
    rows(PEOPLE)
    run = forward(start(bench, "people", "name", "full_name"), to=stage)
    rows("INSERT INTO people (id, name) VALUES (1001, 'old')")
    rows("INSERT INTO people (id, full_name) VALUES (1002, 'new')")
    rows("INSERT INTO people (id) VALUES (1003)")
    upsert = "ON CONFLICT (id) DO UPDATE SET full_name = excluded.full_name"
    rows(f"INSERT INTO people (id, full_name) VALUES (1002, 'again') {upsert}")
    rows("UPDATE people SET full_name = 'ren' WHERE id = 1")
    rows("UPDATE people SET name = 'nam' WHERE id = 2")
    rows("UPDATE people SET id = -3 WHERE id = 3")
    published, other = ("name", "full_name") if stage in {"backfill", "cutover"} else ("full_name", "name")
    rows(f"UPDATE people SET {published} = 'wins', {other} = 'loses' WHERE id = 4")
    written = rows("SELECT id, name, full_name FROM people WHERE id IN (1001, 1002, 1003, 1, 2, -3, 4) ORDER BY id")
    expected = [(-3, "n3"), (1, "ren"), (2, "nam"), (4, "wins"), (1001, "old"), (1002, "again"), (1003, "nobody")]
    assert written == [(i, v, v) for i, v in expected]
    run.finish()
    assert rows("SELECT id, name FROM people WHERE id IN (1001, 1002, 1003, 1, 2, -3, 4) ORDER BY id") == expected


def test_everything_comes_back(bench: Bench, everything: Connection) -> None:
    comes_back(bench, rename(**ORDER), *TABLES)


def test_everything_is_carried_over(bench: Bench, everything: Connection, rows: Rows) -> None:
    rows(
        "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.seen VALUES (1); RETURN NEW; END $$"
    )
    before = catalog_of(bench, "My Shop", "Orders")
    lands(bench, rename(**ORDER))
    after = catalog_of(bench, "My Shop", "Orders")
    new = '"' + ORDER["to"].replace('"', '""') + '"'
    assert [c.name for c in after.columns] == [ORDER["to"] if c.name == "Order" else c.name for c in before.columns]

    def renamed(part: Any) -> str:
        return repr(part).replace(new, '"Order"')

    for part in ("indexes", "constraints", "policies", "statistics", "grants"):
        assert [re.sub(r"columns=\(.*?\)", "", renamed(p)) for p in getattr(after, part)] == [
            re.sub(r"columns=\(.*?\)", "", repr(p)) for p in getattr(before, part)
        ]
    (trigger,) = after.triggers
    assert f"UPDATE OF {new}" in trigger.definition
    assert trigger.enabled == "A"
    rows(f'UPDATE "My Shop"."Orders" SET {new} = 900 WHERE {new} = 300')
    assert rows("SELECT count(*) FROM seen") == [(1,)]


def test_triggers_of_the_user_see_both_names_in_step(bench: Bench, rows: Rows) -> None:
    """One that reads the old name, before and after the row is written, and one that changes it."""
    rows(PEOPLE)
    rows(
        "CREATE TABLE log (name text); ALTER TABLE people ADD COLUMN slug text, ADD COLUMN at timestamptz DEFAULT now()"
    )
    rows(
        "CREATE FUNCTION slugged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " NEW.slug := lower(NEW.name); NEW.name := trim(NEW.name); RETURN NEW; END $$;"
        " CREATE TRIGGER slugged BEFORE INSERT OR UPDATE OF name ON people FOR EACH ROW EXECUTE FUNCTION slugged();"
        " CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO log VALUES (NEW.name); RETURN NEW; END $$;"
        " CREATE TRIGGER logged AFTER UPDATE OF name ON people FOR EACH ROW EXECUTE FUNCTION logged()"
    )
    run = forward(start(bench, "people", "name", "full_name"), to="cutover")
    rows("INSERT INTO people (id, full_name) VALUES (1001, ' New ')")
    rows("UPDATE people SET full_name = 'Ren ' WHERE id = 1")
    rows("UPDATE people SET name = ' Nam' WHERE id = 2")
    expected = [(1, "Ren", "Ren", "ren "), (2, "Nam", "Nam", " nam"), (1001, "New", "New", " new ")]
    assert rows("SELECT id, name, full_name, slug FROM people WHERE id IN (1, 2, 1001) ORDER BY id") == expected
    run.try_stage("cutover")
    rows("UPDATE people SET full_name = 'X ' WHERE id = 1")
    rows("UPDATE people SET name = 'Y ' WHERE id = 2")
    assert rows("SELECT name, full_name, slug FROM people WHERE id < 3 ORDER BY id") == [
        ("X", "X", "x "),
        ("Y", "Y", "y "),
    ]
    assert rows("SELECT name FROM log ORDER BY name") == [("Nam",), ("Ren",), ("X",), ("Y",)]
    run.finish()
    assert rows("SELECT name FROM people WHERE id IN (1, 2, 1001) ORDER BY id") == [("X",), ("Y",), ("New",)]
