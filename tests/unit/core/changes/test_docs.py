from __future__ import annotations

import re
from pathlib import Path

import pytest

from schema_change.core.changes.load import load_change
from schema_change.core.changes.models import ChangeFile

DOC = Path(__file__).parents[4] / "docs" / "change-file.md"


def example(number: int) -> tuple[str, str]:
    """Return the folder's name and the text of an example of the page."""
    text = re.findall(r"```yaml\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)[number]
    folder = re.search(r"changes/(\w+)/change\.yaml", text)
    assert folder is not None
    return folder[1], text


def test_the_first_example_loads(root: Path) -> None:
    name, text = example(0)
    (root / name).mkdir()
    (root / name / "change.yaml").write_text(text, encoding="utf-8")
    (root.parents[1] / "expectations" / "quarterly_temperature_features.yaml").write_text("expectations: []\n")
    change = load_change(root / name)
    assert change.id == "20240208143002_add_extreme_cold_hours"
    assert [operation.kind for operation in change.operations] == ["add_column"]


@pytest.mark.usefixtures("two_operations")
def test_the_example_of_scripts_loads(root: Path) -> None:
    name, text = example(1)
    (root / name).mkdir()
    for file, content in {"change.yaml": text, "deploy.sql": "SELECT 1", "revert.sql": "SELECT 1"}.items():
        (root / name / file).write_text(content, encoding="utf-8")
    assert [operation.kind for operation in load_change(root / name).operations] == ["sql"]


def test_the_page_tells_every_key() -> None:
    text = DOC.read_text(encoding="utf-8")
    for key in ChangeFile.model_fields:
        assert f"| `{key}` |" in text
