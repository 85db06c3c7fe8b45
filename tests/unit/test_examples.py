"""The changes under ``include/sql/changes``: they load, follow one another, and are told and looked at."""

from __future__ import annotations

from schema_change.core.changes.load import load_changes
from tests import examples
from tests.airflow_home import ROOT

CHANGES = load_changes(ROOT / "include" / "sql" / "changes", expectations_root=ROOT / "include" / "expectations")


def test_every_example_loads() -> None:
    assert not CHANGES.broken


def test_every_example_is_looked_at_once_it_has_landed() -> None:
    assert {change.id for change in CHANGES.changes} == set(examples.OUTCOMES)
    assert {change.conn_id for change in CHANGES.changes} == set(examples.CHAINS)


def test_the_versions_of_a_table_follow_one_another() -> None:
    versions: dict[str, str | None] = {"quarterly_temperature_features": "v1.0.0", "flights": "v1.0.0"}
    for change in CHANGES.changes:
        if change.registry:
            assert change.registry.from_version == versions.get(change.registry.table), change.id
            versions[change.registry.table] = change.registry.to_version


def test_the_page_of_the_runbooks_names_every_example() -> None:
    page = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    assert all(f"[{c.id}]" in page for c in CHANGES.changes)
