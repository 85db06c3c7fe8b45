"""Cases of ``create_view``, ``replace_view`` and ``drop_view``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

VIEW = (
    READINGS
    + """
CREATE SCHEMA "My Schema";
CREATE VIEW "My Schema"."user" AS SELECT id, station AS "order" FROM public.readings;
COMMENT ON VIEW "My Schema"."user" IS 'it''s a view';
"""
)
READ = ('SELECT id, "order" FROM "My Schema"."user" WHERE id < 10', *TRAFFIC)

CASES = [
    Case(
        "create_view",
        READINGS,
        (
            {"create_view": {"view": '"Warm ""ones"""', "query": "SELECT id FROM readings WHERE celsius > 100"}},
            {
                "create_view": {
                    "view": "totals",
                    "query": "SELECT count(*) FROM pg_catalog.pg_class",
                    "materialized": True,
                }
            },
        ),
        {
            'SELECT count(*) FROM public."Warm ""ones"""': [(0,)],
            "SELECT relkind::text FROM pg_class WHERE relname = 'totals'": [("m",)],
        },
        TRAFFIC,
    ),
    Case(
        "replace_view_in_place",
        VIEW,
        (
            {
                "replace_view": {
                    "view": '"My Schema"."user"',
                    "query": 'SELECT id, station AS "order" FROM readings WHERE id > 0',
                }
            },
        ),
        {'SELECT obj_description(\'"My Schema"."user"\'::regclass)': [("it's a view",)]},
        READ,
    ),
    Case(
        "replace_view_with_more_columns",
        VIEW,
        (
            {
                "replace_view": {
                    "view": '"My Schema"."user"',
                    "query": 'SELECT id, celsius, station AS "order" FROM readings',
                }
            },
        ),
        {'SELECT obj_description(\'"My Schema"."user"\'::regclass)': [("it's a view",)]},
        READ,
    ),
    Case(
        "drop_view",
        VIEW,
        ({"drop_view": {"view": '"My Schema"."user"'}},),
        {'SELECT to_regclass(\'"My Schema"."user"\')': [(None,)]},
        READ,
    ),
]
