from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schema_change.core.changes.load import load_change, load_changes
from schema_change.core.errors import ChangeFileError, ConfigurationError
from tests.unit.core.changes.conftest import MINIMAL, AddColumn, Sql, Write

pytestmark = pytest.mark.usefixtures("two_operations")

FULL = """\
description: Hours below -10 °C per station and quarter
conn_id: weather
registry: {table: quarterly_temperature_features, from: null, to: v1.1.0, definition: {columns: [a]}}
operations:
  - add_column:
      table: public.quarterly_temperature_features
      column: {name: extreme_cold_hours, type: integer}
      fill: |
        (SELECT 1)
expectations: weather/features.yaml
extensions: [postgis]
waivers: {adding-a-field: the table is empty}
window: {from: 22:00, to: 04:00, timezone: Europe/Berlin}
contacts: {owner: dba@example.com}
"""


def suite(root: Path, text: str = "a: 1\n") -> Path:
    file = root.parents[1] / "expectations" / "weather" / "features.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def test_a_change_carries_everything_its_file_says(root: Path, write: Write) -> None:
    suite(root)
    change = load_change(write("20240208143002_add_extreme_cold_hours", FULL))
    assert change.id == "20240208143002_add_extreme_cold_hours"
    assert (change.version, change.name) == ("20240208143002", "add_extreme_cold_hours")
    assert change.conn_id == "weather"
    assert change.registry is not None
    assert (change.registry.from_version, change.registry.to_version) == (None, "v1.1.0")
    assert isinstance(change.operations[0], AddColumn)
    assert change.operations[0].fill == "(SELECT 1)\n"
    assert change.expectations == "weather/features.yaml"
    assert change.waivers == {"adding-a-field": "the table is empty"}
    assert str(change.window) == "22:00–04:00 Europe/Berlin"
    assert change.contacts == {"owner": "dba@example.com"}
    assert change.extensions == ("postgis",)
    assert change.canonical() == {
        "version": "20240208143002",
        "name": "add_extreme_cold_hours",
        "description": "Hours below -10 °C per station and quarter",
        "conn_id": "weather",
        "registry": {
            "table": "quarterly_temperature_features",
            "from": None,
            "to": "v1.1.0",
            "definition": {"columns": ["a"]},
        },
        "operations": [
            {
                "add_column": {
                    "table": "public.quarterly_temperature_features",
                    "column": {"name": "extreme_cold_hours", "type": "integer"},
                    "fill": "(SELECT 1)\n",
                }
            }
        ],
        "expectations": "weather/features.yaml",
        "waivers": {"adding-a-field": "the table is empty"},
        "window": {"from": "22:00:00", "to": "04:00:00", "timezone": "Europe/Berlin"},
        "contacts": {"owner": "dba@example.com"},
        "extensions": ["postgis"],
    }


def test_scripts_become_the_last_operation(write: Write) -> None:
    text = MINIMAL + "backfill: {table: t, column: a, expression: lower(b)}\n"
    change = load_change(write("004_a", text, deploy="SELECT 1;\r\n", revert="SELECT 2;", verify="SELECT 3;"))
    typed, raw = change.operations
    assert isinstance(typed, AddColumn)
    assert isinstance(raw, Sql)
    assert (raw.deploy, raw.revert, raw.verify) == ("SELECT 1;\n", "SELECT 2;", "SELECT 3;")
    assert raw.backfill is not None
    assert raw.backfill.expression == "lower(b)"


def test_changes_load_in_order_each_chained_to_the_one_before_on_its_connection(root: Path, write: Write) -> None:
    for folder in ("20240208_0001_d", "001_a", "20240208143002_e", "003_c"):
        write(folder)
    write("002_b", MINIMAL.replace("weather", "sales"))
    (root / "README.md").write_text("not a change")
    (root / "_drafts").mkdir()
    loaded = load_changes(root)
    assert not loaded.broken
    first, sales, second, third, last = loaded.changes
    assert [c.version for c in loaded.changes] == ["001", "002", "003", "20240208_0001", "20240208143002"]
    assert first.parent_checksum is None
    assert sales.parent_checksum is None
    assert second.parent_checksum == first.checksum
    assert third.parent_checksum == second.checksum
    assert last == load_change(root / last.id, parent=third)
    assert loaded.get("003_c") is second


