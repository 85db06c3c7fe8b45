"""Cases of ``set_not_null``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY
from tests.acceptance.cases.add_column import READINGS

NOT_NULL = "SELECT attnotnull FROM pg_attribute WHERE attrelid = '{}'::regclass AND attname = '{}'"
EVERYTHING = """
CREATE TYPE public.mood AS ENUM ('good', 'bad');
CREATE DOMAIN public.positive AS integer CHECK (VALUE > 0);
CREATE TABLE public.everything (
    tenant uuid, "Code" text, celsius numeric(5,2), at timestamptz, tags text[], doc jsonb, how public.mood,
    size public.positive, place json,
    twice numeric GENERATED ALWAYS AS (celsius * 2) STORED, number integer GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (tenant, "Code")
);
INSERT INTO public.everything (tenant, "Code", celsius, at, tags, doc, how, size, place)
SELECT gen_random_uuid(), 'c' || g, CASE WHEN g % 10 > 0 THEN g / 7.0 END, now(), ARRAY['a', NULL],
    '{"a": [1]}', 'good', g, to_json(g)
FROM generate_series(1, 120) AS g;
"""

CASES = [
    Case(
        "set_not_null",
        READINGS,
        ({"set_not_null": {"table": "readings", "column": "celsius"}},),
        {NOT_NULL.format("public.readings", "celsius"): [(True,)]},
        (
            "INSERT INTO public.readings (id, station, celsius) VALUES (1001, 'new', 1.5)",
            "UPDATE public.readings SET celsius = 2 WHERE id = 7",
            "DELETE FROM public.readings WHERE id = 8",
        ),
    ),
    Case(
        "set_not_null_filled",
        READINGS,
        ({"set_not_null": {"table": "readings", "column": "note", "nulls": {"fill": "'none'"}}},),
        {NOT_NULL.format("public.readings", "note"): [(True,)]},
        ("UPDATE public.readings SET celsius = 2 WHERE id = 7",),
    ),
    Case(
        "set_not_null_deleting_rows",
        EVERYTHING,
        ({"set_not_null": {"table": "everything", "column": "celsius", "nulls": "delete"}},),
        {
            NOT_NULL.format("public.everything", "celsius"): [(True,)],
            "SELECT count(*) FROM schema_change.retired WHERE kind = 'rows'": [(1,)],
        },
        (
            "INSERT INTO public.everything VALUES ('00000000-0000-0000-0000-000000000001', 'x', 1)",
            "UPDATE public.everything SET size = 3 WHERE \"Code\" = 'c5'",
        ),
    ),
    Case(
        "set_not_null_deleting_rows_without_key_nasty_names",
        NASTY,
        (
            {
                "set_not_null": {
                    "table": '"odd place"."order"',
                    "column": "a_long_name_that_has_exactly_sixty_three_bytes_as_postgres_perm",
                    "nulls": "delete",
                }
            },
        ),
        {'SELECT count(*) FROM "odd place"."order"': [(0,)]},
    ),
    Case(
        "set_not_null_deleting_rows_of_a_partitioned_table",
        "CREATE TABLE public.parts (id integer, day date, half integer, PRIMARY KEY (id, day))"
        " PARTITION BY RANGE (day);"
        "CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');"
        "CREATE TABLE public.parts_2 PARTITION OF public.parts DEFAULT;"
        "INSERT INTO public.parts SELECT g, '2024-01-01'::date + g, CASE WHEN g % 2 = 0 THEN g END"
        " FROM generate_series(1, 90) AS g;",
        ({"set_not_null": {"table": "parts", "column": "half", "nulls": "delete"}},),
        {
            NOT_NULL.format("public.parts_1", "half"): [(True,)],
            "SELECT count(*) FROM public.parts": [(45,)],
        },
        ("UPDATE public.parts SET half = 0 WHERE id = 4",),
    ),
]
