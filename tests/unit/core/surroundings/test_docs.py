"""The examples of the page load as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schema_change.core.changes.load import load_change

PAGE = Path(__file__).resolve().parents[4] / "docs" / "around-a-change.md"
EXAMPLES = re.findall(r"^```yaml\n# include/sql/changes/(\w+)/change.yaml\n(.*?)^```", PAGE.read_text(), re.M | re.S)


@pytest.mark.parametrize(("folder", "text"), EXAMPLES, ids=[folder for folder, _ in EXAMPLES])
def test_an_example_loads(folder: str, text: str, tmp_path: Path) -> None:
    change = tmp_path / "sql" / "changes" / folder
    change.mkdir(parents=True)
    (change / "change.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "expectations").mkdir()
    (tmp_path / "expectations" / "quarterly_temperature_features.yaml").write_text("")
    around = load_change(change, expectations_root=tmp_path / "expectations").surroundings
    assert around.backfill_dag or around.soak


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) == 2
