"""Cases of ``drop_not_null``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

NULLABLE = "SELECT count(*) FROM pg_attribute WHERE attrelid IN ({}) AND attname = '{}' AND attnotnull"

CASES = [
    Case(
        "drop_not_null",
        READINGS,
        ({"drop_not_null": {"table": "readings", "column": "station"}},),
        {NULLABLE.format("'public.readings'::regclass", "station"): [(0,)]},
        TRAFFIC,
    ),
    Case(
        "drop_not_null_nasty_names",
        NASTY + 'ALTER TABLE "odd place"."order" ALTER COLUMN "Select" SET NOT NULL;',
        ({"drop_not_null": {"table": '"odd place"."order"', "column": "Select"}},),
        {NULLABLE.format('\'"odd place"."order"\'::regclass', "Select"): [(0,)]},
    ),
    Case(
        "drop_not_null_partitioned",
        "CREATE TABLE public.parts (id integer NOT NULL, day date) PARTITION BY RANGE (day);"
        "CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        "INSERT INTO public.parts SELECT g, '2024-01-01'::date + g FROM generate_series(1, 50) AS g;",
        ({"drop_not_null": {"table": "parts", "column": "id"}},),
        {NULLABLE.format("'public.parts'::regclass, 'public.parts_1'::regclass", "id"): [(0,)]},
        ("INSERT INTO public.parts VALUES (100, '2024-05-05')",),
    ),
]
