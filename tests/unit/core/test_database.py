from __future__ import annotations

import stat
from pathlib import Path

import pytest

from schema_change.core.database import Target

DSN = "postgresql://ann:s3cr3t%3A@db.example:5433/shop?sslmode=require"


def test_a_target_is_read_from_a_url_and_shows_no_parameter() -> None:
    target = Target.from_dsn("shop", DSN)
    assert target.database == "shop"
    assert {"s3cr3t:", "ann", "db.example"} <= set(target.parameters.values())
    assert repr(target) == "Target(conn_id='shop')"


def test_the_database_is_the_users_when_none_is_named() -> None:
    assert Target("t", {"user": "ann"}).database == "ann"
    assert Target("t", {}).database == ""


def test_another_database_of_the_server_has_the_same_name_and_user() -> None:
    target = Target.from_dsn("shop", DSN)
    other = target.with_database("scratch")
    assert (other.database, other.conn_id) == ("scratch", "shop")
    assert {**other.parameters, "dbname": "shop"} == target.parameters


def test_a_client_program_gets_the_parameters_and_a_private_passfile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c search_path=elsewhere")
    monkeypatch.setenv("PGPASSWORD", "somebody else's")
    target = Target("t", {**Target.from_dsn("t", DSN).parameters, "password": r"a:b\c"})
    with target.client_environment() as environment:
        own = {k: v for k, v in environment.items() if k.startswith("PG") and k != "PGPASSFILE"}
        assert own == {
            "PGHOST": "db.example",
            "PGPORT": "5433",
            "PGUSER": "ann",
            "PGDATABASE": "shop",
            "PGSSLMODE": "require",
            "PGAPPNAME": "schema_change:client",
        }
        passfile = Path(environment["PGPASSFILE"])
        assert passfile.read_text() == "*:*:*:*:a\\:b\\\\c\n"
        assert stat.S_IMODE(passfile.stat().st_mode) == 0o600
        assert stat.S_IMODE(passfile.parent.stat().st_mode) == 0o700
        assert environment["PATH"]
    assert not passfile.exists()


def test_without_a_password_a_configured_passfile_is_used() -> None:
    with Target("t", {"host": "h", "passfile": "/etc/pgpass"}).client_environment() as environment:
        assert environment["PGPASSFILE"] == "/etc/pgpass"
