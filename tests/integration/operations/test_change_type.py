"""``change_type`` on real tables: what the column carries survives, and so does every write."""

from __future__ import annotations

import itertools
import re
import threading
from typing import Any

import pytest

from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Connection
from schema_change.core.names import Table
from tests.bench import Bench, Run
from tests.integration.operations.running import comes_back, lands
from tests.integration.stages.test_hardening import FAST, Rows, forward

ORDERS = """
CREATE TABLE orders (id integer PRIMARY KEY, amount integer NOT NULL DEFAULT 7, note text);
INSERT INTO orders SELECT g, g * 10, 'n' || g FROM generate_series(1, 500) AS g;
"""
#: An integer column with everything that a column can carry, and that is carried over.
EVERYTHING = """
CREATE SCHEMA "My Shop";
CREATE ROLE reader;
CREATE TABLE "My Shop".customers (id integer PRIMARY KEY);
INSERT INTO "My Shop".customers SELECT g FROM generate_series(1, 50) AS g;
CREATE TABLE "My Shop"."Orders" (
    "Order" serial,
    part integer NOT NULL DEFAULT 1,
    customer integer CONSTRAINT buyer REFERENCES "My Shop".customers ON DELETE SET NULL,
    parent integer,
    price numeric(8,2),
    CONSTRAINT "the key" PRIMARY KEY ("Order"),
    CONSTRAINT positive CHECK ("Order" > 0 AND part < "Order" + 1000),
    CONSTRAINT whole UNIQUE ("Order", part)
);
ALTER TABLE "My Shop"."Orders" ADD CONSTRAINT tree FOREIGN KEY (parent) REFERENCES "My Shop"."Orders" ("Order");
INSERT INTO "My Shop"."Orders" (customer, price, parent)
SELECT 1 + g % 50, g, nullif(g / 2, 0) FROM generate_series(1, 300) AS g;
CREATE TABLE "My Shop".lines (
    line integer PRIMARY KEY,
    "order" integer NOT NULL CONSTRAINT ordered REFERENCES "My Shop"."Orders" ON DELETE CASCADE ON UPDATE CASCADE
);
COMMENT ON CONSTRAINT ordered ON "My Shop".lines IS 'of an order';
INSERT INTO "My Shop".lines SELECT g, 1 + g % 300 FROM generate_series(1, 600) AS g;
CREATE TABLE "My Shop".parts (
    "order" integer,
    part integer,
    CONSTRAINT of_whole FOREIGN KEY ("order", part) REFERENCES "My Shop"."Orders" ("Order", part)
);
INSERT INTO "My Shop".parts SELECT g, 1 FROM generate_series(1, 100) AS g;
CREATE INDEX lower_half ON "My Shop"."Orders" ("Order" DESC, part) INCLUDE (price) WHERE "Order" < 150;
CREATE INDEX computed ON "My Shop"."Orders" ((("Order" % 10)), price);
CREATE UNIQUE INDEX distinctly ON "My Shop"."Orders" (part, "Order") NULLS NOT DISTINCT;
COMMENT ON INDEX "My Shop".computed IS 'last digit';
COMMENT ON CONSTRAINT "the key" ON "My Shop"."Orders" IS 'the key of it all';
COMMENT ON COLUMN "My Shop"."Orders"."Order" IS 'number on the bill';
ALTER TABLE "My Shop"."Orders" CLUSTER ON whole;
ALTER TABLE "My Shop"."Orders" REPLICA IDENTITY USING INDEX whole;
ALTER TABLE "My Shop"."Orders" ALTER COLUMN "Order" SET STATISTICS 321;
CREATE STATISTICS "My Shop".together ON "Order", part FROM "My Shop"."Orders";
GRANT SELECT ON "My Shop"."Orders" TO reader;
GRANT UPDATE ("Order", price) ON "My Shop"."Orders" TO reader;
GRANT USAGE ON SCHEMA "My Shop" TO reader;
ALTER TABLE "My Shop"."Orders" ENABLE ROW LEVEL SECURITY;
CREATE POLICY small ON "My Shop"."Orders" FOR SELECT TO reader USING ("Order" < 100);
CREATE POLICY writes ON "My Shop"."Orders" FOR INSERT TO reader WITH CHECK ("Order" < 100);
COMMENT ON POLICY small ON "My Shop"."Orders" IS 'small ones';
CREATE TABLE seen (what bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.seen VALUES (NEW."Order"); RETURN NEW; END $$;
CREATE TRIGGER "On Order" AFTER UPDATE OF "Order" ON "My Shop"."Orders" FOR EACH ROW
    WHEN (old."Order" IS DISTINCT FROM new."Order") EXECUTE FUNCTION note();
ALTER TABLE "My Shop"."Orders" ENABLE ALWAYS TRIGGER "On Order";
COMMENT ON TRIGGER "On Order" ON "My Shop"."Orders" IS 'seen';
CREATE VIEW "My Shop".cheap WITH (security_barrier = true, check_option = local) AS
    SELECT "Order", price FROM "My Shop"."Orders" WHERE price < 100;
COMMENT ON COLUMN "My Shop".cheap."Order" IS 'in the view';
ALTER VIEW "My Shop".cheap ALTER COLUMN price SET DEFAULT 9;
GRANT SELECT ON "My Shop".cheap TO reader WITH GRANT OPTION;
GRANT UPDATE (price) ON "My Shop".cheap TO reader;
CREATE VIEW "My Shop"."very Cheap" AS SELECT * FROM "My Shop".cheap WHERE price < 10;
ALTER VIEW "My Shop"."very Cheap" OWNER TO reader;
CREATE VIEW "My Shop".unaffected AS SELECT price FROM "My Shop"."Orders";
CREATE MATERIALIZED VIEW "My Shop".counted AS SELECT "Order" % 7 AS rest, count(*) FROM "My Shop"."Orders" GROUP BY 1;
CREATE UNIQUE INDEX by_rest ON "My Shop".counted (rest);
GRANT SELECT ON "My Shop".counted TO reader;
CREATE PUBLICATION news FOR TABLE "My Shop"."Orders";
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER "Into" INSTEAD OF DELETE ON "My Shop"."very Cheap" FOR EACH ROW EXECUTE FUNCTION nothing();
COMMENT ON TRIGGER "Into" ON "My Shop"."very Cheap" IS 'none';
CREATE RULE quiet AS ON UPDATE TO "My Shop"."very Cheap" WHERE new."Order" < 0 DO INSTEAD NOTHING;
SET ROLE reader;
GRANT SELECT ON "My Shop".cheap TO PUBLIC;
RESET ROLE;
ALTER DEFAULT PRIVILEGES IN SCHEMA "My Shop" GRANT TRUNCATE ON TABLES TO reader;
"""
TABLES = (Table("My Shop", "Orders"), Table("My Shop", "lines"), Table("public", "seen"))


