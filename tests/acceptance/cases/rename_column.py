"""Cases of ``rename_column``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.change_type import KEYS, KEYS_TRAFFIC, PRICES, PRICES_TRAFFIC

LONG = "ä new name with as many bytes as a name may have, and ?!%s: é"

CASES = [
    Case(
        "rename_column",
        PRICES,
        ({"rename_column": {"table": "prices", "column": "cents", "to": "price"}},),
        {
            "SELECT price FROM public.prices WHERE id = 3": [(21,)],
            "SELECT cents FROM public.cheap WHERE id = 3": [(21,)],
        },
        PRICES_TRAFFIC,
    ),
    Case(
        "rename_column_of_a_key",
        KEYS,
        ({"rename_column": {"table": '"My Shop"."Orders"', "column": "select", "to": LONG}},),
        {f'SELECT count("{LONG}") FROM "My Shop"."Orders"': [(300,)]},
        KEYS_TRAFFIC,
    ),
]
