"""Cases of ``drop_index``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_column import PARTED, READINGS, TRAFFIC
from tests.acceptance.cases.create_index import PARTED_TRAFFIC

CASES = [
    Case(
        "drop_index",
        READINGS + 'CREATE INDEX "Odd INDEX" ON public.readings (station); COMMENT ON INDEX "Odd INDEX" IS \'why\';',
        ({"drop_index": {"index": '"Odd INDEX"'}},),
        {"SELECT to_regclass('\"Odd INDEX\"')": [(None,)]},
        TRAFFIC,
    ),
    Case(
        "drop_index_unique",
        READINGS + "CREATE UNIQUE INDEX once ON public.readings (station, id);",
        ({"drop_index": {"index": "once"}},),
        {"SELECT to_regclass('public.once')": [(None,)]},
        TRAFFIC,
    ),
    Case(
        "drop_index_partitioned",
        PARTED + 'CREATE INDEX "by order" ON "My Schema"."Event" ("order");',
        ({"drop_index": {"index": '"My Schema"."by order"'}},),
        {"SELECT count(*) FROM pg_indexes WHERE schemaname = 'My Schema' AND indexname NOT LIKE '%_pkey'": [(0,)]},
        PARTED_TRAFFIC,
    ),
]