def change(bench: Bench, name: str = "001_change", **operation: Any) -> Run:
    return Run(bench.request(bench.write(name, {"operations": [{"change_type": operation}]}), **FAST))


def operations(**operation: Any) -> list[dict[str, Any]]:
    return [{"change_type": operation}]


def type_of(rows: Rows, table: str, column: str) -> str:
    found = rows(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = '{table}'::regclass AND attname = '{column}'"
    )
    return str(found[0][0])


@pytest.fixture
def everything(connection: Connection, rows: Rows) -> Any:
    rows("DROP ROLE IF EXISTS reader")
    rows(EVERYTHING)
    yield connection
    rows('DROP SCHEMA "My Shop" CASCADE')
    rows("DROP OWNED BY reader; DROP ROLE reader")


def test_a_plain_column_lands_in_its_new_type(bench: Bench, rows: Rows) -> None:
    rows(ORDERS)
    run = change(bench, table="orders", column="amount", type="bigint", strategy="expand")
    forward(run, to="validate")
    rows("INSERT INTO orders (id) VALUES (1001)")
    rows("UPDATE orders SET amount = 5 WHERE id = 1")
    forward(run, to="rollback")
    assert type_of(rows, "orders", "amount") == "bigint"
    assert rows("SELECT amount FROM orders WHERE id IN (1, 2, 1001) ORDER BY id") == [(5,), (20,), (7,)]
    assert [c.name for c in catalog_of(bench, "public", "orders").columns] == ["id", "note", "amount"]


def catalog_of(bench: Bench, schema: str, table: str) -> Any:
    with bench.target.connect("look") as session:
        return read_catalog(session).relations[Table(schema, table)]


def plain(part: Any) -> str:
    """Return a part of the catalog with constants as they are written, whatever the type they are compared with."""
    return re.sub(r"\((\d+)\)::bigint", r"\1", repr(part))


