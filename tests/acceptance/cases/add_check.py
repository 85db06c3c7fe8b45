"""Cases of ``add_check``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

NASTY = """
CREATE SCHEMA "odd place";
CREATE TABLE "odd place"."order" (
    "Select" integer, "from" text, a_long_name_that_has_exactly_sixty_three_bytes_as_postgres_perm text
);
INSERT INTO "odd place"."order" SELECT g, 'x' || g, NULL FROM generate_series(1, 50) AS g;
"""

CASES = [
    Case(
        "add_check",
        READINGS,
        ({"add_check": {"table": "readings", "check": "celsius > -100", "comment": "it's cold"}},),
        {
            "SELECT convalidated, obj_description(oid) FROM pg_constraint WHERE conname = 'readings_celsius_check'": [
                (True, "it's cold")
            ]
        },
        TRAFFIC,
    ),
    Case(
        "add_check_nasty_names",
        NASTY,
        (
            {
                "add_check": {
                    "table": '"odd place"."order"',
                    "check": '"Select" > 0 AND "from" <> \'%s {x}\'',
                    "name": 'a check, quoted " {oddly} %s',
                }
            },
        ),
        {"SELECT convalidated FROM pg_constraint WHERE conname LIKE 'a check%'": [(True,)]},
        ('INSERT INTO "odd place"."order" ("Select") VALUES (1)',),
    ),
    Case(
        "add_check_partitioned",
        "CREATE TABLE public.parts (id integer, day date) PARTITION BY RANGE (day);"
        "CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        "INSERT INTO public.parts SELECT g, '2024-01-01'::date + g FROM generate_series(1, 50) AS g;",
        ({"add_check": {"table": "parts", "check": "id > 0", "name": "positive"}},),
        {
            "SELECT count(*) FROM pg_constraint WHERE conname = 'positive' AND convalidated": [(2,)],
        },
        ("INSERT INTO public.parts VALUES (100, '2024-05-05')",),
    ),
]
