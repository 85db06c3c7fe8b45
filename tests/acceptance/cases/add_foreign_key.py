"""Cases of ``add_foreign_key``."""

from __future__ import annotations

from typing import Any

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

STATIONS = """
CREATE TABLE public.stations (name text PRIMARY KEY, title text NOT NULL, seen timestamptz DEFAULT '2024-01-01');
INSERT INTO public.stations SELECT 'S' || g, 'Station ' || g FROM generate_series(0, 6) AS g;
INSERT INTO public.stations VALUES ('new', 'New');
"""
ORPHANS = """
ALTER TABLE public.readings ALTER COLUMN station DROP NOT NULL;
UPDATE public.readings SET station = 'gone ' || id % 3 WHERE id % 10 = 0;
"""
KEY: dict[str, Any] = {
    "table": "readings",
    "columns": ["station"],
    "references": {"table": "stations"},
    "name": "of_station",
}
VALID = "SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conname = '{}'"
PLAIN = ("FOREIGN KEY (station) REFERENCES stations(name)", True)
OF_DAY = "FOREIGN KEY (number, day) REFERENCES days(id, day) MATCH FULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED"
KEPT = "SELECT count(*) FROM pg_class WHERE relnamespace = 'schema_change_retired'::regnamespace AND relkind = 'r'"

