"""Cases of ``set_default`` and ``drop_default``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

DEFAULT = "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = '{}'::regclass"

CASES = [
    Case(
        "set_default",
        READINGS + "ALTER TABLE public.readings ALTER COLUMN note SET DEFAULT 'it''s' || 1;",
        ({"set_default": {"table": "readings", "column": "note", "default": "'none'"}},),
        {DEFAULT.format("public.readings"): [("'none'::text",)]},
        # A row that is inserted without the column gets the default of its time, so this one says what it wants.
        ("INSERT INTO public.readings VALUES (1001, 'new', 1.5, 'mine')", *TRAFFIC[1:]),
    ),
    Case(
        "set_default_of_a_sequence_nasty_names",
        NASTY + 'CREATE SEQUENCE "odd place"."My seq";',
        (
            {
                "set_default": {
                    "table": '"odd place"."order"',
                    "column": "Select",
                    "default": 'nextval(\'"odd place"."My seq"\')',
                }
            },
        ),
        {DEFAULT.format('"odd place"."order"'): [('nextval(\'"odd place"."My seq"\'::regclass)',)]},
        ('INSERT INTO "odd place"."order" ("Select", "from") VALUES (99, NULL)',),
    ),
    Case(
        "drop_default_of_a_serial",
        "CREATE TABLE public.counted (id serial, note text); INSERT INTO public.counted (note) VALUES ('a'), ('b');",
        ({"drop_default": {"table": "counted", "column": "id"}},),
        {
            DEFAULT.format("public.counted"): [],
            "SELECT pg_get_serial_sequence('public.counted', 'id')": [("public.counted_id_seq",)],
        },
        ("INSERT INTO public.counted (id, note) VALUES (9, 'c')",),
    ),
]
