"""Cases of ``enum_add_value`` and ``create_extension``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

CASES = [
    Case(
        "enum_add_value",
        READINGS + "CREATE TYPE public.\"Mood's\" AS ENUM ('it''s sad', 'ok');",
        ({"enum_add_value": {"type": '"Mood\'s"', "value": "it's so so", "after": "it's sad"}},),
        {'SELECT enum_range(NULL::public."Mood\'s")::text[]': [(["it's sad", "it's so so", "ok"],)]},
        TRAFFIC,
    ),
    Case(
        "create_extension",
        READINGS + 'CREATE SCHEMA "My Schema";',
        ({"create_extension": {"name": "citext"}}, {"create_extension": {"name": "pg_trgm", "into": "My Schema"}}),
        {"SELECT count(*) FROM pg_extension WHERE extname IN ('citext', 'pg_trgm')": [(2,)]},
        TRAFFIC,
    ),
]
