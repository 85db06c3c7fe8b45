"""Cases of ``create_index``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_column import PARTED, READINGS, TRAFFIC

PARTED_TRAFFIC = (
    'INSERT INTO "My Schema"."Event" VALUES (1001, \'2024-03-03\')',
    'UPDATE "My Schema"."Event" SET "order" = "order" + 5000 WHERE "order" = 7',
    'SELECT count(*) FROM "My Schema"."Event" WHERE "order" < 10',
)

CASES = [
    Case(
        "create_index_partial_expression",
        READINGS,
        (
            {
                "create_index": {
                    "table": "readings",
                    "columns": ["lower(station)", "celsius DESC"],
                    "include": ["note"],
                    "where": "celsius > 0",
                    "name": 'Warm "ones"',
                }
            },
        ),
        {'SELECT indisvalid FROM pg_index WHERE indexrelid = \'"Warm ""ones"""\'::regclass': [(True,)]},
        TRAFFIC,
    ),
    Case(
        "create_index_partitioned",
        PARTED,
        ({"create_index": {"table": '"My Schema"."Event"', "columns": ["order"], "name": "by order"}},),
        {
            "SELECT count(*), bool_and(i.indisvalid) FROM pg_index AS i WHERE i.indexrelid IN"
            ' (SELECT t.relid FROM pg_partition_tree(\'"My Schema"."by order"\') AS t)': [(3, True)]
        },
        PARTED_TRAFFIC,
    ),
]
