"""The table of docs/operations/index.md: which locks each operation takes in each phase."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from schema_change.core.model import LockMode, Phase, Step

_PAGE = Path(__file__).parents[2] / "docs" / "operations" / "index.md"
_ROW = re.compile(r"^\| \[(?P<name>\w+)\]\(\w+\.md\) \|(?P<cells>.*)\|$", re.MULTILINE)
_LETTERS = {
    "AE": LockMode.ACCESS_EXCLUSIVE,
    "SRE": LockMode.SHARE_ROW_EXCLUSIVE,
    "S": LockMode.SHARE,
    "SUE": LockMode.SHARE_UPDATE_EXCLUSIVE,
    "RE": LockMode.ROW_EXCLUSIVE,
    "none": LockMode.ACCESS_SHARE,
    "yours": LockMode.ACCESS_EXCLUSIVE,
}


@cache
def strongest() -> dict[str, dict[Phase, LockMode | None]]:
    """Return the strongest lock that the page names, by operation and phase; None where it names no step."""
    found = {}
    for row in _ROW.finditer(_PAGE.read_text(encoding="utf-8")):
        cells = row["cells"].split("|")
        found[row["name"]] = {phase: _strongest(cell) for phase, cell in zip(Phase, cells, strict=False)}
    return found


def _strongest(cell: str) -> LockMode | None:
    return max((_LETTERS[word] for word in re.findall(r"\b\w+\b", cell) if word in _LETTERS), default=None)


def not_listed(operations: Iterable[str], steps: Iterable[Step]) -> list[str]:
    """Return the steps whose phase or lock the page does not know for any of the operations."""
    rows = [strongest()[name] for name in operations]
    found = []
    for step in steps:
        listed = [lock for row in rows if (lock := row[step.phase]) is not None]
        if not listed or step.lock > max(listed):
            found.append(f"{step.phase.value}: {step.title} takes {step.lock.name}")
    return found
