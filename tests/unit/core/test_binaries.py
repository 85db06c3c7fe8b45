from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schema_change.core import binaries
from schema_change.core.binaries import BIN_VARIABLE, Installation, client_for, installations
from schema_change.core.errors import ConfigurationError


@pytest.fixture(autouse=True)
def looked_at_again() -> Iterator[None]:
    installations.cache_clear()
    yield
    installations.cache_clear()


def installed(folder: Path, version: str) -> Path:
    """A folder whose pg_dump says that it is of this version."""
    folder.mkdir()
    program = folder / "pg_dump"
    program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
    program.chmod(0o755)
    return folder


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Version 14.1, 16.3 and again 16.9, in this order of preference."""
    folders = [installed(tmp_path / v, v) for v in ("14.1", "16.3", "16.9")]
    monkeypatch.setattr(binaries, "_folders", lambda: [tmp_path, *folders])
    return folders


def test_the_first_of_a_major_version_wins(found: list[Path]) -> None:
    assert installations() == (Installation(found[0], 14), Installation(found[1], 16))
    assert installations()[0].tool("psql") == str(found[0] / "psql")


def test_a_configured_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine, other = installed(tmp_path / "mine", "97.1"), installed(tmp_path / "other", "98beta1")
    monkeypatch.setenv(BIN_VARIABLE, f"{mine}:{other}")
    assert installations()[:2] == (Installation(mine, 97), Installation(other, 98))


def test_a_program_that_does_not_run_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken, silent = installed(tmp_path / "broken", "17"), installed(tmp_path / "silent", "17")
    (broken / "pg_dump").write_text("#!/bin/sh\nexit 1\n")
    (silent / "pg_dump").write_text("#!/bin/sh\n")
    monkeypatch.setattr(binaries, "_folders", lambda: [broken, silent])
    assert installations() == ()


@pytest.mark.parametrize(("server", "client"), [(140005, 14), (150000, 16), (160002, 16)])
def test_the_client_is_of_the_servers_version_or_the_next_newer(found: list[Path], server: int, client: int) -> None:
    assert client_for(server).major == client


def test_a_client_that_is_too_old_is_never_chosen(found: list[Path]) -> None:
    with pytest.raises(ConfigurationError, match=r"version 17 or newer were found \(found: 14, 16\)") as caught:
        client_for(170000)
    assert BIN_VARIABLE in (caught.value.hint or "")
