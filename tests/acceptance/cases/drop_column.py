"""Cases of ``drop_column``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY
from tests.acceptance.cases.add_column import READINGS

#: Of an application that does not know the column any more: the old one's statements fail, which dropping means.
TRAFFIC = (
    "INSERT INTO public.readings (id, station) VALUES (1001, 'new')",
    "UPDATE public.readings SET note = 'x' WHERE id = 7",
    "DELETE FROM public.readings WHERE id = 8",
)
KEPT = "SELECT kind, table_name, column_name FROM schema_change.retired"

CASES = [
    Case(
        "drop_column",
        READINGS + "CREATE INDEX by_celsius ON public.readings (celsius);"
        "COMMENT ON COLUMN public.readings.celsius IS 'measured'; GRANT SELECT (celsius) ON public.readings TO PUBLIC;",
        ({"drop_column": {"table": "readings", "column": "celsius"}},),
        {KEPT: [("column", "readings", "celsius")]},
        TRAFFIC,
    ),
    Case(
        "drop_column_with_down",
        READINGS + "ALTER TABLE public.readings ADD COLUMN kind text NOT NULL DEFAULT 'old' CHECK (kind IS NOT NULL);"
        "ALTER TABLE public.readings ALTER COLUMN kind DROP DEFAULT;",
        ({"drop_column": {"table": "readings", "column": "kind", "down": "'made up for ' || station"}},),
        {KEPT: [("column", "readings", "kind")]},
    ),
    Case(
        "drop_column_foreign_key",
        READINGS + "CREATE TABLE public.places (name text PRIMARY KEY); INSERT INTO public.places VALUES ('n1');"
        "ALTER TABLE public.readings ADD COLUMN place text REFERENCES public.places;"
        "UPDATE public.readings SET place = 'n1' WHERE note = 'n1';"
        "CREATE INDEX both_of_them ON public.readings (place, station);",
        ({"drop_column": {"table": "readings", "column": "place", "also_drops": ["both_of_them"]}},),
        {
            KEPT: [("column", "readings", "place")],
            "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace": [(0,)],
        },
        TRAFFIC,
    ),
    Case(
        "drop_column_nasty_names_without_a_key",
        NASTY,
        ({"drop_column": {"table": '"odd place"."order"', "column": "Select"}},),
        {KEPT: [("column", "order", "Select")]},
        ('INSERT INTO "odd place"."order" ("from") VALUES (NULL)',),
    ),
]
