"""Cases of ``add_column``."""

from __future__ import annotations

from tests.acceptance.cases import Case

READINGS = """
CREATE TABLE public.readings (id integer PRIMARY KEY, station text NOT NULL, celsius numeric(5,2), note text);
INSERT INTO public.readings SELECT g, 'S' || g % 7, (g % 400) / 10.0 - 15, NULLIF('n' || g % 3, 'n0')
FROM generate_series(1, 300) AS g;
"""
TRAFFIC = (
    "INSERT INTO public.readings (id, station, celsius) VALUES (1001, 'new', 1.5)",
    "UPDATE public.readings SET celsius = 2 WHERE id = 7",
    "DELETE FROM public.readings WHERE id = 8",
    "SELECT id, station, celsius, note FROM public.readings WHERE id < 10",
)

CASES = [
    Case(
        "add_column_nullable",
        READINGS,
        ({"add_column": {"table": "readings", "column": {"name": "remark", "type": "text", "comment": "why"}}},),
        {"SELECT count(remark), count(*) FROM public.readings": [(0, 300)]},
        TRAFFIC,
    ),
    Case(
        "add_column_filled_not_null",
        READINGS,
        (
            {
                "add_column": {
                    "table": "readings",
                    "column": {"name": "fahrenheit", "type": "numeric(6,2)", "nullable": False},
                    "fill": "coalesce(readings.celsius * 9 / 5 + 32, 0)",
                }
            },
        ),
        {
            "SELECT count(*) FROM public.readings WHERE fahrenheit IS DISTINCT FROM coalesce(celsius * 9 / 5 + 32, 0)": [
                (0,)
            ]
        },
        TRAFFIC,
    ),
]
