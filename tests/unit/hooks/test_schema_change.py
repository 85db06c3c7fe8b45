from __future__ import annotations

import pytest

from schema_change.core.errors import ConfigurationError
from schema_change.hooks.schema_change import target_of


def test_a_connection_becomes_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_WEATHER",
        '{"conn_type": "postgres", "host": "db", "port": 5433, "login": "ann", "password": "hunter2",'
        ' "schema": "weather", "extra": {"sslmode": "require", "options": "-c role=owner", "cursor": "dictcursor"}}',
    )
    target = target_of("weather")
    assert target.conn_id == "weather"
    assert dict(target.parameters) == {
        "host": "db",
        "port": 5433,
        "user": "ann",
        "password": "hunter2",
        "dbname": "weather",
        "sslmode": "require",
        "options": "-c role=owner",
    }
    assert "hunter2" not in repr(target)


def test_what_is_not_given_is_left_to_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WEATHER", "postgresql://db/weather")
    assert dict(target_of("weather").parameters) == {"host": "db", "dbname": "weather"}


def test_another_kind_of_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "mysql://db/shop")
    with pytest.raises(ConfigurationError, match="of type mysql"):
        target_of("shop")


def test_a_connection_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no connection nowhere"):
        target_of("nowhere")
