from __future__ import annotations

from typing import Any

from schema_change.core.database import Connection
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows

SCRIPTS = {
    "deploy": "ALTER TABLE readings ADD COLUMN new_note text;",
    "cutover": "ALTER TABLE readings RENAME note TO old_note; ALTER TABLE readings RENAME new_note TO note;",
    "contract": "ALTER TABLE readings DROP COLUMN old_note; CREATE INDEX CONCURRENTLY by_note ON readings (note);",
    "revert": """
        DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'readings'::regclass AND attname = 'old_note') THEN
                ALTER TABLE readings RENAME note TO new_note;
                ALTER TABLE readings RENAME old_note TO note;
            END IF;
        END $$;
        ALTER TABLE readings DROP COLUMN IF EXISTS new_note;
    """,
    "verify": "DO $$ BEGIN ASSERT (SELECT count(*) = 5000 FROM readings WHERE note LIKE 'was %'); END $$;",
}
DOCUMENT: dict[str, Any] = {
    "backfill": {"table": "readings", "column": "new_note", "expression": "'was ' || coalesce(readings.note, 'none')"},
}


def test_scripts_run_in_their_phases(bench: Bench, rows: Rows) -> None:
    before = bench.state()
    change = bench.write("001_raw", DOCUMENT, **SCRIPTS)
    run = forward(bench, change, stop_before="contract")
    assert run.error is None, (run.error, run.error.hint)
    assert rows("SELECT count(old_note), count(note) FROM readings") == [(1666, 5000)]
    run.finish()
    assert bench.state() == before
    run = forward(bench, change)
    assert (run.error, run.outcome_error) == (None, None)
    assert rows(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = 'readings'::regclass"
        " AND attnum > 3 AND NOT attisdropped"
    ) == [("note",)]
    assert rows("SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_note'::regclass") == [(True,)]


def test_a_view_is_switched_without_a_deploy(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("CREATE VIEW v AS SELECT 1 AS a")
    scripts = {
        "cutover": "CREATE OR REPLACE VIEW v AS SELECT 2 AS a",
        "revert": "CREATE OR REPLACE VIEW v AS SELECT 1 AS a",
    }
    comes_back(bench, [], **scripts)
    lands(bench, [], skip_backup=False, skip_rehearsal=False, **scripts)
    assert rows("SELECT a FROM v") == [(2,)]
