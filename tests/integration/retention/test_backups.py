"""Old backups go, those that are needed stay, and half a backup is never taken for a whole one."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from upath import UPath

from schema_change.cli.main import main
from schema_change.core.backup.files import remove
from schema_change.core.backup.manifest import MANIFEST, read_manifest
from schema_change.core.backup.restore import RestoreResult
from schema_change.core.errors import BackupError
from schema_change.core.journal.fence import fenced
from schema_change.core.retention.backups import PurgedBackup, purge_backups
from schema_change.core.stages.restore import restore_run
from tests.bench import Bench
from tests.integration.stages.test_run import Rows

ON_ONE_VERSION = pytest.mark.parametrize("server", [18], indirect=True, ids=["pg18"])
FIRST, SECOND, THIRD = "001_first", "002_second", "003_third"


def add(name: str) -> dict[str, Any]:
    return {"operations": [{"add_column": {"table": "readings", "column": {"name": name, "type": "integer"}}}]}


@pytest.fixture
def runs(bench: Bench, rows: Rows) -> dict[str, UUID]:
    """A change that landed long ago, one that landed today after a long soak, and one that is at work; old backups."""
    found = {}
    for change, name, stop in ((FIRST, "a", None), (SECOND, "b", None), (THIRD, "c", "migrate")):
        run = bench.run(bench.request(bench.write(change, add(name)), skip_rehearsal=True), stop_before=stop)
        assert run.error is None
        found[change] = run.request.run_id
    rows("UPDATE schema_change.stage SET started_at = started_at - interval '31 days' WHERE stage = 'backup'")
    rows("UPDATE schema_change.run SET finished_at = finished_at - interval '31 days' WHERE change_version = '001'")
    return found


def folder(bench: Bench, run_id: UUID) -> Path:
    return bench.folder / "artifacts" / "target" / str(run_id) / "backup"


def purge(bench: Bench, **asked: Any) -> dict[str, tuple[str, str]]:
    found: list[PurgedBackup] = purge_backups(bench.target, UPath(bench.folder / "artifacts"), **asked)
    return {result.backup.change: (result.state, result.why) for result in found}


def test_what_is_old_and_not_needed_goes(bench: Bench, rows: Rows, runs: dict[str, UUID]) -> None:
    left = {SECOND: "its run ended on ", THIRD: "its run has not ended"}
    assert purge(bench, dry_run=True)[FIRST] == ("due", "")
    assert folder(bench, runs[FIRST]).exists()
    assert purge(bench, days=32) == {}
    with bench.target.connect("test") as session, fenced(session, runs[FIRST]):
        assert purge(bench)[FIRST] == ("left", "somebody works on its run")
        assert purge(bench, dry_run=True)[FIRST] == ("left", "somebody works on its run")
    found = purge(bench, actor="ann")
    assert found.pop(FIRST) == ("deleted", "")
    assert {change: state for change, (state, _) in found.items()} == dict.fromkeys(left, "left")
    assert all(why.startswith(left[change]) for change, (_, why) in found.items())
    assert not folder(bench, runs[FIRST]).exists()
    for change in left:
        assert read_manifest(UPath(folder(bench, runs[change]))).run_id == str(runs[change])
    audit = "SELECT migration_id, performed_by FROM schema_change.schema_audit WHERE operation_type = 'backup_deleted'"
    assert rows(audit) == [(FIRST, "ann")]
    assert FIRST not in purge(bench)
    with pytest.raises(BackupError, match="was deleted on"):
        restore_run(bench.target, runs[FIRST], note=lambda _: None)


def test_a_backup_that_is_being_restored_stays(
    bench: Bench, rows: Rows, runs: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its tables are put back or the whole database, on which no session can stay for that."""
    rows("DELETE FROM schema_change.owner")
    tried: list[tuple[str, str]] = []

    def restoring(*_: object, **__: object) -> RestoreResult:
        tried.append(purge(bench).get(FIRST, ("deleted", "")))
        now = dt.datetime.now(dt.UTC)
        return RestoreResult(now, now, ())

    for what in ("tables", "database"):
        monkeypatch.setattr(f"schema_change.core.stages.restore.restore_{what}", restoring)
        restore_run(bench.target, runs[FIRST], database=what == "database", note=lambda _: None)
        monkeypatch.undo()
    assert tried == [("left", "somebody works on its run"), ("left", "it is being restored")]
    assert read_manifest(UPath(folder(bench, runs[FIRST]))).run_id == str(runs[FIRST])