ORDER_KEY: dict[str, Any] = {"table": '"My Shop"."Orders"', "column": "Order", "type": "bigint", "strategy": "expand"}


def test_everything_a_primary_key_carries_comes_back(bench: Bench, everything: Connection) -> None:
    comes_back(bench, operations(**ORDER_KEY), *TABLES)


def test_everything_a_primary_key_carries_is_carried_over(bench: Bench, everything: Connection, rows: Rows) -> None:
    before = catalog_of(bench, "My Shop", "Orders")
    with bench.target.connect("look") as session:
        views = {t: r for t, r in read_catalog(session).relations.items() if r.kind in "vm"}
    lands(bench, operations(**ORDER_KEY))
    after = catalog_of(bench, "My Shop", "Orders")
    assert type_of(rows, '"My Shop"."Orders"', "Order") == "bigint"
    for part in ("constraints", "indexes", "triggers", "policies", "replica_identity", "grants"):
        assert plain(getattr(after, part)) == plain(getattr(before, part)), part
    (old,), (new,) = ([c for c in r.columns if c.name == "Order"] for r in (before, after))
    assert (new.nullable, new.default, new.comment, new.grants, new.options) == (
        (old.nullable, old.default, old.comment, old.grants, old.options)
    )
    with bench.target.connect("look") as session:
        found = read_catalog(session)
    for table, view in views.items():
        now = found.relations[table]
        for part in ("definition", "owner", "grants", "options", "comment", "indexes", "triggers", "rules"):
            assert plain(getattr(now, part)) == plain(getattr(view, part)), (table, part)
        assert [(c.name, c.default, c.comment, c.grants) for c in now.columns] == [
            (c.name, c.default, c.comment, c.grants) for c in view.columns
        ]
    if found.server_version >= 180000:
        named = "SELECT 1 FROM pg_constraint WHERE contype = 'n' AND conname = 'Orders_Order_not_null'"
        assert rows(named) == [(1,)]
    sequence = found.objects['sequence "My Shop"."Orders_Order_seq"']
    assert "bigint" in sequence
    assert "owned by" in sequence
    rows("""UPDATE "My Shop"."Orders" SET "Order" = 900 WHERE "Order" = 300 """)
    assert rows("SELECT what FROM seen") == [(900,)]


# -- writes through both shapes ----------------------------------------------------------------------------------------

PRICES = """
CREATE TABLE prices (id integer PRIMARY KEY, cents integer NOT NULL DEFAULT 100, rate integer NOT NULL DEFAULT 2);
INSERT INTO prices SELECT g, g FROM generate_series(1, 400) AS g;
"""
EUROS = {
    "table": "prices",
    "column": "cents",
    "type": "numeric(12,2)",
    "using": "prices.cents / 100.0",
    "down": "(prices.cents * 100)::integer",
    "strategy": "expand",
}


def hidden_of(rows: Rows, table: str) -> str:
    found = rows(
        f"SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = '{table}'::regclass"
        " AND attname LIKE 'schema%' AND NOT attisdropped"
    )
    return str(found[0][0])


@pytest.mark.parametrize("stage", ["backfill", "cutover", "validate", "contract"])
def test_both_shapes_see_each_others_writes(bench: Bench, rows: Rows, stage: str) -> None:
    """Cents and euros: the published column wins when one statement changes both."""
    rows(PRICES)
    run = forward(change(bench, **EUROS), to=stage)
    hidden = hidden_of(rows, "prices")
    old, new = ("cents", hidden) if stage in {"backfill", "cutover"} else (hidden, "cents")
    rows(f"INSERT INTO prices (id, {old}) VALUES (1001, 150)")
    rows(f"INSERT INTO prices (id, {new}) VALUES (1002, 2.50)")
    rows("INSERT INTO prices (id) VALUES (1003)")
    rows(f"UPDATE prices SET {old} = 350 WHERE id = 1")
    rows(f"UPDATE prices SET {new} = 4.50 WHERE id = 2")
    rows("UPDATE prices SET id = -3 WHERE id = 3")
    rows(f"UPDATE prices SET {old} = 111, {new} = 2.22 WHERE id = 4")
    wins = 111 if old == "cents" else 222
    expected = [(-3, 3), (1, 350), (2, 450), (4, wins), (1001, 150), (1002, 250), (1003, 100)]
    found = f"SELECT id, {old}, {new} * 100 FROM prices WHERE id IN (1001, 1002, 1003, 1, 2, -3, 4) ORDER BY id"
    assert rows(found) == [(i, v, v) for i, v in expected]
    run.finish()
    assert rows("SELECT id, cents FROM prices WHERE id IN (1001, 1002, 1003, 1, 2, -3, 4) ORDER BY id") == expected
    assert type_of(rows, "prices", "cents") == "integer"


