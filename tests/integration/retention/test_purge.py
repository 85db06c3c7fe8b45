"""Kept data goes when its time is over; the commands list, export, bring back and purge it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from schema_change.cli.main import main
from schema_change.core.backup.files import CHUNK_BYTES
from schema_change.core.database import Connection
from schema_change.core.errors import JournalError
from schema_change.core.journal.fence import fenced
from schema_change.core.retention.export import export
from schema_change.core.retention.purge import purge
from schema_change.core.retention.recover import recover
from tests.bench import Bench
from tests.integration.operations.running import lands
from tests.integration.stages.test_run import Rows
from tests.memory import held

KEPT = "SELECT count(*) FROM pg_tables WHERE schemaname = 'schema_change_retired'"
DROPS: list[dict[str, Any]] = [
    {"drop_column": {"table": "readings", "column": "celsius", "keep_days": 3}},
    {"drop_table": {"table": "old"}},
    {"drop_table": {"table": "older"}},
]


@pytest.fixture
def dropped(bench: Bench, connection: Connection) -> None:
    connection.execute('CREATE TABLE old (id integer PRIMARY KEY, "at" timestamptz, note text)')
    connection.execute("INSERT INTO old VALUES (1, '2024-01-01 12:00+02', E'a \"b\",\\nc'), (2, NULL, NULL)")
    connection.execute("CREATE TABLE older (n integer)")
    lands(bench, DROPS)


@pytest.mark.usefixtures("dropped")
def test_what_is_over_is_purged_and_nothing_else(bench: Bench, connection: Connection, rows: Rows) -> None:
    assert purge(bench.target, note=lambda _: None) == []
    rows("UPDATE schema_change.retired SET purge_after = now() WHERE id IN (1, 2)")
    assert [(p.kept.id, p.state) for p in purge(bench.target, note=lambda _: None, dry_run=True)] == [
        (1, "due"),
        (2, "due"),
    ]
    assert rows(KEPT) == [(3,)]
    (run_id,) = rows("SELECT run_id FROM schema_change.retired")[0]
    with bench.target.connect("test") as session, fenced(session, run_id):
        assert {p.state for p in purge(bench.target, note=lambda _: None)} == {"left"}
    rows("UPDATE schema_change.run SET status = 'contracting'")
    assert {p.state for p in purge(bench.target, note=lambda _: None)} == {"left"}
    rows("UPDATE schema_change.run SET status = 'applied'")
    # A claim of a recovery that was killed is released on the way; a failure does not stop the others.
    rows(f"INSERT INTO schema_change.owner VALUES ('public', 'readings', '{run_id}')")
    name = rows("SELECT kept_name FROM schema_change.retired WHERE id = 1")[0][0]
    rows(f'CREATE VIEW looks AS SELECT * FROM schema_change_retired."{name}"')
    assert [(p.kept.id, p.state) for p in purge(bench.target, note=lambda _: None)] == [(1, "failed"), (2, "purged")]
    assert rows("SELECT count(*) FROM schema_change.owner") == [(0,)]
    assert rows(KEPT) == [(2,)]
    with pytest.raises(JournalError, match="was purged"):
        recover(bench.target, 2, note=lambda _: None)
    assert rows("SELECT object_name FROM schema_change.schema_audit WHERE operation_type = 'purged'")[0][0].startswith(
        "schema_change_retired.table_public_old"
    )


def test_an_export_passes_through_the_worker_in_blocks(bench: Bench, connection: Connection, tmp_path: Path) -> None:
    connection.execute("CREATE TABLE old AS SELECT repeat(md5(g::text), 1000) AS t FROM generate_series(1, 1000) g")
    lands(bench, [{"drop_table": {"table": "old"}}])
    file = UPath(tmp_path / "old.csv")
    with held() as most:
        assert export(bench.target, 1, file) == 1000
    assert file.stat().st_size > 32_000_000
    assert most() < 8 * CHUNK_BYTES


@pytest.mark.usefixtures("dropped")
@pytest.mark.parametrize("server", [18], indirect=True, ids=["pg18"])
def test_the_commands(
    bench: Bench, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = bench.target.parameters
    url = "postgresql://{user}@{host}:{port}/{dbname}".format(**parameters)
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", url)
    common = ["--target", "target", "--changes", str(bench.folder / "changes")]
    assert main(["retired", *common]) == 0
    listed = capsys.readouterr().out
    assert "column public.readings.celsius" in listed
    assert "table public.older" in listed
    file = tmp_path / "new" / "old.csv"
    assert main(["recover", "--id", "2", "--csv", str(file), *common]) == 0
    with file.open(newline="", encoding="utf-8") as source:
        assert list(csv.reader(source)) == [
            ["id", "at", "note"],
            ["1", "2024-01-01 10:00:00+00", 'a "b",\nc'],
            ["2", "", ""],
        ]
    assert rows("SELECT to_regclass('old')") == [(None,)]
    assert main(["recover", "--id", "2", *common]) == 0
    assert rows("SELECT count(*) FROM old") == [(2,)]
    rows("DELETE FROM readings WHERE id = 1")
    assert main(["recover", "--id", "1", *common]) == 1
    assert "1 row left alone: there is no row of that key any more (id = 1)" in capsys.readouterr().out
    rows("UPDATE schema_change.retired SET purge_after = now() WHERE id = 3")
    assert main(["purge", "--dry-run", *common]) == 0
    assert main(["purge", *common]) == 0
    out = capsys.readouterr().out
    assert "table public.older (0 bytes): due" in out
    assert "table public.older (0 bytes): purged" in out
    assert main(["recover", "--id", "9", *common]) == 2
