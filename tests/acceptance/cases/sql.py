"""Cases of raw scripts."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

CASES = [
    Case(
        "sql_in_every_phase",
        READINGS,
        (),
        {
            "SELECT obj_description('public.readings'::regclass)": [("switched",)],
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.readings'::regclass AND attname = 'extra'": [
                (1,)
            ],
            "SELECT to_regclass('public.old_view')": [(None,)],
        },
        TRAFFIC,
        scripts={
            "deploy": "ALTER TABLE readings ADD COLUMN extra text; CREATE VIEW old_view AS SELECT 1 AS one;",
            "cutover": "COMMENT ON TABLE readings IS 'switched';",
            "contract": "DROP VIEW IF EXISTS old_view;",
            "revert": "DROP VIEW IF EXISTS old_view; ALTER TABLE readings DROP COLUMN IF EXISTS extra;"
            " COMMENT ON TABLE readings IS NULL;",
            "verify": "SELECT extra FROM readings LIMIT 1;",
        },
    ),
]