def test_an_expression_over_other_columns_follows_them(bench: Bench, rows: Rows) -> None:
    rows(f"{PRICES}; ALTER TABLE prices ALTER COLUMN cents DROP DEFAULT")
    using, down = "prices.cents * prices.rate + 0.5", "((prices.cents - 0.5) / prices.rate)::integer"
    run = forward(change(bench, **{**EUROS, "using": using, "down": down}), to="validate")
    assert rows("SELECT cents FROM prices WHERE id = 5") == [(10.5,)]
    rows("UPDATE prices SET rate = 3 WHERE id = 5")
    rows("UPDATE prices SET cents = 30.5, rate = 3 WHERE id = 6")
    run.finish()
    assert rows("SELECT id, cents, rate FROM prices WHERE id IN (5, 6) ORDER BY id") == [(5, 3, 3), (6, 10, 3)]


def test_a_default_that_differs_from_row_to_row_does_not_hide_what_was_written(bench: Bench, rows: Rows) -> None:
    rows("CREATE SEQUENCE s; CREATE TABLE t (k integer PRIMARY KEY, v integer DEFAULT nextval('s'))")
    run = forward(change(bench, table="t", column="v", type="bigint", strategy="expand"), to="contract")
    hidden = hidden_of(rows, "t")
    rows(f"INSERT INTO t (k, {hidden}) VALUES (1, 77)")
    rows("INSERT INTO t (k) VALUES (2)")
    run.finish()
    assert rows("SELECT k, v FROM t ORDER BY k") == [(1, 77), (2, 2)]


# -- one way -----------------------------------------------------------------------------------------------------------

WORDS = """
CREATE TABLE words (id integer PRIMARY KEY, n text NOT NULL);
INSERT INTO words SELECT g, g FROM generate_series(1, 300) AS g;
"""
ONE_WAY = {"table": "words", "column": "n", "type": "integer"}


def test_without_an_inverse_a_rollback_comes_back_while_nothing_was_written(bench: Bench, rows: Rows) -> None:
    rows(WORDS)
    comes_back(bench, operations(**ONE_WAY), Table("public", "words"))


def test_without_an_inverse_a_rollback_is_refused_once_something_was_written(bench: Bench, rows: Rows) -> None:
    rows(WORDS)
    run = change(bench, **ONE_WAY)
    assert run.try_stage("plan")
    run.approve()
    forward(run, to="validate")
    rows("UPDATE words SET n = 5 WHERE id = 1")
    rows("INSERT INTO words VALUES (1001, '7')")
    rows("INSERT INTO words (id, n) VALUES (1002, 8)")
    run.finish()
    assert rows("SELECT status FROM schema_change.run") == [("rollback_failed",)]
    assert "cannot be given back" in rows("SELECT error FROM schema_change.run")[0][0]
    assert rows("SELECT id, n FROM words WHERE id IN (1, 2, 1001, 1002) ORDER BY id") == [
        (1, 5),
        (2, 2),
        (1001, 7),
        (1002, 8),
    ]


def test_a_value_that_cannot_be_converted_is_found_before_anything_is_touched(bench: Bench, rows: Rows) -> None:
    rows(WORDS)
    rows("UPDATE words SET n = 'seven' WHERE id = 7")
    run = change(bench, **ONE_WAY)
    run.try_stage("plan")
    run.approve()
    run.try_stage("backup")
    assert not run.try_stage("pre_check")
    assert "seven" in str(run.error)


