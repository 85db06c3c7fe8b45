"""A definition is read by people, and says enough to make the relation again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Target
from schema_change.core.names import Table
from schema_change.core.planning.definition import definition

EVERYTHING = Path(__file__).parents[1] / "catalog" / "everything.sql"
ODD = """
CREATE SCHEMA "Odd One";
CREATE TABLE "Odd One"."order" ("user" text DEFAULT 'it''s', "Größe" integer NOT NULL, PRIMARY KEY ("user"));
COMMENT ON COLUMN "Odd One"."order"."Größe" IS E'a \\\\ b ''c''';
CREATE INDEX "An Index" ON "Odd One"."order" ("Größe");
"""


def _essence(relation: Relation | None) -> Relation | None:
    """Return a relation without what a definition leaves out, and what belongs to others."""
    if relation is None:
        return None
    return replace(
        relation,
        owner="",
        grants=(),
        policies=(),
        statistics=(),
        dependants=(),
        uses=(),
        columns=tuple(replace(c, grants=(), options=()) for c in relation.columns),
        rows=0,
        bytes=0,
        writes=0,
    )


def _load(target: Target) -> Catalog:
    with target.connect("test") as session:
        session.execute("DO $$ BEGIN CREATE ROLE catalog_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        session.execute("SET search_path = public")
        session.execute(EVERYTHING.read_bytes())
        session.execute(ODD.encode())
        return read_catalog(session)


def test_what_it_says_makes_the_same_relation(new_database: Callable[[], Target]) -> None:
    first, second = _load(new_database()), new_database()
    _load(second)
    # A partition has its indexes from its parent, and nobody can tell them from its own.
    wanted = {t: r for t, r in first.relations.items() if r.partition_of is None}
    rank = {"v": 2, "m": 2}
    in_order = sorted(
        wanted.values(), key=lambda r: (rank.get(r.kind, 0), r.table.name == "purchase", bool(r.inherits))
    )
    with second.connect("test") as session:
        session.execute(
            'DROP TABLE app.customer, app.purchase, app.event, app.animal, app.cache, "Odd One"."order" CASCADE'
        )
        session.execute("CREATE SEQUENCE app.purchase_id_seq")
        for relation in in_order:
            session.execute(definition(relation).encode())
        made = read_catalog(session)
    assert {t: _essence(made.get(t)) for t in wanted} == {t: _essence(r) for t, r in wanted.items()}


def test_it_is_readable(target: Target) -> None:
    catalog = _load(target)
    assert definition(catalog.relations[Table("app", "event_2024")]).startswith(
        "CREATE TABLE app.event_2024 PARTITION OF app.event FOR VALUES FROM ("
    )
    text = definition(catalog.relations[Table("Odd One", "order")])
    assert text.startswith('CREATE TABLE "Odd One"."order" (\n    "user" text DEFAULT \'it\'\'s\'::text NOT NULL,\n')
    purchase = definition(catalog.relations[Table("app", "purchase")])
    assert "ALTER TABLE app.purchase ENABLE ROW LEVEL SECURITY;" in purchase
    assert "-- policy: mine permissive for select to catalog_reader using" in purchase
    assert "ALTER TABLE app.purchase ADD CONSTRAINT amount_sane CHECK" in purchase
