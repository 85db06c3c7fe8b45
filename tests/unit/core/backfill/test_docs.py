"""The page about backfills: its example loads, and its table tells every limit with its default."""

from __future__ import annotations

import re
from pathlib import Path

from schema_change.core.changes.load import load_change
from schema_change.core.surroundings.models import Throttle

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "backfills.md").read_text(encoding="utf-8")


def test_the_example_loads(tmp_path: Path) -> None:
    [(name, text)] = re.findall(r"^```yaml\n# include/sql/changes/(\w+)/change.yaml\n(.*?)^```", PAGE, re.M | re.S)
    folder = tmp_path / "sql" / "changes" / name
    folder.mkdir(parents=True)
    (folder / "change.yaml").write_text(text, encoding="utf-8")
    limits = load_change(folder).surroundings.throttle
    assert (limits.replica_lag_s, limits.wal_mb_per_s, limits.dead_rows) == (2, 20, 10_000_000)
    assert limits.sql is not None
    assert limits.prometheus is not None


def test_the_table_tells_every_limit_with_its_default() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    for name, field in Throttle.model_fields.items():
        [row] = [line for line in rows if f"`{name}`" in line]
        if isinstance(field.default, bool):
            assert str(field.default).lower() in row
        elif isinstance(field.default, int | float):
            assert f"{field.default:,}".replace(",", " ") in row