# -- keys, other types, in place ---------------------------------------------------------------------------------------


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("(c integer, d text); INSERT INTO {t} SELECT g % 9, g FROM generate_series(1, 300) g", {"type": "bigint"}),
    (
        (
            "(c integer GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 3) PRIMARY KEY, d text);"
            " INSERT INTO {t} (d) SELECT g FROM generate_series(1, 300) g"
        ),
        {"type": "bigint"},
    ),
    (
        (
            "(k uuid, part text, c varchar(10) COLLATE \"C\" DEFAULT 'x', PRIMARY KEY (k, part));"
            " INSERT INTO {t} SELECT gen_random_uuid(), g, g FROM generate_series(1, 300) g"
        ),
        {"type": "text"},
    ),
    (
        "(id int PRIMARY KEY, c mood DEFAULT 'bad'); INSERT INTO {t} SELECT g, 'good' FROM generate_series(1, 300) g",
        {"type": "text", "using": "{t}.c::text", "down": "{t}.c::public.mood"},
    ),
    (
        (
            "(id int PRIMARY KEY, c json);"
            " INSERT INTO {t} SELECT g, json_build_object('a', g) FROM generate_series(1, 300) g"
        ),
        {"type": "jsonb", "using": "{t}.c::jsonb", "down": "{t}.c::json", "lossy": "allow"},
    ),
    (
        "(id int PRIMARY KEY, c text[]); INSERT INTO {t} SELECT g, ARRAY[g::text] FROM generate_series(1, 9) g",
        {"type": "integer[]", "using": "{t}.c::integer[]", "down": "{t}.c::text[]"},
    ),
    (
        (
            "(id int PRIMARY KEY, c timestamp DEFAULT now()); CREATE INDEX ON {t} (c);"
            " INSERT INTO {t} SELECT g, '2024-01-01'::timestamp + g * interval '1 h' FROM generate_series(1, 300) g"
        ),
        {
            "type": "timestamp with time zone",
            "using": "{t}.c AT TIME ZONE 'UTC'",
            "down": "{t}.c AT TIME ZONE 'UTC'",
        },
    ),
    (
        (
            "(id int PRIMARY KEY, c complex); INSERT INTO {t} VALUES"
            " (1, ROW(1, NULL)), (2, ROW(NULL, NULL)), (3, ROW(1, 2))"
        ),
        {
            "type": "text",
            "using": "concat_ws(' ', '#', ({t}.c).a, ({t}.c).b)",
            "down": "ROW(split_part({t}.c, ' ', 2), nullif(split_part({t}.c, ' ', 3), ''))::public.complex",
            "lossy": "allow",
        },
    ),
    (
        "(id int PRIMARY KEY, c text DEFAULT 'good'); INSERT INTO {t} SELECT g, 'bad' FROM generate_series(1, 9) g",
        {"type": "mood", "down": "{t}.c::text"},
    ),
    ("(id int PRIMARY KEY, c integer)", {"type": "numeric(12,2)"}),
]


def test_tables_of_all_kinds(bench: Bench, rows: Rows) -> None:
    """No key, an identity, a composite key; enum, json, array, timestamptz; an empty table; in one change."""
    rows("CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TYPE complex AS (a text, b text)")
    names = [f"t{n}" for n in range(len(KINDS))]
    wanted = []
    for name, (setup, operation) in zip(names, KINDS, strict=True):
        rows(f"CREATE TABLE {name} {setup.replace('{t}', name)}")
        asked = {key: value.replace("{t}", name) for key, value in operation.items()}
        wanted += operations(table=name, column="c", strategy="expand", **asked)
    comes_back(bench, wanted, *(Table("public", name) for name in names))
    counted = " UNION ALL ".join(f"SELECT '{name}', count(*), count(c) FROM {name}" for name in names)
    before = rows(counted)
    lands(bench, wanted, "900_back")
    assert rows(counted) == before
    assert [type_of(rows, name, "c") for name in names] == [operation["type"] for _, operation in KINDS]


