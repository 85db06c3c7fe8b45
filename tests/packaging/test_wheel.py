"""The wheel has all it needs, nothing of the user's, and works where this repository is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql

from demo.postgres import Server
from schema_change.core.binaries import BIN_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins" / "schema_change"
SQL_FOLDERS = ("registry", "queries", "checks", "warehouse")
CHANGE = """
description: a test
conn_id: target
operations:
  - add_column:
      table: public.readings
      column: {name: fahrenheit, type: numeric}
      fill: readings.celsius * 9 / 5 + 32
"""


def find_uv() -> list[str]:
    """Return the command that runs uv, which make install may have put beside the environment; skip without one."""
    for command in (["uv"], [str(ROOT / ".uv" / "bin" / "uv")], [sys.executable, "-m", "uv"]):
        program = shutil.which(command[0])
        found = [program or "", *command[1:]]
        if program and subprocess.run([*found, "--version"], capture_output=True, check=False).returncode == 0:
            return found
    pytest.skip("uv is not installed")


def uv(*arguments: str | Path) -> None:
    """Run uv in the repository, without what names the environment of these tests."""
    environment = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    command = [*find_uv(), *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--quiet", "--wheel", "--out-dir", folder)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_has_every_file_of_the_package_and_the_sql_it_loads(wheel: Path) -> None:
    files = {
        f"schema_change/{f.relative_to(PACKAGE).as_posix()}"
        for f in PACKAGE.rglob("*")
        if f.is_file() and "__pycache__" not in f.parts
    }
    tree = ROOT / "include" / "sql"
    files |= {
        f"schema_change/sql/{f.relative_to(tree).as_posix()}" for n in SQL_FOLDERS for f in (tree / n).rglob("*.sql")
    }
    assert "schema_change/py.typed" in files
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert shipped == files


def test_the_users_changes_and_the_tests_are_not_shipped(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        assert not [n for n in archive.namelist() if n.endswith("change.yaml") or "/changes/2" in n]
    assert {top for top in tops if not top.endswith(".dist-info")} == {"schema_change"}


def test_every_sql_folder_the_code_loads_from_is_shipped() -> None:
    """A folder added to include/sql must be added to the wheel's configuration, or be the user's."""
    folders = {f.name for f in (ROOT / "include" / "sql").iterdir() if f.is_dir()}
    assert folders == {*SQL_FOLDERS, "changes"}


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel and its locked dependencies only, and a folder far from the repository."""

    bin: Path
    home: Path
    environment: dict[str, str]

    def run(self, program: str, *arguments: str, **environment: str) -> str:
        result = subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.home,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
        return result.stdout

    def airflow(self, *arguments: str) -> list[dict[str, Any]]:
        # Airflow may log before it answers; the answer is the last line.
        answer: list[dict[str, Any]] = json.loads(self.run("airflow", *arguments, "-o", "json").splitlines()[-1])
        return answer


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    constraints, venv, home = folder / "constraints.txt", folder / "venv", folder / "home"
    home.mkdir()
    uv("export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--output-file", constraints)
    uv("venv", "--quiet", "--python", sys.executable, venv)
    uv("pip", "install", "--quiet", "--python", venv / "bin" / "python", "--constraints", constraints, wheel)
    environment = {
        "PATH": f"{venv / 'bin'}:/usr/bin:/bin",
        "HOME": str(home),
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONWARNINGS": "ignore",
    }
    return Installed(venv / "bin", home, environment)


@pytest.mark.slow
def test_airflow_finds_the_provider(installed: Installed) -> None:
    providers = {p["package_name"]: p for p in installed.airflow("providers", "list")}
    assert providers["airflow-provider-schema-change"]["version"]


@pytest.mark.slow
def test_airflow_loads_the_plugin_from_its_entry_point(installed: Installed) -> None:
    (plugin,) = (p for p in installed.airflow("plugins") if p["name"] == "schema_change")
    assert plugin["source"].startswith("airflow-provider-schema-change==")


@pytest.mark.slow
def test_the_package_finds_its_own_data(installed: Installed) -> None:
    script = """
import json
from importlib.resources import files
import schema_change
from schema_change.core import sqlfiles
from schema_change.core.journal import registry
from schema_change.core.templates import render
print(json.dumps({
    "package": schema_change.__file__,
    "sql": str(sqlfiles.root()),
    "block": sqlfiles.block("queries/journal", "is_installed").as_string(None),
    "registry": list(registry.migrations()),
    "schema": json.loads((files("schema_change.core.changes") / "change.schema.json").read_text())["type"],
    "style": render("style.html"),
}))
"""
    found = json.loads(installed.run("python", "-c", script))
    packages = str(installed.bin.parent / "lib")
    assert found["package"].startswith(packages)
    assert found["sql"].startswith(packages)
    assert "registry_version" in found["block"]
    assert found["registry"][0] == 1
    assert found["schema"] == "object"
    assert "<style" in found["style"]


@pytest.mark.slow
def test_the_command_explains_itself(installed: Installed) -> None:
    assert {"apply", "plan", "rollback", "restore"} <= set(installed.run("schema-change", "--help").split())


@pytest.fixture
def server(server_18: Server) -> Server:
    """One version is enough: what is tested is the package."""
    return server_18


@pytest.mark.slow
def test_a_change_lands_on_a_real_server(installed: Installed, server: Server) -> None:
    name = f"wheel_{uuid4().hex[:8]}"
    change = installed.home / "include" / "sql" / "changes" / "001_fahrenheit"
    change.mkdir(parents=True)
    (change / "change.yaml").write_text(CHANGE, encoding="utf-8")
    target = server.target(name)
    with server.target().connect("test") as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            with target.connect("test") as session:
                session.execute("CREATE TABLE public.readings (id integer PRIMARY KEY, celsius numeric)")
                session.execute("INSERT INTO public.readings SELECT g, g FROM generate_series(1, 100) AS g")
            url = f"postgresql://postgres@127.0.0.1:{server.port}/{name}"
            # The client tools of these tests' environment are not in the new one.
            tools = {BIN_VARIABLE: str(server.installation.bin)}
            said = installed.run("schema-change", "apply", "001_fahrenheit", "--yes", "--target", url, **tools)
            assert "validate" in said
            with target.connect("test") as session:
                query = "SELECT sum(fahrenheit - celsius * 9 / 5 - 32), count(fahrenheit) FROM public.readings"
                assert session.execute(query).fetchall() == [(0, 100)]
                query = "SELECT version, success FROM schema_change.schema_migrations"
                assert session.execute(query).fetchall() == [("001_fahrenheit", True)]
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
