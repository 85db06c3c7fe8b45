"""Cases of ``drop_table``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

NOTES = """
CREATE TABLE public.notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reading integer CONSTRAINT about REFERENCES public.readings ON DELETE CASCADE,
    parent bigint REFERENCES public.notes,
    note text UNIQUE CHECK (note <> '')
);
COMMENT ON CONSTRAINT about ON public.notes IS 'what it is about';
GRANT SELECT ON public.notes TO PUBLIC;
INSERT INTO public.notes (reading, note) SELECT g, 'note ' || g FROM generate_series(20, 60) AS g;
"""
KEPT = "SELECT kind, table_name FROM schema_change.retired ORDER BY id"

CASES = [
    Case(
        "drop_table",
        READINGS + NOTES,
        ({"drop_table": {"table": "notes"}},),
        {"SELECT to_regclass('public.notes')::text": [(None,)], KEPT: [("table", "notes")]},
        TRAFFIC,
    ),
    Case(
        "drop_table_with_what_it_refers_to",
        READINGS + NOTES,
        ({"drop_table": {"table": "notes"}}, {"drop_table": {"table": "readings"}}),
        {KEPT: [("table", "notes"), ("table", "readings")]},
    ),
    Case(
        "drop_table_nasty_names",
        NASTY,
        ({"drop_table": {"table": '"odd place"."order"'}},),
        {KEPT: [("table", "order")]},
    ),
    Case(
        "drop_table_partitioned",
        "CREATE TABLE public.parts (id integer, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);"
        "CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        "INSERT INTO public.parts SELECT g, '2024-01-01'::date + g FROM generate_series(1, 50) AS g;",
        ({"drop_table": {"table": "parts"}},),
        {KEPT: [("table", "parts")]},
    ),
]
