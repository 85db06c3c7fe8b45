from __future__ import annotations

import json
import os

import pytest

from schema_change.cli.targets import resolve
from schema_change.core.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PG", "AIRFLOW_CONN_")):
            monkeypatch.delenv(name)


URL = "postgresql://me:s%40cret@db.Example.com:5433/weather?sslmode=require&cursor=dictcursor"
PARAMETERS = {
    "host": "db.Example.com",
    "port": 5433,
    "user": "me",
    "password": "s@cret",
    "dbname": "weather",
    "sslmode": "require",
}
JSON = {
    "conn_type": "postgres",
    "host": "db.Example.com",
    "port": 5433,
    "login": "me",
    "password": "s@cret",
    "schema": "weather",
    "extra": {"sslmode": "require", "cursor": "dictcursor"},
}


@pytest.mark.parametrize("text", [URL, json.dumps(JSON), json.dumps({**JSON, "extra": json.dumps(JSON["extra"])})])
def test_airflows_setting_serves_both(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WEATHER", text)
    target = resolve("weather", None)
    assert target.conn_id == "weather"
    assert dict(target.parameters) == PARAMETERS


def test_another_connection_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "postgres://h/d?__extra__=%7B%22sslmode%22%3A%22disable%22%7D")
    target = resolve("weather", "other")
    assert (target.conn_id, dict(target.parameters)) == (
        "weather",
        {"host": "h", "dbname": "d", "sslmode": "disable"},
    )


def test_programs_started_with_an_environment_of_their_own_get_what_libpq_would_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", "from-env")
    monkeypatch.setenv("PGPORT", "5555")
    target = resolve("weather", "postgresql://me@h:5432/d")
    assert target.parameters["password"] == os.environ["PGPASSWORD"]
    assert target.parameters["port"] == "5432"
    assert "from-env" not in repr(target)


@pytest.mark.parametrize(
    "given",
    ["postgresql://me:hush@h/d", "host=h password=hush", "postgresql://h/d?password=hush", "host=h sslpassword=hush"],
)
def test_a_password_in_argv_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match="command line") as caught:
        resolve("weather", given)
    assert "PGPASSWORD" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_what_cannot_be_read_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve("weather", "postgresql//me:hush@h")
    assert "hush" not in str(caught.value)
    for text in ('{"conn_type": hush}', '{"host": "hush"}', "postgresql://h:hush/d"):
        monkeypatch.setenv("AIRFLOW_CONN_WEATHER", text)
        with pytest.raises(ConfigurationError, match="AIRFLOW_CONN_WEATHER") as caught:
            resolve("weather", None)
        assert "hush" not in str(caught.value)
        assert caught.value.__suppress_context__


def test_a_missing_setting_and_another_kind_of_database(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="AIRFLOW_CONN_WEATHER is not set"):
        resolve("weather", None)
    monkeypatch.setenv("AIRFLOW_CONN_WEATHER", "mysql://h/d")
    with pytest.raises(ConfigurationError, match="mysql"):
        resolve("weather", None)
