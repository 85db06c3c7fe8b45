"""Every mistake gives one clear error: file, line, key, what was expected, the nearest word."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from schema_change.core.changes import operations
from schema_change.core.changes.load import load_change
from schema_change.core.errors import ChangeFileError
from schema_change.core.operations import catalogue
from tests.unit.core.changes.conftest import MINIMAL, Write

pytestmark = pytest.mark.usefixtures("two_operations")

HEAD = "description: A test\nconn_id: weather\n"


def failure(folder: Path) -> ChangeFileError:
    with pytest.raises(ChangeFileError) as caught:
        load_change(folder)
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "key", "message", "hint"),
    [
        (MINIMAL + "descripton: x\n", 5, "descripton", "this key is not known", "did you mean description?"),
        (MINIMAL + "on: x\n", 5, "on", "this key is not known", None),
        (MINIMAL.replace("A test", ""), 1, "description", "expected text, found nothing", None),
        (MINIMAL.replace("A test", "' '"), 1, "description", "must not be empty", None),
        (MINIMAL.replace("A test", "2024"), 1, "description", "expected text, found the number 2024", "in quotes"),
        (MINIMAL.replace("weather", "we/ather"), 2, "conn_id", "found 'we/ather'", None),
        (MINIMAL.replace("conn_id: weather\n", ""), 1, "conn_id", "this key is required: Airflow connection", None),
        (HEAD, 1, "operations", "the change does nothing", "deploy.sql"),
        (HEAD + "operations: []\n", 3, "operations", "the change does nothing", "deploy.sql"),
        (HEAD + "operations:\n", 3, "operations", "expected a list, whose lines start with '- ', found nothing", None),
        (HEAD + "operations: {add_column: {}}\n", 3, "operations", "expected a list", None),
        (HEAD + "operations: [add_column]\n", 3, "operations[0]", "expected one operation", "add_column"),
        (HEAD + "operations:\n  - {}\n", 4, "operations[0]", "expected one operation", "add_column"),
        (
            HEAD + "operations:\n  - add_colum: {}\n",
            4,
            "operations[0].add_colum",
            "not known",
            "did you mean add_column?",
        ),
        (HEAD + "operations:\n  - zzz: {}\n", 4, "operations[0].zzz", "not known", "known: add_column, sql"),
        (
            HEAD + "operations:\n  - add_column:\n    table: t\n",
            4,
            "operations[0]",
            "expected one operation, found 2 keys: add_column, table",
            "indent table deeper than add_column",
        ),
        (
            HEAD + "operations:\n  - add_column: {}\n    sql: {}\n",
            4,
            "operations[0]",
            "expected one operation, found 2 keys",
            "start each operation with a '- ' of its own",
        ),
        (MINIMAL.replace("table:", "tabel:"), 4, "operations[0].add_column.tabel", "not known", "did you mean table?"),
        (MINIMAL.replace("name: a", "name: 1"), 4, "operations[0].add_column.column.name", "the number 1", "in quotes"),
        (
            MINIMAL.replace("{name: a, type: integer}", "a"),
            4,
            "operations[0].add_column.column",
            "expected keys with values, found 'a'",
            None,
        ),
        (
            HEAD + "operations:\n  - add_column:\n      table: t\n      column:\n        name: a\n",
            6,
            "operations[0].add_column.column.type",
            "this key is required",
            None,
        ),
        (MINIMAL + "registry: {table: t, to: v1.0.0}\n", 5, "registry.from", "required: Version before", None),
        (MINIMAL + "registry: {table: t, from: 1.0, to: v1.1.0}\n", 5, "registry.from", "the number 1.0", "in quotes"),
        (MINIMAL + "registry: {table: t, from: v1, to: v1.1.0}\n", 5, "registry.from", "such as v1.2.0, found", None),
        (MINIMAL + "registry: {table: t, from: v1.10.0, to: v1.9.0}\n", 5, "registry", "must be higher", None),
        (MINIMAL + "registry: {table: a.b.c, from: null, to: v1.0.0}\n", 5, "registry.table", "more than two", None),
        (
            MINIMAL + f"registry: {{table: {'é' * 32}, from: null, to: v1.0.0}}\n",
            5,
            "registry.table",
            "has 64 bytes; PostgreSQL cuts names at 63",
            None,
        ),
        (MINIMAL + "window: {from: 22, to: 04:00}\n", 5, "window.from", "the number 22", "in quotes"),
        (MINIMAL + "window: {from: 25:00, to: 04:00}\n", 5, "window.from", "a time such as 22:00, found", None),
        (MINIMAL + "window: {from: 04:00, to: 04:00}\n", 5, "window", "are the same", None),
        (
            MINIMAL + "window:\n  from: 22:00\n  to: 04:00\n  timezone: Europe/Berln\n",
            8,
            "window.timezone",
            "is not a time zone",
            None,
        ),
        (MINIMAL + "expectations: ../../secret.yaml\n", 5, "expectations", "below the folder of expectations", None),
        (MINIMAL + "expectations: none.yaml\n", 5, "expectations", "there is no suite none.yaml", "create"),
        (MINIMAL + "waivers: {a-rule: }\n", 5, "waivers.a-rule", "expected text, found nothing", None),
        (MINIMAL + "extensions: postgis\n", 5, "extensions", "expected a list", None),
        (MINIMAL + "backfill: {table: t}\n", 5, "backfill", "goes with deploy.sql", "fill:"),
        (MINIMAL + "conn_id: weather\n", 5, "conn_id", "the key is there twice, first on line 2", "keep one"),
    ],
)
def test_a_mistake_is_told_with_line_key_and_remedy(  # noqa: PLR0917
    write: Write, text: str, line: int, key: str, message: str, hint: str | None
) -> None:
    folder = write("001_a", text)
    error = failure(folder)
    assert error.file == str(folder / "change.yaml")
    assert (error.line, error.key) == (line, key)
    assert message in error.message
    assert "\n" not in error.message, "one mistake, one problem"
    if hint is not None:
        assert hint in (error.hint or "")


def test_all_problems_of_a_file_are_told_at_once(write: Write) -> None:
    text = MINIMAL.replace("conn_id", "con_id").replace("type", "tpye") + "extensions: 3\n"
    error = failure(write("001_a", text))
    assert (error.line, error.key) == (2, "con_id")
    lines = [line for line in error.message.splitlines() if "change.yaml:" in line]
    assert [line.split("change.yaml:")[1].split(": ")[0] for line in lines] == ["2", "4", "5"]
    assert "did you mean conn_id?" in error.message
    assert "did you mean type?" in error.message


@pytest.mark.parametrize(
    ("scripts", "file", "message", "hint"),
    [
        ({"deploy": "SELECT 1"}, "deploy.sql", "there is no revert.sql beside it", "revert.sql"),
        ({"cutover": "SELECT 1"}, "cutover.sql", "there is no revert.sql beside it", "revert.sql"),
        ({"revert": "SELECT 1"}, "revert.sql", "there is no deploy.sql beside it", "add it"),
        ({"contract": "SELECT 1", "revert": "SELECT 1"}, "revert.sql", "there is no deploy.sql", "remove this one"),
        ({"contract": "SELECT 1", "expand": "SELECT 1"}, "expand.sql", "would never run", "rename it to deploy.sql"),
        ({"deploy": "SELECT 1", "revert": " \n"}, "revert.sql", "the script is empty", "statements"),
        ({"deploy": "SELECT 1", "rollback": "SELECT 1"}, "rollback.sql", "would never run", "rename it to revert.sql"),
        ({"deploy": "SELECT 1", "Revert": "SELECT 1"}, "Revert.sql", "would never run", "rename it to revert.sql"),
        ({"001_tables": "SELECT 1"}, "001_tables.sql", "would never run", "move it into one of deploy.sql"),
        ({"deploy": "SELECT 1", "revert": "\0"}, "revert.sql", "a NUL character", None),
    ],
)
def test_scripts_that_would_not_run_are_refused(
    write: Write, scripts: dict[str, str], file: str, message: str, hint: str | None
) -> None:
    folder = write("001_a", HEAD, **scripts)
    error = failure(folder)
    assert error.file == str(folder / file)
    assert message in error.message
    assert (hint or "") in (error.hint or "")


def test_a_mistake_in_backfill_is_told_at_its_line(write: Write) -> None:
    text = HEAD + "backfill:\n  table: t\n  colum: a\n  expression: lower(b)\n"
    error = failure(write("001_a", text, deploy="SELECT 1", revert="SELECT 2"))
    assert (error.line, error.key, error.hint) == (5, "backfill.colum", "did you mean column?")


def test_a_mistake_in_a_script_is_told_in_the_script_with_its_line(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "catalogue", catalogue)
    error = failure(write("001_a", HEAD, deploy="CREATE TABLE public.a (i int);\n\nSELEC 1;", revert="-- nothing"))
    assert (Path(error.file).name, error.line) == ("deploy.sql", 3)
    assert "syntax error" in error.message
    assert "revert.sql: the script has no statement" in error.message


def test_a_folder_without_change_yaml_is_told(root: Path) -> None:
    folder = root / "001_a"
    folder.mkdir()
    (folder / "change.yml").write_text(MINIMAL)
    error = failure(folder)
    assert (error.file, error.hint) == (str(folder), "rename change.yml to change.yaml")


def test_files_are_utf_8(write: Write) -> None:
    folder = write("001_a")
    (folder / "change.yaml").write_bytes(b"description: x\nconn_id: caf\xe9\n")
    error = failure(folder)
    assert (error.line, error.hint) == (2, "save the file as UTF-8")


def test_an_unreadable_file_is_told(write: Write) -> None:
    folder = write("001_a")
    (folder / "change.yaml").unlink()
    (folder / "change.yaml").mkdir()
    assert "cannot be read: Is a directory" in failure(folder).message


def test_no_damage_to_a_file_gives_anything_but_a_clear_error(write: Write) -> None:
    text = (
        MINIMAL + "registry: {table: t, from: v1.0.0, to: v1.1.0}\nwindow: {from: 22:00, to: 04:00}\nwaivers:\n  a: b\n"
    )
    folder = write("001_a", text)
    chance = random.Random(7)  # noqa: S311
    refused: list[ChangeFileError] = []
    for _ in range(600):
        start = chance.randrange(len(text))
        end = min(len(text), start + chance.choice((0, 0, 1, 1, 2, 8)))
        damage = chance.choice(
            ["", " ", "\t", "\n", "- ", ": ", "{", "]", "'", "*", "&a ", "!", "~", "1.0", "null", "x"]
        )
        (folder / "change.yaml").write_text(text[:start] + damage + text[end:])
        try:
            load_change(folder)
        except ChangeFileError as error:
            refused.append(error)
    assert len(refused) > 200
    assert {error.file for error in refused} == {str(folder / "change.yaml")}
    assert None not in {error.line for error in refused}
