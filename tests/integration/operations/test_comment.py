from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.database import Connection
from tests.bench import Bench
from tests.integration.operations.running import comes_back, lands
from tests.integration.stages.test_run import Rows

SETUP = """
CREATE SCHEMA "My Schema";
COMMENT ON SCHEMA "My Schema" IS E'odd\\ngrants: none\\nso';
CREATE TYPE "My Schema".mood AS ENUM ('sad', 'ok');
COMMENT ON TYPE "My Schema".mood IS 'how it is';
CREATE DOMAIN positive AS integer CHECK (value > 0);
CREATE SEQUENCE ticket;
CREATE FUNCTION "My Schema"."user"(a integer, "order" "My Schema".mood) RETURNS int LANGUAGE sql AS 'SELECT 1';
COMMENT ON FUNCTION "My Schema"."user" IS E'first\\nsecond';
CREATE VIEW warm AS SELECT id, celsius FROM readings;
CREATE MATERIALIZED VIEW coldest AS SELECT min(celsius) AS celsius FROM readings;
ALTER TABLE readings ADD CONSTRAINT "check" CHECK (celsius < 100);
COMMENT ON CONSTRAINT "check" ON readings IS 'never boils';
CREATE TRIGGER "Odd trigger" BEFORE UPDATE ON readings FOR EACH ROW EXECUTE FUNCTION
suppress_redundant_updates_trigger();
COMMENT ON COLUMN readings.celsius IS '°C';
"""
TARGETS: list[dict[str, Any]] = [
    {"table": "readings"},
    {"table": "readings", "column": "celsius"},
    {"table": "readings", "constraint": "check"},
    {"table": "readings", "trigger": "Odd trigger"},
    {"table": "warm"},
    {"table": "warm", "column": "celsius"},
    {"table": "coldest"},
    {"index": "readings_pkey"},
    {"function": '"My Schema"."user"(int, "My Schema".mood)'},
    {"type": '"My Schema".mood'},
    {"type": "positive"},
    {"sequence": "public.ticket"},
    {"schema_name": "My Schema"},
]


def test_every_comment_comes_and_goes(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute(SETUP)
    operations = [{"comment": {**target, "text": f"it's \\ number {n}"}} for n, target in enumerate(TARGETS)]
    removed = [{"comment": {**TARGETS[1], "text": None}}]
    comes_back(bench, [*operations, *removed])
    lands(bench, [*operations, *removed])
    assert rows("SELECT count(*) FROM pg_description WHERE left(description, 4) = 'it''s'") == [(len(TARGETS) - 1,)]
    assert rows("SELECT col_description('readings'::regclass, 3)") == [(None,)]


@pytest.mark.parametrize("text", ["°F", None])
def test_a_comment_waits_for_what_the_change_makes(bench: Bench, rows: Rows, text: str | None) -> None:
    column = {"name": "fahrenheit", "type": "numeric(6,2)", "comment": "soon another"}
    operations: list[dict[str, Any]] = [
        {"add_column": {"table": "readings", "column": column, "fill": "celsius * 1.8 + 32"}},
        {"create_index": {"table": "readings", "columns": ["fahrenheit"], "name": "by_f"}},
        {"comment": {"index": "by_f", "text": "by temperature"}},
        {"comment": {"table": "readings", "column": "fahrenheit", "text": text}},
    ]
    lands(bench, operations)
    assert rows("SELECT obj_description('by_f'::regclass), col_description('readings'::regclass, 5)") == [
        ("by temperature", text)
    ]
