"""Cases of ``change_type``."""

from __future__ import annotations

from typing import Any

from tests.acceptance.cases import Case

PRICES = """
CREATE TABLE public.prices (
    id integer PRIMARY KEY,
    cents integer NOT NULL DEFAULT 100 CONSTRAINT positive CHECK (cents > 0),
    code varchar(8) DEFAULT 'none'
);
INSERT INTO public.prices SELECT g, g * 7, 'c' || g FROM generate_series(1, 300) AS g;
CREATE INDEX prices_cents ON public.prices (cents) WHERE cents > 50;
CREATE VIEW public.cheap AS SELECT id, cents, code FROM public.prices WHERE cents < 700;
GRANT SELECT ON public.cheap TO PUBLIC;
CREATE VIEW public.cheaper AS SELECT * FROM public.cheap WHERE cents < 70;
"""
PRICES_TRAFFIC = (
    "INSERT INTO public.prices (id, cents) VALUES (1001, 150)",
    "INSERT INTO public.prices (id) VALUES (1002)",
    "INSERT INTO public.prices (id, cents) VALUES (7, 9) ON CONFLICT (id) DO UPDATE SET cents = excluded.cents",
    "UPDATE public.prices SET cents = 2, code = 'two' WHERE id = 12",
    "UPDATE public.prices SET id = -5 WHERE id = 5",
    "DELETE FROM public.prices WHERE id = 8",
    "SELECT id, cents, code FROM public.cheaper",
)
KEYS = """
CREATE SCHEMA "My Shop";
CREATE TABLE "My Shop"."Orders" (
    "select" serial CONSTRAINT "the key" PRIMARY KEY,
    parent integer CONSTRAINT tree REFERENCES "My Shop"."Orders" ON UPDATE CASCADE ON DELETE SET NULL,
    "a column with a name of sixty-three bytes, which is the most: é" text
);
INSERT INTO "My Shop"."Orders" (parent) SELECT nullif(g / 2, 0) FROM generate_series(1, 300) AS g;
CREATE TABLE "My Shop".lines (
    line integer PRIMARY KEY,
    "order" integer NOT NULL CONSTRAINT ordered REFERENCES "My Shop"."Orders" ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO "My Shop".lines SELECT g, 1 + g % 300 FROM generate_series(1, 600) AS g;
CREATE INDEX computed ON "My Shop"."Orders" (("select" % 10));
CREATE MATERIALIZED VIEW "My Shop".counted AS SELECT max("select") AS last FROM "My Shop"."Orders";
COMMENT ON COLUMN "My Shop"."Orders"."select" IS 'number';
"""
KEYS_TRAFFIC = (
    'INSERT INTO "My Shop"."Orders" (parent) VALUES (3)',
    'INSERT INTO "My Shop".lines VALUES (1001, 17)',
    'UPDATE "My Shop"."Orders" SET "select" = 2000 WHERE "select" = 17',
    'DELETE FROM "My Shop".lines WHERE "order" = 299',
    'DELETE FROM "My Shop"."Orders" WHERE "select" = 299',
    'SELECT last FROM "My Shop".counted',
)
_TYPE = (
    "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
    " WHERE attrelid = '{}'::regclass AND attname = '{}' AND NOT attisdropped"
)


def change_type(**operation: Any) -> tuple[dict[str, Any], ...]:
    return ({"change_type": operation},)


CASES = [
    Case(
        "change_type_expand",
        PRICES,
        change_type(
            table="prices",
            column="cents",
            type="numeric(12,2)",
            using="prices.cents + 0.00",
            down="prices.cents::integer",
            strategy="expand",
        ),
        {
            _TYPE.format("public.prices", "cents"): [("numeric(12,2)",)],
            "SELECT cents::text FROM public.cheap WHERE id = 30": [("210.00",)],
            "SELECT has_table_privilege('public', 'public.cheap', 'SELECT')": [(True,)],
        },
        PRICES_TRAFFIC,
    ),
    Case(
        "change_type_of_a_key",
        KEYS,
        change_type(table='"My Shop"."Orders"', column="select", type="bigint", strategy="expand"),
        {
            _TYPE.format('"My Shop"."Orders"', "select"): [("bigint",)],
            'SELECT conname::text FROM pg_constraint WHERE confrelid = \'"My Shop"."Orders"\'::regclass ORDER BY 1': [
                ("ordered",),
                ("tree",),
            ],
        },
        KEYS_TRAFFIC,
    ),
    Case(
        "change_type_one_way",
        PRICES,
        change_type(table="prices", column="code", type="text", using="upper(prices.code)", strategy="expand"),
        {"SELECT code FROM public.prices WHERE id = 3": [("C3",)]},
    ),
    Case(
        "change_type_in_place",
        PRICES,
        change_type(table="prices", column="code", type="text"),
        {_TYPE.format("public.prices", "code"): [("text",)], "SELECT code FROM public.cheap WHERE id = 3": [("c3",)]},
        PRICES_TRAFFIC,
    ),
]
