"""Cases of ``split_table``."""

from __future__ import annotations

from tests.acceptance.cases import Case

FEATURES = """
CREATE TABLE public.features (
    id integer PRIMARY KEY, station_id varchar(10) NOT NULL, year integer NOT NULL, quarter integer NOT NULL,
    station_name varchar(255) NOT NULL, station_state varchar(100), station_lat numeric(8,5), temp numeric(5,2),
    UNIQUE (station_id, year, quarter)
);
INSERT INTO public.features
SELECT row_number() OVER (), 'S' || s, y, q, 'Station ' || s, NULLIF('L' || s % 3, 'L0'), s / 7.0, s
FROM generate_series(1, 12) AS s, generate_series(2001, 2006) AS y, generate_series(1, 4) AS q;
"""
TRAFFIC = (
    "UPDATE public.features SET station_state = 'X', temp = 4 WHERE station_id = 'S3'",
    "INSERT INTO public.features VALUES (1001, 'S4', 1999, 1, 'Station 4', 'L1', 4 / 7.0)",
    "INSERT INTO public.features (id, station_id, year, quarter, station_name) VALUES (1002, 'N', 1999, 1, 'New')",
    "UPDATE public.features SET year = 1998 WHERE id = 30",
    "DELETE FROM public.features WHERE station_id = 'S5' AND year < 2004",
    "SELECT station_name, station_state FROM public.features WHERE id < 10",
)
SPLIT = {
    "table": "features",
    "into": {
        "table": "station",
        "key": ["station_id"],
        "columns": [
            {"name": "name", "from": "station_name", "nullable": False},
            {"name": "state", "from": "station_state"},
            {"name": "latitude", "from": "station_lat"},
            {"name": "start_date", "from": "min(make_date(year, quarter * 3 - 2, 1))", "type": "date"},
            {"name": "is_active", "type": "boolean", "default": "true"},
        ],
        "indexes": [{"columns": ["state"]}],
        "comment": "Where it is measured",
    },
}
NASTY = """
CREATE SCHEMA "Other schema";
CREATE TABLE "Other schema"."order" (
    "Key" text COLLATE "C", "select" uuid, "a ""quoted"" name that takes sixty-three bytes, all of them" json,
    tags text[] NOT NULL DEFAULT '{none}'
);
INSERT INTO "Other schema"."order"
SELECT 'k' || g % 5, md5((g % 3)::text)::uuid, '{"a": 1}', '{x,y}' FROM generate_series(1, 200) AS g;
"""
NASTY_SPLIT = {
    "table": '"Other schema"."order"',
    "into": {
        "table": '"Other schema"."GROUP"',
        "key": ["Key", "select"],
        "columns": [
            {"name": "from", "from": 'a "quoted" name that takes sixty-three bytes, all of them'},
            {"name": "tags", "from": "tags"},
        ],
    },
    "conflicts": {"latest": '"order"."Key"'},
}

CASES = [
    Case(
        "split_table",
        FEATURES,
        ({"split_table": SPLIT},),
        {
            "SELECT count(*), bool_and(is_active), count(start_date) FROM public.station WHERE station_id LIKE 'S%'": [
                (12, True, 12)
            ],
            "SELECT count(*) FROM public.features AS f WHERE NOT EXISTS"
            " (SELECT FROM public.station AS s WHERE s.station_id = f.station_id)": [(0,)],
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.features'::regclass AND attnum > 0"
            " AND NOT attisdropped": [(5,)],
        },
        TRAFFIC,
    ),
    Case(
        "split_table_nasty_names",
        NASTY,
        ({"split_table": NASTY_SPLIT},),
        {'SELECT count(*), min(tags::text) FROM "Other schema"."GROUP" WHERE tags <> \'{none}\'': [(15, "{x,y}")]},
        (
            'INSERT INTO "Other schema"."order" ("Key", "select") VALUES (NULL, NULL)',
            'DELETE FROM "Other schema"."order" WHERE "Key" IS NULL',
        ),
    ),
]
