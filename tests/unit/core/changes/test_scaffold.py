from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from schema_change.core.changes.load import load_change, load_changes
from schema_change.core.changes.scaffold import new_change
from schema_change.core.changes.schema import SCHEMA_FILE
from schema_change.core.errors import ChangeFileError, ConfigurationError
from schema_change.core.operations import catalogue

NOW = dt.datetime(2024, 2, 8, 14, 30, 2, tzinfo=dt.UTC)
TYPED = sorted(set(catalogue()) - {"sql"})


@pytest.mark.parametrize("operation", [None, *TYPED])
def test_what_is_made_loads_at_once(root: Path, operation: str | None) -> None:
    folder = new_change(root, "add_cold_hours", conn_id="weather", now=NOW, operation=operation)
    change = load_change(folder)
    assert change.id == folder.name == "20240208143002_add_cold_hours"
    assert (change.conn_id, change.description) == ("weather", "Add cold hours")
    assert [o.kind for o in change.operations] == [operation or "add_column"]
    first = (folder / "change.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../change.schema.json"
    assert (root / "change.schema.json").read_bytes() == SCHEMA_FILE.read_bytes()


@pytest.mark.parametrize("operation", TYPED)
def test_every_other_key_of_an_operation_is_there_as_a_comment(root: Path, operation: str) -> None:
    file = new_change(root, "x", conn_id="weather", now=NOW, operation=operation) / "change.yaml"
    written = load_change(file.parent).operations[0]
    others = {f.alias or n for n, f in type(written).model_fields.items() if n not in written.model_fields_set}
    assert others == set(re.findall(r"^ {6}# (\w+): ", file.read_text(encoding="utf-8"), re.MULTILINE))


def test_a_raw_change_has_the_three_scripts(root: Path) -> None:
    folder = new_change(root, "add_audit_log", conn_id="weather", now=NOW, raw=True)
    assert {f.name for f in folder.iterdir()} == {"change.yaml", "deploy.sql", "revert.sql", "verify.sql"}
    for script in folder.glob("*.sql"):
        assert script.read_text(encoding="utf-8").startswith("-- ")


def test_a_second_that_is_taken_is_not_used_again(root: Path) -> None:
    folders = [new_change(root, name, conn_id="weather", now=NOW) for name in ("a", "b", "a")]
    assert [f.name for f in folders] == ["20240208143002_a", "20240208143003_b", "20240208143004_a"]
    assert not load_changes(root).broken


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Add Cold-Hours!", "for example add_cold_hours"),
        ("2nd_try", "for example nd_try"),
        ("../escape", "for example escape"),
        ("", "YYYYMMDDHHMMSS"),
        ("a" * 200, "for example aaa"),
    ],
)
def test_a_bad_name_is_refused_with_a_better_one(root: Path, name: str, hint: str) -> None:
    with pytest.raises(ChangeFileError) as caught:
        new_change(root, name, conn_id="weather", now=NOW)
    assert hint in (caught.value.hint or "")
    assert not list(root.iterdir())


def test_a_word_that_yaml_reads_otherwise_is_quoted(root: Path) -> None:
    change = load_change(new_change(root, "true", conn_id="007", now=NOW))
    assert (change.description, change.conn_id) == ("True", "007")
    assert load_change(new_change(root, "null", conn_id="1", now=NOW)).conn_id == "1"


def test_what_cannot_be_made_is_refused(root: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean add_column"):
        new_change(root, "x", conn_id="weather", now=NOW, operation="add_colum")
    with pytest.raises(ConfigurationError, match="leave one of the two out"):
        new_change(root, "x", conn_id="weather", now=NOW, operation="add_column", raw=True)
    with pytest.raises(ConfigurationError, match="conn_id: expected letters"):
        new_change(root, "x", conn_id="a/b", now=NOW)
    assert not list(root.iterdir())
