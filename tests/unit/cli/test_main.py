from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from schema_change.cli import arguments as flags
from schema_change.cli.main import main
from schema_change.core.stages.request import Options
from tests.changes import write_change


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIRFLOW_CONN_WEATHER", raising=False)


CHANGES = Path("include/sql/changes")


def test_new_makes_a_change_that_lints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "add_wind_chill", "--conn-id", "weather"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "change.yaml").is_file()
    assert main(["lint"]) == 0
    assert main(["new", "second"]) == 0, "the connection is the one the other change has"
    assert main(["new", "third", "--operation", "add_colum"]) == 2
    assert "add_column" in capsys.readouterr().err


def test_new_without_a_connection_is_wrong_usage() -> None:
    assert main(["new", "add_wind_chill"]) == 2


def test_lint_tells_every_problem_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    write_change(CHANGES, 1)
    write_change(CHANGES, 2, text="description: x\nconn_id: weather\noperatons: []\n")
    write_change(CHANGES, 3, text="description: x\nconn_id: weather\n")
    assert main(["lint"]) == 1
    shown = capsys.readouterr().out
    assert "002_add_extreme_2/change.yaml:3: operatons" in shown
    assert "003_add_extreme_3" in shown
    assert "1 changes checked" in shown
    assert main(["lint", "001_add_extreme_1"]) == 0
    assert main(["lint", "002_add_extreme_2"]) == 1
    assert main(["lint", "004_no_such"]) == 2


def test_lint_reads_raw_sql(capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_change(CHANGES, 1, text="description: x\nconn_id: weather\nwaivers: {unused: yet known}\n")
    (folder / "deploy.sql").write_text("DROP TABLE t;")
    (folder / "revert.sql").write_text("CREATE TABLE t (a bigint);")
    assert main(["lint"]) == 0
    shown = capsys.readouterr().out
    assert "squawk:ban-drop-table" in shown
    assert "unused-waiver" not in shown


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["frobnicate"],
        ["apply"],
        ["apply", "x", "--run", "no-uuid"],
        ["apply", "001_add_extreme_1", "--approved-by", "dba"],
        ["apply", "001_add_extreme_1", "--batch-target-ms", "1", "--target", "postgresql://h/d"],
        ["plan", "001_add_extreme_1"],
        ["plan", "001_add_extreme_1", "--target", "postgresql://u:secret@h/d"],
        ["plan", "001_add_extreme_1", "--target", "postgresql://127.0.0.1:1/d"],
        ["apply", "001_add_extreme_1", "--target", "postgresql://h/d", "--approvers", "no.yaml"],
        ["rollback"],
        ["status"],
        ["restore", "--run", "00000000-0000-0000-0000-000000000000", "--tables", "a", "--database"],
    ],
)
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write_change(CHANGES, 1)
    assert main(argv) == 2
    shown = capsys.readouterr().err
    assert shown.strip()
    assert "Traceback" not in shown
    assert "secret" not in shown


def test_the_stack_is_shown_only_when_asked_for(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_change(CHANGES, 1)
    command = ["plan", "001_add_extreme_1"]
    assert main(command) == 2
    assert not caplog.records
    assert main(["-v", *command]) == 2
    assert [r.exc_info for r in caplog.records if r.exc_info]
    assert "AIRFLOW_CONN_WEATHER is not set" in capsys.readouterr().err


def test_help_is_no_error() -> None:
    assert main(["--help"]) == 0
    assert main(["apply", "--help"]) == 0


def test_every_option_is_a_flag() -> None:
    parser = argparse.ArgumentParser()
    flags.add_options(parser)
    given = parser.parse_args(["--batch-target-ms", "70", "--backup-scope", "database", "--skip-rehearsal"])
    assert flags.options_of(given) == Options(batch_target_ms=70, backup_scope="database", skip_rehearsal=True)
    assert flags.options_of(given, {"lock_wait_s": 5, "batch_target_ms": 90}).batch_target_ms == 70
    assert flags.options_of(parser.parse_args([]), {"lock_wait_s": 5}).lock_wait_s == 5
    dests = {name.removeprefix("option_") for name in vars(given)}
    assert dests == set(Options.model_fields) - {"dry_run", "approvers"}