def test_an_identity_goes_on_where_it_was(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE t (c integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, d text)")
    rows("INSERT INTO t (d) VALUES ('a'), ('b')")
    run = forward(change(bench, table="t", column="c", type="bigint", strategy="expand"), to="contract")
    rows("INSERT INTO t (d) VALUES ('c')")
    run.finish()
    rows("INSERT INTO t (d) VALUES ('d')")
    assert rows("SELECT c FROM t ORDER BY c") == [(1,), (2,), (3,), (4,)]


def test_everything_comes_back_from_a_change_in_place(bench: Bench, everything: Connection) -> None:
    comes_back(bench, operations(**{**ORDER_KEY, "strategy": "auto"}), *TABLES)


def test_the_rehearsal_proves_the_way_back(bench: Bench, everything: Connection) -> None:
    lands(bench, operations(**ORDER_KEY), skip_backup=False, skip_rehearsal=False)


def test_both_columns_of_a_key_change_in_one_change(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE t (a integer, b integer, d text, PRIMARY KEY (a, b)); CREATE INDEX both_of ON t (b, a)")
    rows("CREATE TABLE u (a integer, b integer, FOREIGN KEY (a, b) REFERENCES t)")
    rows("INSERT INTO t SELECT g % 7, g FROM generate_series(1, 300) AS g")
    rows("INSERT INTO u SELECT a, b FROM t WHERE b < 50")
    rows("CREATE VIEW v AS SELECT a, b FROM t")
    wanted = [op for c in "ab" for op in operations(table="t", column=c, type="bigint", strategy="expand")]
    comes_back(bench, wanted, Table("public", "t"))
    lands(bench, wanted, "900_back")
    assert [type_of(rows, "v", c) for c in "ab"] == ["bigint", "bigint"]
    assert [i.columns for i in catalog_of(bench, "public", "t").indexes] == [("b", "a"), ("a", "b")]


MISFITS: list[tuple[str, str, dict[str, Any]]] = [
    ("integer", "70000", {"type": "smallint"}),
    ("bigint", "3000000000", {"type": "integer"}),
    ("numeric(8,3)", "1.234", {"type": "numeric(8,2)"}),
    ("numeric(8,3)", "12345.5", {"type": "numeric(6,3)"}),
    ("double precision", "1.5", {"type": "integer"}),
    ("text", "'12345678901'", {"type": "varchar(10)"}),
    ("text", "'9999999999'", {"type": "integer"}),
    ("text", "'maybe'", {"type": "boolean"}),
    ("text", "'1234'", {"type": "uuid"}),
    ("timestamp", "'2024-01-01 12:00'", {"type": "date"}),
    ("text", "'x'", {"type": "integer", "using": "nullif(t.{c}, 'x')::integer"}),
    ("integer", "15", {"type": "integer", "using": "t.{c} / 10", "down": "t.{c} * 10"}),
]


def test_values_that_do_not_fit_stop_the_change(bench: Bench, rows: Rows) -> None:
    """Out of range, too long, not readable, losing digits, made NULL, another one there and back: each is counted."""
    columns = [f"c{n}" for n in range(len(MISFITS))]
    defined = (f"{column} {kind}" for column, (kind, _, _) in zip(columns, MISFITS, strict=True))
    rows(f"CREATE TABLE t (id integer PRIMARY KEY, {', '.join(defined)})")
    rows("INSERT INTO t (id) VALUES (1)")
    rows(f"INSERT INTO t VALUES (42, {', '.join(value for _, value, _ in MISFITS)})")
    wanted = []
    for column, (_, _, operation) in zip(columns, MISFITS, strict=True):
        asked = {key: value.replace("{c}", column) for key, value in operation.items()}
        wanted += operations(table="t", column=column, **asked)
    run = Run(bench.request(bench.write("001_change", {"operations": wanted}), **FAST))
    assert run.try_stage("plan"), run.error
    run.approve()
    run.try_stage("backup")
    assert not run.try_stage("pre_check")
    for column in columns:
        assert re.search(rf"public\.t\.{column} [^;]*: 1 row, such as \(42, ", str(run.error)), (column, run.error)


def test_a_large_table_is_widened_last(bench: Bench, rows: Rows) -> None:
    """In contract, where nothing has to be narrowed again."""
    rows("CREATE TABLE t (id integer PRIMARY KEY, c varchar(2000)); CREATE VIEW v AS SELECT c FROM t")
    rows("INSERT INTO t SELECT g, repeat(md5(g::text), 60) FROM generate_series(1, 11000) AS g")
    rows("ALTER TABLE t ALTER COLUMN c SET STORAGE EXTERNAL; UPDATE t SET c = c || ''")
    file = "SELECT pg_relation_filenode('t')"
    before = rows(file)
    run = forward(change(bench, table="t", column="c", type="varchar(3000)"), to="contract")
    assert type_of(rows, "v", "c") == "character varying(2000)"
    forward(run, to="rollback")
    assert type_of(rows, "v", "c") == "character varying(3000)"
    assert rows(file) == before


def test_sessions_write_all_the_while(bench: Bench, rows: Rows) -> None:
    """Whatever they did under the old type is there in the end: rolled back, and landed."""
    rows(PRICES)
    for outcome in ("rolled_back", "applied"):
        stop = threading.Event()
        done: list[dict[int, int]] = []

        def write(worker: int, stop: threading.Event = stop, done: list[dict[int, int]] = done) -> None:
            wrote: dict[int, int] = {}
            with bench.target.connect("application") as session:
                session.execute("SET search_path = public")
                for number in itertools.count(1):
                    if stop.is_set():
                        break
                    key, value = worker + 10 * (number % 40), number % 1000 + 1
                    session.execute(
                        "INSERT INTO prices (id, cents) VALUES (%s, %s)"
                        " ON CONFLICT (id) DO UPDATE SET cents = excluded.cents",
                        (key, value),
                    )
                    wrote[key] = value
            done.append(wrote)

        workers = [threading.Thread(target=write, args=(n,)) for n in (1, 2)]
        for worker in workers:
            worker.start()
        operation = {"table": "prices", "column": "cents", "type": "bigint", "strategy": "expand"}
        run = forward(change(bench, **operation), to="contract")
        if outcome == "applied":
            assert run.try_stage("contract"), run.error
        run.finish()
        stop.set()
        for worker in workers:
            worker.join()
        assert rows("SELECT status FROM schema_change.run ORDER BY started_at DESC LIMIT 1") == [(outcome,)]
        wrote = {k: v for part in done for k, v in part.items()}
        assert len(done) == 2
        assert dict(rows("SELECT id, cents FROM prices WHERE id % 10 IN (1, 2) AND id < 400")).items() >= wrote.items()


def test_what_cannot_be_made_anew_is_listed_before_anything_is_changed(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE t (id integer PRIMARY KEY DEFERRABLE, twice bigint GENERATED ALWAYS AS (id * 2) STORED, d text)")
    rows("ALTER TABLE t ADD CONSTRAINT apart EXCLUDE USING btree (id WITH =)")
    rows("CREATE RULE quiet AS ON UPDATE TO t WHERE new.id < 0 DO INSTEAD NOTHING")
    rows("CREATE FUNCTION top() RETURNS integer BEGIN ATOMIC SELECT max(id) FROM t; END")
    rows("CREATE VIEW v AS SELECT id FROM t")
    rows("CREATE FUNCTION of_view() RETURNS SETOF v LANGUAGE sql AS 'SELECT * FROM v'")
    rows("CREATE PUBLICATION ids FOR TABLE t (id, d) WITH (publish = 'insert')")
    before = bench.state(Table("public", "t"))
    run = change(bench, table="t", column="id", type="bigint", strategy="expand")
    assert not run.try_stage("plan")
    for name in ("apart", "t_pkey", "quiet", "public.top()", "public.t.twice", "public.of_view()", "publication ids"):
        assert name in str(run.error), name
    assert bench.state(Table("public", "t")) == before


def test_a_row_written_by_position_is_understood_after_cutover(bench: Bench, rows: Rows) -> None:
    """INSERT without a list of columns gives the old column its old value, and COPY the new one its new value."""
    rows("CREATE TABLE t (id integer PRIMARY KEY, c date NOT NULL DEFAULT '2024-01-01', d text)")
    run = forward(change(bench, table="t", column="c", type="timestamp", strategy="expand"), to="contract")
    rows("INSERT INTO t VALUES (1, '2024-02-03', 'x')")
    rows("INSERT INTO t (id, c) VALUES (2, '2024-02-03 10:00')")
    assert rows("SELECT id, c::text FROM t ORDER BY id") == [(1, "2024-02-03 00:00:00"), (2, "2024-02-03 10:00:00")]
    run.finish()
    assert rows("SELECT id, c::text FROM t ORDER BY id") == [(1, "2024-02-03"), (2, "2024-02-03")]


def test_a_small_column_changes_its_type_and_its_name_in_one_change(bench: Bench, rows: Rows) -> None:
    rows(ORDERS)
    wanted = [
        *operations(table="orders", column="amount", type="bigint"),
        {"rename_column": {"table": "orders", "column": "amount", "to": "cents"}},
        {"create_index": {"table": "orders", "columns": ["cents"]}},
    ]
    comes_back(bench, wanted, Table("public", "orders"))
    lands(bench, wanted, "900_back")
    assert type_of(rows, "orders", "cents") == "bigint"
    assert [i.columns for i in catalog_of(bench, "public", "orders").indexes] == [("cents",), ("id",)]
