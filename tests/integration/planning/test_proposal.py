"""``schema-change propose`` on a real database: what it says, writes and files."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest

from schema_change.cli.main import main
from schema_change.core.database import Connection
from tests.bench import Bench

ADD: dict[str, Any] = {
    "add_column": {"table": "readings", "column": {"name": "<b>f", "type": "numeric"}, "fill": "readings.celsius * 2"}
}
NOT_NULL: dict[str, Any] = {"set_not_null": {"table": "readings", "column": "note", "nulls": {"fill": "'none'"}}}
UNIQUE: dict[str, Any] = {"create_index": {"table": "readings", "columns": ["station", "celsius"], "unique": True}}
TRACKER = """#!/bin/sh
printf '%s\\n' "$@" > {folder}/arguments
cp "$2" {folder}/filed.md
echo https://tracker.example.com/7
"""
HEADINGS = [
    "Motivation",
    "Current Schema",
    "Proposed Schema",
    "Impact Analysis",
    "Rollback Plan",
    "Testing Plan",
    "Timeline",
]


@pytest.fixture(autouse=True)
def _reachable(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p = bench.target.parameters
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCHEMA_CHANGE_ISSUE_COMMAND", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", f"postgresql://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}")


def propose(*arguments: str) -> int:
    return main(["propose", "001_more", *arguments, "--changes", "changes", "--expectations", "expectations"])


def test_it_has_every_section_filled_in_from_the_database(
    bench: Bench, connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write("001_more", {"description": "Warmth for all", "operations": [ADD, NOT_NULL, UNIQUE]})
    assert propose() == 0
    text = capsys.readouterr().out
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert "Warmth for all" in text
    current, proposed = text.partition("## Proposed Schema")[0], text.partition("## Proposed Schema")[2]
    assert "CREATE TABLE public.readings (\n    id integer GENERATED ALWAYS AS IDENTITY NOT NULL,\n" in current
    assert "note text\n" in current or "note text,\n" in current
    assert "note text NOT NULL," in proposed
    assert '"<b>f" numeric' in proposed
    assert "- public.readings column note: nullable yes → no" in proposed
    assert (
        "**Backward compatibility**: no: public.readings.note must have a value; public.readings: no more dup" in text
    )
    assert "**Data migration required**: yes: about 500 rows to be filled (public.readings" in text
    assert "**Downtime required**: brief" in text
    assert "view public.warm, made of" in text
    assert "pg\\_stat\\_statements is not installed" in text or "pg_stat_statements is not installed" in text
    assert 'ALTER TABLE "public"."readings" DROP COLUMN IF EXISTS "<b>f"' in text.partition("## Rollback Plan")[2]
    assert "_To be filled in" in text
    assert connection.execute("SELECT to_regnamespace('schema_change')").fetchone() == (None,), "nothing was written"


def test_raw_sql_is_shown_as_it_is(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write(
        "001_more", deploy="ALTER TABLE readings DROP COLUMN note;", revert="ALTER TABLE readings ADD note text;"
    )
    assert propose() == 0
    text = capsys.readouterr().out
    assert "The shape after deploy.sql is known when it was rehearsed." in text
    assert "ALTER TABLE readings DROP COLUMN note;" in text
    assert "**Backward compatibility**: unknown" in text
    assert "removes column public.readings.note" in text


def test_a_renamed_table_is_shown_under_its_new_name(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write("001_more", {"operations": [{"rename_table": {"table": "remark", "to": "remarks"}}]})
    assert propose() == 0
    current, _, proposed = capsys.readouterr().out.partition("## Proposed Schema")
    assert "CREATE TABLE public.remark (" in current
    assert "CREATE TABLE public.remarks (\n    reading integer,\n" in proposed
    assert "**Backward compatibility**: no: public.remark is called public.remarks" in proposed


def test_the_page_is_self_contained_and_escapes_names(bench: Bench) -> None:
    bench.write("001_more", {"operations": [ADD]})
    assert propose("--output", "p.html") == 0
    page = Path("p.html").read_text(encoding="utf-8")
    assert [h for h in re.findall(r"<h2>(.+)</h2>", page) if h in HEADINGS] == HEADINGS
    assert "<b>f" not in page
    assert "&lt;b&gt;f" in page
    assert "http" not in page
    assert "src=" not in page


def test_an_issue_is_filed_by_the_configured_command(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("001_more", {"operations": [ADD]})
    tracker = tmp_path / "my tracker"
    tracker.write_text(TRACKER.format(folder=tmp_path))
    tracker.chmod(tracker.stat().st_mode | stat.S_IXUSR)
    command = f"'{tracker}' --body-file {{file}} --title {{title}} --label 'schema change; echo $HOME'"
    monkeypatch.setenv("SCHEMA_CHANGE_ISSUE_COMMAND", command)
    assert propose("--issue", "--output", "p.md") == 0
    assert capsys.readouterr().out == "https://tracker.example.com/7\n"
    flag, _, *rest = (tmp_path / "arguments").read_text().splitlines()
    assert flag == "--body-file"
    assert rest == ["--title", "Schema Change: 001_more", "--label", "schema change; echo $HOME"]
    assert (tmp_path / "filed.md").read_text() == Path("p.md").read_text()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "SCHEMA_CHANGE_ISSUE_COMMAND is not set"),
        ("gh issue create", "does not say where the text goes"),
        ("gh 'issue {file}", "cannot be read"),
        ("no_such_program {file}", "No such file"),
        ("cat {file} /nowhere", "cat ended with 1"),
    ],
)
def test_an_issue_that_cannot_be_filed_says_why(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, said: str
) -> None:
    bench.write("001_more", {"operations": [UNIQUE]})
    monkeypatch.setenv("SCHEMA_CHANGE_ISSUE_COMMAND", command)
    assert propose("--issue") == 2
    assert said in capsys.readouterr().err
