"""Change folders for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

TEXT = """
description: Hours below -10 °C
conn_id: {conn_id}
operations:
  - add_column:
      table: public.features
      column: {{name: extreme_{number}, type: integer}}
"""


def write_change(root: Path, number: int = 1, conn_id: str = "weather", text: str | None = None) -> Path:
    """Write one small change folder below ``root`` and return it."""
    folder = root / f"{number:03}_add_extreme_{number}"
    folder.mkdir(parents=True)
    (folder / "change.yaml").write_text(text or TEXT.format(conn_id=conn_id, number=number), encoding="utf-8")
    return folder
