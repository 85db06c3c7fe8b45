"""Cases of ``add_column``."""

from __future__ import annotations

from tests.acceptance.cases import Case

READINGS = """
CREATE TABLE public.readings (id integer PRIMARY KEY, station text NOT NULL, celsius numeric(5,2), note text);
INSERT INTO public.readings SELECT g, 'S' || g % 7, (g % 400) / 10.0 - 15, NULLIF('n' || g % 3, 'n0')
FROM generate_series(1, 300) AS g;
"""
TRAFFIC = (
    "INSERT INTO public.readings (id, station, celsius) VALUES (1001, 'new', 1.5)",
    "UPDATE public.readings SET celsius = 2 WHERE id = 7",
    "DELETE FROM public.readings WHERE id = 8",
    "SELECT id, station, celsius, note FROM public.readings WHERE id < 10",
)
# Too many rows to write the table anew.
LARGE = """
INSERT INTO public.readings SELECT g, 'S', 1 FROM generate_series(10001, 22000) AS g;
ANALYZE public.readings;
"""
RANDOM = "gen_random_uuid()"
PARTED = """
CREATE SCHEMA "My Schema";
CREATE TABLE "My Schema"."Event" ("order" integer, day date, PRIMARY KEY (day, "order")) PARTITION BY RANGE (day);
CREATE TABLE "My Schema".a_partition_whose_name_is_as_long_as_postgresql_lets_it_be_or_64
PARTITION OF "My Schema"."Event" FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE "My Schema".rest PARTITION OF "My Schema"."Event" DEFAULT;
INSERT INTO "My Schema"."Event" SELECT g, '2023-12-01'::date + g FROM generate_series(1, 300) AS g;
"""

CASES = [
    Case(
        "add_column_nullable",
        READINGS,
        ({"add_column": {"table": "readings", "column": {"name": "remark", "type": "text", "comment": "why"}}},),
        {"SELECT count(remark), count(*) FROM public.readings": [(0, 300)]},
        TRAFFIC,
    ),
    Case(
        "add_column_filled_not_null",
        READINGS,
        (
            {
                "add_column": {
                    "table": "readings",
                    "column": {"name": "fahrenheit", "type": "numeric(6,2)", "nullable": False},
                    "fill": "coalesce(readings.celsius * 9 / 5 + 32, 0)",
                }
            },
        ),
        {"SELECT count(*) FROM readings WHERE fahrenheit IS DISTINCT FROM coalesce(celsius * 9 / 5 + 32, 0)": [(0,)]},
        TRAFFIC,
    ),
    Case(
        "add_column_volatile_default",
        READINGS,
        (
            {
                "add_column": {
                    "table": "readings",
                    "column": {"name": 'Order "id"', "type": "uuid", "nullable": False, "default": "gen_random_uuid()"},
                }
            },
        ),
        {'SELECT count(DISTINCT "Order ""id""") = count(*) FROM public.readings': [(True,)]},
        TRAFFIC,
        made_up=True,
    ),
    Case(
        "add_column_generated_and_identity",
        READINGS,
        (
            {
                "add_column": {
                    "table": "readings",
                    "column": {"name": "twice", "type": "numeric", "generated": {"expression": "celsius * 2"}},
                }
            },
            {"add_column": {"table": "readings", "column": {"name": "no", "type": "bigint", "identity": "always"}}},
        ),
        {
            "SELECT count(DISTINCT no) = count(*) AND bool_and(twice IS NOT DISTINCT FROM celsius * 2)"
            " FROM public.readings": [(True,)]
        },
        TRAFFIC,
        made_up=True,
    ),
    Case(
        "add_column_identity_in_batches",
        READINGS + LARGE,
        ({"add_column": {"table": "readings", "column": {"name": "no", "type": "bigint", "identity": "by default"}}},),
        {"SELECT count(DISTINCT no) = count(*) FROM public.readings": [(True,)]},
        TRAFFIC,
        made_up=True,
    ),
    Case(
        "add_column_partitioned",
        PARTED,
        (
            {
                "add_column": {
                    "table": '"My Schema"."Event"',
                    "column": {"name": "user", "type": "integer", "nullable": False},
                    "fill": '"Event"."order" * 2',
                }
            },
        ),
        {'SELECT count(*) FROM "My Schema"."Event" WHERE "user" IS DISTINCT FROM "order" * 2': [(0,)]},
        (
            'INSERT INTO "My Schema"."Event" ("order", day) VALUES (1001, \'2024-03-03\')',
            'UPDATE "My Schema"."Event" SET day = \'2024-03-03\' WHERE "order" = 7',
            'SELECT count(*) FROM "My Schema"."Event" WHERE "order" < 10',
        ),
    ),
]
