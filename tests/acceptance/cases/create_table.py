"""Cases of ``create_table``."""

from __future__ import annotations

from tests.acceptance.cases import Case
from tests.acceptance.cases.add_column import READINGS, TRAFFIC

LONG = "a_long_name_that_has_exactly_sixty_three_bytes_as_postgres_perm"

CASES = [
    Case(
        "create_table",
        READINGS,
        (
            {
                "create_table": {
                    "table": "notes",
                    "comment": "what was seen",
                    "columns": [
                        {"name": "id", "type": "serial"},
                        {"name": "reading", "type": "integer", "nullable": False},
                        {"name": "note", "type": "text", "default": "'none'", "comment": "free text"},
                    ],
                    "primary_key": ["id"],
                    "unique": [["reading", "note"]],
                    "checks": ["note <> ''"],
                    "foreign_keys": [
                        {"columns": ["reading"], "references": {"table": "readings"}, "on_delete": "cascade"}
                    ],
                    "indexes": [{"columns": ["lower(note)"]}],
                }
            },
            {"create_index": {"table": "notes", "columns": ["reading"]}},
        ),
        {"SELECT count(*) FROM pg_indexes WHERE tablename = 'notes'": [(4,)]},
        TRAFFIC,
    ),
    Case(
        "create_table_nasty_names",
        'CREATE SCHEMA "odd place";',
        (
            {
                "create_table": {
                    "table": '"odd place"."Table ""x"""',
                    "columns": [
                        {"name": "Select", "type": "uuid", "default": "gen_random_uuid()"},
                        {"name": LONG, "type": "text[]"},
                    ],
                    "primary_key": ["Select"],
                    "unique": [[LONG]],
                    "checks": ['"Select" IS NOT NULL', f"cardinality({LONG}) > 0"],
                }
            },
        ),
        {"SELECT count(*) FROM pg_indexes WHERE schemaname = 'odd place'": [(2,)]},
    ),
]