def test_the_checksum_covers_what_is_done_and_the_chain(root: Path, write: Write) -> None:
    write("001_a")
    folder = write("002_b", MINIMAL, deploy="SELECT 1", revert="SELECT 2")
    before = load_changes(root).changes

    (folder / "change.yaml").write_text("# a comment\n\n" + MINIMAL + "contacts: {owner: me}\n")
    assert [c.checksum for c in load_changes(root).changes] == [c.checksum for c in before]

    (folder / "revert.sql").write_text("SELECT 3")
    after = load_changes(root).changes
    assert after[0] == before[0]
    assert after[1].checksum != before[1].checksum

    (root / "001_a" / "change.yaml").write_text(MINIMAL.replace("integer", "bigint"))
    assert [c.checksum for c in load_changes(root).changes] != [c.checksum for c in after]
    assert load_changes(root).changes[1].parent_checksum != after[1].parent_checksum


def test_the_hash_of_the_files_covers_every_byte_that_runs(root: Path, write: Write) -> None:
    file = suite(root)
    folder = write("001_a", FULL, deploy="SELECT 1", revert="SELECT 2")
    seen = {load_change(folder).files_sha256}
    for changed, text in (
        (folder / "change.yaml", FULL + "# a comment\n"),
        (folder / "deploy.sql", "SELECT 1 "),
        (folder / "verify.sql", "SELECT 1"),
        (file, "a: 2\n"),
    ):
        changed.write_text(text)
        seen.add(load_change(folder).files_sha256)
    assert len(seen) == 5


def test_the_folder_of_expectations_can_be_elsewhere(root: Path, write: Write, tmp_path: Path) -> None:
    folder = write("001_a", MINIMAL + "expectations: mine.yaml\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.yaml").write_text("a: 1\n")
    assert load_changes(root, elsewhere).changes[0] == load_change(folder, expectations_root=elsewhere)
    (elsewhere / "mine.yaml").rename(elsewhere / "mien.yaml")
    with pytest.raises(ChangeFileError, match=r"change\.yaml:5: expectations: there is no suite mine\.yaml") as caught:
        load_change(folder, expectations_root=elsewhere)
    assert caught.value.hint == "did you mean mien.yaml?"


@pytest.mark.parametrize(
    ("one", "two"), [("004_a", "4_b"), ("004_a", "004_b"), ("20240208_1430_a", "20240208143000_b")]
)
def test_two_changes_of_one_version_are_both_refused(root: Path, write: Write, one: str, two: str) -> None:
    write(one)
    write(two)
    write("001_ok")
    loaded = load_changes(root)
    assert [c.id for c in loaded.changes] == ["001_ok"]
    assert set(loaded.broken) == {root / one, root / two}
    assert two in str(loaded.broken[root / one])
    assert one in str(loaded.broken[root / two])


def test_a_broken_change_hides_no_other_and_blocks_new_runs_after_it(root: Path, write: Write) -> None:
    for folder in ("001_a", "003_c", "004_d"):
        write(folder)
    write("005_sales", MINIMAL.replace("weather", "sales"))
    whole = load_changes(root).changes
    write("002_b", "conn_id: 'weather'\ndescription: [\n")
    (root / "not a change").mkdir()
    loaded = load_changes(root)
    assert [c.id for c in loaded.changes] == ["001_a", "003_c", "004_d", "005_sales"]
    assert set(loaded.broken) == {root / "002_b", root / "not a change"}
    assert [c.blocked_by for c in loaded.changes] == [None, "002_b", "002_b", None]
    # What a run in progress compares stays the same; no checksum passes for one of a known history.
    assert [c.files_sha256 for c in loaded.changes] == [c.files_sha256 for c in whole]
    assert not {c.checksum for c in loaded.changes[1:3]} & {c.checksum for c in whole}
    loaded.changes[0].ensure_startable()
    with pytest.raises(ChangeFileError, match="002_b, which comes before it, is broken"):
        loaded.changes[1].ensure_startable()
    with pytest.raises(ChangeFileError, match="not valid YAML"):
        loaded.get("002_b")


def test_a_broken_change_of_an_unknown_connection_blocks_every_later_one(root: Path, write: Write) -> None:
    write("001_a")
    write("002_b", "")
    write("003_c", MINIMAL.replace("weather", "sales"))
    assert [c.blocked_by for c in load_changes(root).changes] == [None, "002_b"]


def test_an_unknown_change_is_an_error_with_the_nearest_name(root: Path, write: Write) -> None:
    write("001_add_hours")
    with pytest.raises(ConfigurationError, match="did you mean 001_add_hours"):
        load_changes(root).get("001_ad_hours")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_changes(root / "missing")


def test_a_parent_is_of_the_same_connection(write: Write) -> None:
    change = load_change(write("001_a"))
    with pytest.raises(ValueError, match="change of sales"):
        load_change(write("002_b"), parent=replace(change, conn_id="sales"))
