"""Cases of ``change_primary_key``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

DETAILS = """
ALTER TABLE public.readings ADD COLUMN code uuid DEFAULT gen_random_uuid();
COMMENT ON CONSTRAINT readings_pkey ON public.readings IS 'the key';
COMMENT ON INDEX public.readings_pkey IS 'its index';
ALTER INDEX public.readings_pkey SET (fillfactor = 70);
ALTER TABLE public.readings CLUSTER ON readings_pkey;
"""
KEYS = (
    "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE conrelid = '{}'::regclass AND contype IN ('p', 'u') ORDER BY 1"
)

CASES = [
    Case(
        "change_primary_key",
        READINGS + DETAILS,
        ({"change_primary_key": {"table": "readings", "columns": ["code"]}},),
        {
            KEYS.format("public.readings"): [
                ("readings_id_key", "UNIQUE (id)"),
                ("readings_pkey", "PRIMARY KEY (code)"),
            ],
            "SELECT obj_description(oid) FROM pg_constraint WHERE conname = 'readings_pkey'": [("the key",)],
        },
        (
            "INSERT INTO public.readings VALUES (1001, 'new', 1, '', '00000000-0000-0000-0000-000000000001')",
            *TRAFFIC[1:],
        ),
    ),
    Case(
        "change_primary_key_and_drop_the_old_nasty_names",
        NASTY + 'ALTER TABLE "odd place"."order" ADD CONSTRAINT "old KEY" PRIMARY KEY ("from") INCLUDE ("Select");',
        (
            {
                "change_primary_key": {
                    "table": '"odd place"."order"',
                    "columns": ["Select", "from"],
                    "name": "new KEY",
                    "old": "drop",
                }
            },
        ),
        {
            KEYS.format('"odd place"."order"'): [("new KEY", 'PRIMARY KEY ("Select", "from")')],
            'SELECT count(*) FROM pg_index WHERE indrelid = \'"odd place"."order"\'::regclass': [(1,)],
        },
        ('UPDATE "odd place"."order" SET "Select" = "Select" + 1000 WHERE "from" = \'x3\'',),
    ),
]
