"""Cases of ``rename_table``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

USERS = """
CREATE TABLE public.notes (reading integer CONSTRAINT about REFERENCES public.readings ON DELETE CASCADE);
CREATE VIEW public.warm AS SELECT id, celsius FROM public.readings WHERE celsius > 20;
ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY about ON public.notes USING (EXISTS (SELECT FROM public.readings WHERE id = reading));
"""

CASES = [
    Case(
        "rename_table",
        READINGS + USERS,
        ({"rename_table": {"table": "readings", "to": "measures"}},),
        {
            "SELECT to_regclass('public.readings')::text": [(None,)],
            "SELECT count(*) > 0 FROM public.measures": [(True,)],
        },
        (
            *TRAFFIC,
            "INSERT INTO public.readings (id, station) VALUES (9, 'x') ON CONFLICT (id) DO UPDATE SET note = 'y'",
        ),
    ),
    Case(
        "rename_table_nasty_names_to_another_schema",
        NASTY + 'CREATE SCHEMA "other Place";',
        ({"rename_table": {"table": '"odd place"."order"', "to": '"other Place"."User ""x"""'}},),
        {'SELECT count(*) FROM "other Place"."User ""x"""': [(50,)]},
    ),
]
