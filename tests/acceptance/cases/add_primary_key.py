"""Cases of ``add_primary_key``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY

CASES = [
    Case(
        "add_primary_key_on_nullable_columns",
        "CREATE TABLE public.plain (tenant uuid, code text, note text);"
        "INSERT INTO public.plain SELECT gen_random_uuid(), 'c' || g FROM generate_series(1, 200) AS g;",
        ({"add_primary_key": {"table": "plain", "columns": ["tenant", "code"]}},),
        {
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'plain_pkey'": [
                ("plain_pkey", "PRIMARY KEY (tenant, code)")
            ]
        },
        (
            "INSERT INTO public.plain VALUES ('00000000-0000-0000-0000-000000000001', 'x')",
            "UPDATE public.plain SET note = 'n' WHERE code = 'c7'",
            "DELETE FROM public.plain WHERE code = 'c8'",
        ),
    ),
    Case(
        "add_primary_key_nasty_names",
        NASTY,
        ({"add_primary_key": {"table": '"odd place"."order"', "columns": ["Select"], "name": "THE key"}},),
        {"SELECT contype::text FROM pg_constraint WHERE conname = 'THE key'": [("p",)]},
        ('UPDATE "odd place"."order" SET "from" = NULL WHERE "Select" = 3',),
    ),
]
