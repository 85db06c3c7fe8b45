from __future__ import annotations

import importlib.metadata
import json
import runpy
from pathlib import Path

import airflow
import pytest
from airflow import plugins_manager
from airflow._shared.module_loading.file_discovery import find_path_from_directory
from jsonschema import validate

from schema_change.get_provider_info import get_provider_info
from schema_change.plugin import SchemaChangePlugin
from tests.airflow_home import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


def test_airflow_accepts_the_description_of_the_provider() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text(encoding="utf-8"))
    validate(get_provider_info(), schema)


def test_every_module_the_provider_names_exists() -> None:
    info = get_provider_info()
    for part in ("operators", "hooks", "triggers"):
        for module in info[part][0]["python-modules"]:
            assert (ROOT / "plugins" / f"{module.replace('.', '/')}.py").is_file(), module


def test_the_entry_points_lead_to_the_provider_and_the_plugin() -> None:
    def load(group: str, name: str) -> object:
        found = [
            e for e in importlib.metadata.entry_points(group=group, name=name) if e.module.startswith("schema_change.")
        ]
        assert len(found) == 1
        return found[0].load()

    assert load("airflow.plugins", "schema_change") is SchemaChangePlugin
    assert load("apache_airflow_provider", "provider_info") is get_provider_info


def test_the_plugin_is_there_once_and_without_an_error() -> None:
    """The tests' Airflow has this repository's plugins folder, and the package is installed."""
    plugins, errors = plugins_manager._get_plugins()
    assert [p.name for p in plugins if p.name == "schema_change"] == ["schema_change"]
    assert errors == {}


def test_airflow_looks_at_no_module_of_the_package_for_plugins() -> None:
    found = {Path(path).name for path in find_path_from_directory(ROOT / "plugins", ".airflowignore")}
    assert {name for name in found if name.endswith(".py")} == {"schema_change_plugin.py"}


@pytest.mark.parametrize("installed", [True, False])
def test_the_module_in_the_plugins_folder_steps_aside_for_the_installed_package(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())
    names = runpy.run_path(str(ROOT / "plugins" / "schema_change_plugin.py"))
    assert ("SchemaChangePlugin" in names) is not installed
