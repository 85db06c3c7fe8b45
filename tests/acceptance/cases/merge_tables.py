"""Cases of ``merge_tables``."""

from __future__ import annotations

from tests.acceptance.cases import Case

READINGS = """
CREATE TABLE public.station (code text PRIMARY KEY, name text NOT NULL, state text, info json);
CREATE TABLE public.reading (id integer PRIMARY KEY, station text REFERENCES public.station, v integer);
INSERT INTO public.station SELECT 'S' || g, 'Station ' || g, NULLIF('L' || g % 3, 'L0'), '{"a": 1}'
FROM generate_series(1, 10) AS g;
INSERT INTO public.reading SELECT g, 'S' || (g % 10 + 1), g FROM generate_series(1, 300) AS g;
"""
TRAFFIC = (
    "UPDATE public.station SET name = 'Renamed' WHERE code = 'S3'",
    "INSERT INTO public.station (code, name) VALUES ('N', 'New')",
    "INSERT INTO public.reading (id, station, v) VALUES (1001, 'N', 1), (1002, NULL, 2), (1003, 'S4', 3)",
    "UPDATE public.reading SET station = 'S5' WHERE id = 7",
    "DELETE FROM public.reading WHERE id BETWEEN 20 AND 30",
)
NASTY = """
CREATE SCHEMA "Other schema";
CREATE TABLE "Other schema"."Look up" (a integer, "B" uuid, "the ""va""lue" varchar(20), PRIMARY KEY ("B", a));
CREATE TABLE public."user" ("A" integer, b uuid, "order" text);
INSERT INTO "Other schema"."Look up" SELECT g, md5(g::text)::uuid, 'v' || g FROM generate_series(1, 20) AS g;
INSERT INTO public."user" SELECT g % 30, md5((g % 30)::text)::uuid FROM generate_series(1, 200) AS g;
"""
NASTY_MERGE = {
    "from": '"Other schema"."Look up"',
    "into": '"user"',
    "on": {"A": "a", "b": "B"},
    "columns": [{"from": 'the "va"lue', "name": "select"}],
}

CASES = [
    Case(
        "merge_tables",
        READINGS,
        ({"merge_tables": {"from": "station", "into": "reading", "on": {"station": "code"}}},),
        {
            "SELECT name, state, info::text FROM public.reading WHERE id = 10": [("Station 1", "L1", '{"a": 1}')],
            "SELECT count(*) FROM public.reading WHERE station IS NOT NULL AND name IS NULL": [(0,)],
            "SELECT to_regclass('public.station') IS NULL": [(True,)],
        },
        TRAFFIC,
    ),
    Case(
        "merge_tables_nasty_names",
        NASTY,
        ({"merge_tables": NASTY_MERGE},),
        {'SELECT max("select"), count(*) FROM public."user" WHERE "A" = 5': [("v5", 7)]},
        (
            'UPDATE "Other schema"."Look up" SET "the ""va""lue" = \'w\' WHERE a = 6',
            'INSERT INTO public."user" ("A", b) VALUES (7, md5(\'7\')::uuid)',
            'DELETE FROM "Other schema"."Look up" WHERE a = 8',
        ),
    ),
]
