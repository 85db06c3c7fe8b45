"""Another primary key: the old columns stay unique, and all comes back as it was."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.bench import Bench
from tests.integration.operations.stopping import stopped
from tests.integration.stages.test_hardening import FAST, Rows, forward, start

CHANGE: dict[str, Any] = {"change_primary_key": {"table": "readings", "columns": ["station", "id"]}}
UPSERT = (
    "INSERT INTO readings (id, station, note) OVERRIDING SYSTEM VALUE VALUES (1, 'S1', 'upserted')"
    " ON CONFLICT (id) DO UPDATE SET note = excluded.note"
)


def test_upserts_by_the_old_key_work_at_any_time(bench: Bench, rows: Rows) -> None:
    run = start(bench, CHANGE, **FAST)
    for stage in ("migrate", "cutover", "validate", "contract", "rollback"):
        forward(run, to=stage)
        rows(UPSERT)
    assert rows("SELECT count(*) FROM readings WHERE note = 'upserted'") == [(1,)]


def test_without_the_old_key_its_columns_may_repeat_from_contract_on(bench: Bench, rows: Rows) -> None:
    operation = {"change_primary_key": {**CHANGE["change_primary_key"], "old": "drop"}}
    again = "INSERT INTO readings (id, station) OVERRIDING SYSTEM VALUE VALUES (1, 'other')"
    run = forward(start(bench, operation, **FAST), to="contract")
    with pytest.raises(psycopg.errors.UniqueViolation):
        rows(again)
    forward(run, to="rollback")
    rows(again)


def test_a_key_that_a_view_groups_by_is_not_changed(bench: Bench, rows: Rows) -> None:
    rows("CREATE VIEW latest AS SELECT id, station, count(*) FROM readings GROUP BY id")
    message = stopped(start(bench, CHANGE, **FAST))
    assert "latest" in message
