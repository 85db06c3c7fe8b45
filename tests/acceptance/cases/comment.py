"""Cases of ``comment``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

CASES = [
    Case(
        "comment",
        READINGS + "COMMENT ON COLUMN public.readings.celsius IS 'before';"
        " CREATE FUNCTION public.\"odd name\"(a integer) RETURNS integer LANGUAGE sql AS 'SELECT a';",
        (
            {"comment": {"table": "readings", "column": "celsius", "text": "it's °C"}},
            {"comment": {"table": "readings", "text": "what was read"}},
            {"comment": {"function": '"odd name"(int)', "text": "odd"}},
        ),
        {
            "SELECT col_description('public.readings'::regclass, 3)": [("it's °C",)],
            "SELECT obj_description('public.\"odd name\"(integer)'::regprocedure)": [("odd",)],
        },
        TRAFFIC,
    ),
]
