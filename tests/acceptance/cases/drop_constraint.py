"""Cases of ``drop_constraint``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

LEFT = "SELECT count(*) FROM pg_constraint WHERE conname = '{}'"
STATIONS = """
CREATE TABLE public.stations (name text PRIMARY KEY);
INSERT INTO public.stations SELECT 'S' || g FROM generate_series(0, 6) AS g;
INSERT INTO public.stations VALUES ('new');
ALTER TABLE public.readings ADD CONSTRAINT of_station FOREIGN KEY (station) REFERENCES public.stations
    ON DELETE CASCADE;
COMMENT ON CONSTRAINT of_station ON public.readings IS 'where it was';
"""

CASES = [
    Case(
        "drop_constraint_check",
        READINGS + "ALTER TABLE public.readings ADD CONSTRAINT cold CHECK (celsius < 100);"
        "COMMENT ON CONSTRAINT cold ON public.readings IS 'never boils';",
        ({"drop_constraint": {"table": "readings", "name": "cold"}},),
        {LEFT.format("cold"): [(0,)]},
        TRAFFIC,
    ),
    Case(
        "drop_constraint_foreign_key",
        READINGS + STATIONS,
        ({"drop_constraint": {"table": "readings", "name": "of_station"}},),
        {LEFT.format("of_station"): [(0,)]},
        TRAFFIC,
    ),
    Case(
        "drop_constraint_not_valid",
        READINGS + "ALTER TABLE public.readings ADD CONSTRAINT warm CHECK (celsius > 0) NOT VALID;",
        ({"drop_constraint": {"table": "readings", "name": "warm"}},),
        {LEFT.format("warm"): [(0,)]},
    ),
    Case(
        "drop_constraint_unique_nasty_names",
        NASTY + 'ALTER TABLE "odd place"."order" ADD CONSTRAINT "the ""key""" UNIQUE ("Select") DEFERRABLE;',
        ({"drop_constraint": {"table": '"odd place"."order"', "name": 'the "key"'}},),
        {LEFT.format('the "key"'): [(0,)]},
        ('INSERT INTO "odd place"."order" ("from") VALUES (NULL)',),
    ),
    Case(
        "drop_constraint_partitioned_check",
        "CREATE TABLE public.parts (id integer CONSTRAINT positive CHECK (id > 0), day date) PARTITION BY RANGE (day);"
        "CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        "INSERT INTO public.parts SELECT g, '2024-01-01'::date + g FROM generate_series(1, 50) AS g;",
        ({"drop_constraint": {"table": "parts", "name": "positive"}},),
        {LEFT.format("positive"): [(0,)]},
    ),
]