def test_a_dry_run_says_what_a_purge_would(bench: Bench, runs: dict[str, UUID]) -> None:
    elsewhere = UPath(bench.folder / "elsewhere")
    for dry_run in (True, False):
        [found] = [r for r in purge_backups(bench.target, elsewhere, dry_run=dry_run) if r.backup.change == FIRST]
        assert found.state == ("due" if dry_run else "deleted")  # where it was written
    assert not folder(bench, runs[FIRST]).exists()
    assert FIRST not in purge(bench)


def test_a_deletion_that_was_interrupted_is_finished(
    bench: Bench, runs: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder(bench, runs[FIRST])

    def interrupted(self: object, path: str, **_: object) -> None:
        assert not (Path(path) / MANIFEST).exists()
        raise PermissionError("read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr("fsspec.implementations.local.LocalFileSystem.rm", interrupted)
        assert purge(bench)[FIRST] == ("failed", "PermissionError: read-only file system")
    assert (place / "dump" / "toc.dat").exists()
    with pytest.raises(BackupError, match="holds no complete backup"):
        read_manifest(UPath(place))
    assert purge(bench)[FIRST] == ("deleted", "")
    assert not place.exists()


def test_what_a_failed_backup_left_goes_too(bench: Bench, rows: Rows, runs: dict[str, UUID]) -> None:
    place = folder(bench, runs[FIRST])
    (place / MANIFEST).unlink()
    rows("UPDATE schema_change.run SET backup = NULL")
    assert purge(bench)[FIRST] == ("deleted", "")
    assert not place.exists()
    assert rows("SELECT count(*) FROM schema_change.run WHERE backup IS NULL") == [(3,)]


def test_a_backup_that_somebody_else_deleted_is_not_asked_for_again(bench: Bench, runs: dict[str, UUID]) -> None:
    remove(UPath(folder(bench, runs[FIRST])))
    assert purge(bench)[FIRST] == ("gone", "")
    assert FIRST not in purge(bench)


def test_a_backup_that_cannot_be_seen_from_here_is_not_taken_for_gone(
    bench: Bench, runs: dict[str, UUID], tmp_path: Path
) -> None:
    artifacts = folder(bench, runs[FIRST]).parents[2]
    away = artifacts.rename(tmp_path / "another machine's")
    assert purge(bench)[FIRST] == ("left", "nothing of its run is here; say where with --artifacts")
    away.rename(artifacts)
    assert purge(bench)[FIRST] == ("deleted", "")


@ON_ONE_VERSION
@pytest.mark.parametrize("name", ["precious", "target/{}/backup/dump", "../{}/backup", "target/{}"])
def test_no_folder_is_deleted_that_is_no_backup_of_the_run(
    bench: Bench, rows: Rows, runs: dict[str, UUID], name: str, tmp_path: Path
) -> None:
    """Whoever can write into the target's journal must not be able to have other folders deleted."""
    backup = folder(bench, runs[FIRST])
    backup.parents[2].rename(tmp_path / "elsewhere")
    place = tmp_path / "elsewhere" / name.format(runs[FIRST])
    place.mkdir(parents=True, exist_ok=True)
    (place / "kept").write_text("")
    rows(f"UPDATE schema_change.run SET backup = backup || jsonb_build_object('folder', '{place}')")
    state, why = purge(bench)[FIRST]
    assert (place / "kept").exists()
    assert (state, f"{place} is no backup folder of run {runs[FIRST]}" in why) == ("failed", True)
    remove(UPath(place))
    backup.parent.mkdir(parents=True)
    assert purge(bench)[FIRST] == ("gone", "")


@ON_ONE_VERSION
def test_a_journal_cannot_name_a_folder_by_its_connection(bench: Bench, rows: Rows, runs: dict[str, UUID]) -> None:
    outside = bench.folder / "precious" / str(runs[FIRST]) / "backup"
    outside.mkdir(parents=True)
    rows("UPDATE schema_change.run SET conn_id = '../precious'")
    state, why = purge(bench)[FIRST]
    assert (state, outside.exists()) == ("failed", True)
    assert "is no backup folder of run" in why


@ON_ONE_VERSION
def test_the_command(
    bench: Bench, runs: dict[str, UUID], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://{user}@{host}:{port}/{dbname}".format(**bench.target.parameters)
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", url)
    common = ["--target", "target", "--artifacts", str(bench.folder / "artifacts")]
    assert main(["purge-backups", "--dry-run", *common]) == 0
    assert f"{FIRST}, run {runs[FIRST]}" in capsys.readouterr().out
    assert folder(bench, runs[FIRST]).exists()
    assert main(["purge-backups", *common]) == 0
    assert "deleted" in capsys.readouterr().out
    assert not folder(bench, runs[FIRST]).exists()
    assert main(["purge-backups", "--days", "40", *common]) == 0
    assert "no backup is older than 40 days" in capsys.readouterr().out
    assert main(["purge-backups", "--days", "0", *common]) == 2
