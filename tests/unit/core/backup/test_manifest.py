from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from upath import UPath

from schema_change.core.backup.checksums import TableChecksum, differences
from schema_change.core.backup.manifest import (
    MANIFEST,
    BackupFile,
    DayRows,
    ForeignServer,
    Manifest,
    read_manifest,
    write_manifest,
)
from schema_change.core.backup.restore import RestoredTable, RestoreResult
from schema_change.core.errors import BackupError
from schema_change.core.names import Table

A, B = Table("public", "a"), Table("We ird", "b")
TAKEN = datetime(2024, 2, 8, 14, 30, tzinfo=UTC)
EXAMPLE = Manifest(
    run_id="r",
    conn_id="weather",
    database="w",
    scope="tables",
    taken_at=TAKEN,
    server_version=180006,
    client_major=18,
    lsn="0/1",
    restore_point=None,
    files=(BackupFile("schema.dump", 1, "00"),),
    tables=(TableChecksum(A, 2, "17", ("id", "x")), TableChecksum(B, 0, "0", ())),
    data_bytes=8192,
    locale={"encoding": "UTF8", "icu_locale": None},
    matviews=(B,),
    days=(DayRows("days_1.gz", "sales", (("id", "bigint"),), (("landb", "2024-02-08"),), 3, "17"),),
    foreign_servers=(ForeignServer("s", "w"),),
    roles=("postgres",),
    left_out=("publication p",),
)


def test_a_manifest_is_json_both_ways(tmp_path: Path) -> None:
    write_manifest(UPath(tmp_path), EXAMPLE)
    assert read_manifest(UPath(tmp_path)) == EXAMPLE
    assert EXAMPLE.rows == 2
    assert EXAMPLE.columns == {A: ("id", "x"), B: ()}


def test_a_folder_without_a_readable_manifest_holds_no_backup(tmp_path: Path) -> None:
    folder = UPath(tmp_path)
    with pytest.raises(BackupError, match="no complete backup"):
        read_manifest(folder)
    (folder / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(BackupError, match="is damaged"):
        read_manifest(folder)
    (folder / MANIFEST).write_text(json.dumps({**EXAMPLE.to_json(), "format": 2}), encoding="utf-8")
    with pytest.raises(BackupError, match="has format 2"):
        read_manifest(folder)


def test_differences_are_told_table_by_table() -> None:
    before = EXAMPLE.tables
    assert differences(before, before[::-1]) == ()
    after = [replace(before[0], rows=3)]
    assert differences(before, after) == ("public.a: 3 rows instead of 2", '"We ird".b: missing')


def test_a_restore_names_the_lost_writes() -> None:
    restored = datetime(2024, 2, 8, 15, tzinfo=UTC)
    result = RestoreResult(TAKEN, restored, (RestoredTable(A, 5, 2, True), RestoredTable(B, 0, 0, False)))
    assert result.lost_writes() == (
        "writes between 2024-02-08 14:30:00 UTC and 2024-02-08 15:00:00 UTC to public.a (5 → 2 rows) are lost"
    )
    assert replace(result, kept_database="old").lost_writes().endswith("; they are still in database old")
    assert json.loads(json.dumps(result.to_json()))["tables"][0] == {
        "table": "public.a",
        "rows_before": 5,
        "rows": 2,
        "changed": True,
    }
