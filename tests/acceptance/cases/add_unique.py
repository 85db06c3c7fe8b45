"""Cases of ``add_unique``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_check import NASTY
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

KEY = "SELECT contype::text, conindid::regclass::text FROM pg_constraint WHERE conname = '{}'"

CASES = [
    Case(
        "add_unique",
        READINGS,
        ({"add_unique": {"table": "readings", "columns": ["station", "id"], "include": ["celsius"]}},),
        {KEY.format("readings_station_id_key"): [("u", "readings_station_id_key")]},
        TRAFFIC,
    ),
    Case(
        "add_unique_nulls_not_distinct_nasty_names",
        NASTY,
        (
            {
                "add_unique": {
                    "table": '"odd place"."order"',
                    "columns": ["from", "Select"],
                    "name": 'A key, "quoted" %s {}',
                    "nulls_distinct": False,
                }
            },
        ),
        {
            "SELECT i.indnullsnotdistinct FROM pg_index AS i JOIN pg_constraint AS c ON c.conindid = i.indexrelid"
            " WHERE c.conname LIKE 'A key%'": [(True,)]
        },
    ),
]