CASES = [
    Case(
        "add_foreign_key",
        READINGS + STATIONS,
        ({"add_foreign_key": KEY},),
        {VALID.format("of_station"): [PLAIN]},
        TRAFFIC,
    ),
    Case(
        "add_foreign_key_deleting_orphans",
        READINGS + STATIONS + ORPHANS,
        ({"add_foreign_key": {**KEY, "orphans": "delete", "on_delete": "cascade"}},),
        {
            VALID.format("of_station"): [(f"{PLAIN[0]} ON DELETE CASCADE", True)],
            KEPT: [(1,)],
            "SELECT count(*) FROM public.readings WHERE station LIKE 'gone%'": [(0,)],
        },
        TRAFFIC,
    ),
    Case(
        "add_foreign_key_setting_orphans_null",
        READINGS + STATIONS + ORPHANS,
        ({"add_foreign_key": {**KEY, "orphans": "set_null", "on_delete": "set_null"}},),
        {
            VALID.format("of_station"): [(f"{PLAIN[0]} ON DELETE SET NULL", True)],
            KEPT: [(1,)],
            "SELECT count(*) > 0 FROM public.readings WHERE station IS NULL": [(True,)],
        },
        TRAFFIC,
    ),
    Case(
        "add_foreign_key_with_placeholders",
        READINGS + STATIONS + ORPHANS,
        ({"add_foreign_key": {**KEY, "orphans": {"placeholder": {"title": "'? ' || readings.station"}}}},),
        {
            VALID.format("of_station"): [PLAIN],
            KEPT: [(0,)],
            "SELECT name, title FROM public.stations WHERE name LIKE 'gone%' ORDER BY 1": [
                (f"gone {n}", f"? gone {n}") for n in range(3)
            ],
        },
        TRAFFIC,
    ),
    Case(
        "add_foreign_key_replacing_one",
        READINGS
        + STATIONS
        + "ALTER TABLE public.readings ADD CONSTRAINT of_station FOREIGN KEY (station) REFERENCES public.stations"
        " ON UPDATE CASCADE DEFERRABLE; COMMENT ON CONSTRAINT of_station ON public.readings IS 'where';",
        ({"add_foreign_key": {"table": "readings", "replace": "of_station", "on_delete": "cascade"}},),
        {
            VALID.format("of_station"): [(f"{PLAIN[0]} ON UPDATE CASCADE ON DELETE CASCADE DEFERRABLE", True)],
            "SELECT obj_description(oid) FROM pg_constraint WHERE conname = 'of_station'": [("where",)],
        },
        TRAFFIC,
    ),
    Case(
        "add_foreign_key_composite_nasty_names",
        NASTY
        + 'CREATE TABLE "odd place"."The Parent" ("A b" integer, "user" text, UNIQUE ("user", "A b"));'
        + 'INSERT INTO "odd place"."The Parent" SELECT g, \'x\' || g FROM generate_series(1, 40) AS g;'
        + 'ALTER TABLE "odd place"."order" ADD PRIMARY KEY ("from");',
        (
            {
                "add_foreign_key": {
                    "table": '"odd place"."order"',
                    "columns": ["Select", "from"],
                    "references": {"table": '"odd place"."The Parent"', "columns": ["A b", "user"]},
                    "name": 'to "The Parent" %s {}',
                    "orphans": "set_null",
                }
            },
        ),
        {"SELECT convalidated FROM pg_constraint WHERE conname LIKE 'to \"The%'": [(True,)], KEPT: [(1,)]},
        ('INSERT INTO "odd place"."order" ("Select", "from") VALUES (1, \'x1\') ON CONFLICT DO NOTHING',),
    ),
    Case(
        "add_foreign_key_of_a_partitioned_table",
        STATIONS + "CREATE TABLE public.parts (id integer, day date, station text) PARTITION BY RANGE (day);"
        "CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        "CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')"
        " PARTITION BY HASH (id);"
        "CREATE TABLE public.parts_2a PARTITION OF public.parts_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE public.parts_2b PARTITION OF public.parts_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        "INSERT INTO public.parts SELECT g, '2024-12-01'::date + g, 'S' || g % 7 FROM generate_series(1, 90) AS g;",
        ({"add_foreign_key": {**KEY, "table": "parts"}},),
        {"SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated AND conname ~ 'station'": [(5,)]},
        ("INSERT INTO public.parts VALUES (100, '2024-05-05', 'S1')",),
    ),
    Case(
        "add_foreign_key_to_a_partitioned_table",
        "CREATE TABLE public.days (id integer, day date, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);"
        "CREATE TABLE public.days_1 PARTITION OF public.days FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        "CREATE TABLE public.events (id bigint PRIMARY KEY, day date, number bigint);"
        "INSERT INTO public.days SELECT g, '2024-01-01'::date + g FROM generate_series(1, 30) AS g;"
        "INSERT INTO public.events SELECT g, '2024-01-01'::date + g, g FROM generate_series(1, 40) AS g;",
        (
            {
                "add_foreign_key": {
                    "table": "events",
                    "columns": ["number", "day"],
                    "references": {"table": "days", "columns": ["id", "day"]},
                    "name": "of_day",
                    "match": "full",
                    "orphans": "delete",
                    "on_update": "cascade",
                    "deferrable": "initially_deferred",
                }
            },
        ),
        {
            VALID.format("of_day"): [(OF_DAY, True)],
            "SELECT count(*) FROM public.events": [(30,)],
        },
        ("UPDATE public.events SET number = number, day = day WHERE id = 7",),
    ),
    Case(
        "add_foreign_key_to_itself",
        "CREATE TABLE public.tree (id integer PRIMARY KEY, above integer);"
        "INSERT INTO public.tree SELECT g, CASE WHEN g % 9 = 0 THEN g + 1000 WHEN g > 1 THEN g / 2 END"
        " FROM generate_series(1, 100) AS g;",
        (
            {
                "add_foreign_key": {
                    "table": "tree",
                    "columns": ["above"],
                    "references": {"table": "tree"},
                    "orphans": "set_null",
                }
            },
        ),
        {"SELECT convalidated FROM pg_constraint WHERE conname = 'tree_above_fkey'": [(True,)]},
        ("INSERT INTO public.tree VALUES (101, 7)",),
    ),
    Case(
        "add_foreign_key_of_a_new_column_to_a_new_key",
        READINGS + STATIONS + "ALTER TABLE public.stations ADD COLUMN number bigint;"
        "UPDATE public.stations SET number = nullif(ltrim(name, 'S'), 'new')::int;",
        (
            {"add_unique": {"table": "stations", "columns": ["number"], "name": "numbered"}},
            {
                "add_column": {
                    "table": "readings",
                    "column": {"name": "station_number", "type": "integer"},
                    "fill": "(SELECT s.number FROM stations AS s WHERE s.name = readings.station)",
                }
            },
            {"create_index": {"table": "readings", "columns": ["station_number"]}},
            {
                "add_foreign_key": {
                    "table": "readings",
                    "columns": ["station_number"],
                    "references": {"table": "stations", "columns": ["number"]},
                }
            },
        ),
        {"SELECT convalidated FROM pg_constraint WHERE conname = 'readings_station_number_fkey'": [(True,)]},
        TRAFFIC,
    ),
    Case(
        "add_foreign_key_setting_two_columns_null",
        "CREATE TABLE public.days (id integer, day date, PRIMARY KEY (day, id));"
        "CREATE TABLE public.events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), day date, number integer);"
        "INSERT INTO public.days SELECT g, '2024-01-01'::date + g FROM generate_series(1, 30) AS g;"
        "INSERT INTO public.events (day, number) SELECT '2024-01-01'::date + g, g FROM generate_series(1, 40) AS g;",
        (
            {
                "add_foreign_key": {
                    "table": "events",
                    "columns": ["number", "day"],
                    "references": {"table": "days", "columns": ["id", "day"]},
                    "match": "full",
                    "orphans": "set_null",
                }
            },
        ),
        {"SELECT count(*) FROM public.events WHERE number IS NULL AND day IS NULL": [(10,)], KEPT: [(0,)]},
        ("UPDATE public.events SET number = number WHERE day = '2024-01-05'",),
    ),
]
