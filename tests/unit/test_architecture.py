"""Dependencies point one way, and the core knows no Airflow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins" / "schema_change"
#: Each layer, and the layers of the package it may import beside itself.
LAYERS: dict[str, set[str]] = {
    "core": set(),
    "hooks": {"core"},
    "triggers": {"core", "hooks"},
    "notifications": {"core", "hooks"},
    "operators": {"core", "hooks", "triggers", "notifications"},
    "factory": {"core", "hooks", "operators", "triggers", "notifications"},
    "ui": {"core"},
    "cli": {"core"},
}
WITHOUT_AIRFLOW = ("core", "cli")


def imports(file: Path) -> Iterator[str]:
    """Yield the modules a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def modules(layer: str) -> list[Path]:
    return sorted((PACKAGE / layer).rglob("*.py"))


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "schema_change" and len(parts) > 1 else None


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_the_layers_below_it(layer: str) -> None:
    allowed = {layer, *LAYERS[layer], None}
    wrong = [f"{f.relative_to(ROOT)}: {m}" for f in modules(layer) for m in imports(f) if layer_of(m) not in allowed]
    assert wrong == []


@pytest.mark.parametrize("layer", WITHOUT_AIRFLOW)
def test_airflow_is_imported_by_its_own_layers_only(layer: str) -> None:
    wrong = [f"{f.relative_to(ROOT)}: {m}" for f in modules(layer) for m in imports(f) if m.split(".")[0] == "airflow"]
    assert wrong == []


def test_every_package_is_a_known_layer() -> None:
    packages = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    assert packages <= set(LAYERS)


def test_dag_files_only_call_the_factory() -> None:
    allowed = {"factory", "hooks", None}
    wrong = [
        f"{f.name}: {m}" for f in sorted((ROOT / "dags").glob("*.py")) for m in imports(f) if layer_of(m) not in allowed
    ]
    assert wrong == []
    assert all(len(f.read_text(encoding="utf-8").splitlines()) < 30 for f in (ROOT / "dags").glob("*.py"))


def test_there_are_modules_to_look_at() -> None:
    assert len(modules("core")) > 10
    assert {"core", "hooks", "operators", "factory"} <= {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
