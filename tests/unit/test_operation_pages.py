"""Every operation has a page, and the change files on it load and plan themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schema_change.core.changes.load import load_changes
from schema_change.core.operations import catalogue

PAGES = Path(__file__).resolve().parents[2] / "docs" / "operations"
_EXAMPLE = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_operation_has_a_page_and_every_page_an_operation() -> None:
    pages = {page.stem for page in PAGES.glob("*.md")} - {"index"}
    assert pages == set(catalogue())


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda p: p.stem)
def test_examples_load(page: Path, tmp_path: Path) -> None:
    examples = [e for e in _EXAMPLE.findall(page.read_text(encoding="utf-8")) if "operations:" in e]
    assert examples or page.stem == "index", "no example"
    for number, example in enumerate(examples, 1):
        folder = tmp_path / f"{number:03}_example"
        folder.mkdir()
        whole = example if "conn_id:" in example else f"description: an example\nconn_id: shop\n{example}"
        (folder / "change.yaml").write_text(whole, encoding="utf-8")
    changes = load_changes(tmp_path)
    assert not changes.broken, changes.broken
    kinds = {operation.kind for change in changes.changes for operation in change.operations}
    assert page.stem == "index" or page.stem in kinds
