"""The demo's data: real observations loaded, and synthetic ones that come out the same everywhere."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

import pytest

from demo import generate, weather
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError


def test_real_weather_is_loaded(target: Target) -> None:
    counts = weather.load(target)
    assert counts == {
        "stations": 3,
        "hourly_observations": 26_115,
        "quarterly_temperature_features": 12,
        "flights": 336_776,
    }
    with target.connect("test") as connection:
        features = connection.execute(
            "SELECT station_id, year, quarter, temp_min_c, temp_max_c, valid_observations"
            " FROM public.quarterly_temperature_features"
        ).fetchall()
        versions = connection.execute("SELECT table_name, version FROM schema_change.schema_registry").fetchall()
    assert {row[:3]: row[3:] for row in features} == _features_from_file()
    assert sorted(versions) == [("flights", "v1.0.0"), ("quarterly_temperature_features", "v1.0.0")]


def _features_from_file() -> dict[tuple[str, int, int], tuple[Decimal, Decimal, int]]:
    hours: dict[tuple[str, int, int], list[Decimal]] = {}
    with (weather.source() / "weather.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["time_hour"])
            if row["temp"] != "NA":
                celsius = (Decimal(row["temp"]) - 32) * 5 / 9
                celsius = celsius.quantize(Decimal("0.1"), rounding=ROUND_HALF_UP)
                hours.setdefault((row["origin"], at.year, (at.month - 1) // 3 + 1), []).append(celsius)
    return {key: (min(values), max(values), len(values)) for key, values in hours.items()}


# Taken once from PostgreSQL 18; every server must give the same.
EXPECTED = {
    "stations": "92626f854358e70156297465fc872521",
    "hourly_observations": "4df6b7476b0d5d4f063744ce9cf9bcba",
    "quarterly_temperature_features": "91e63b141e69a4d460f60e55ec3fe1b8",
    "flights": "4544d363866f5830f0869b13a696c75d",
}


def test_generated_tables_are_the_same_on_every_server(target: Target) -> None:
    counts = weather.generate(target, rows=1_000, seed=7)
    assert counts == {
        "stations": 10,
        "hourly_observations": 4_000,
        "quarterly_temperature_features": 1_000,
        "flights": 1_000,
    }
    with target.connect("test") as connection:
        assert {table: weather.checksum(connection, table) for table in weather.TABLES} == EXPECTED
        hours = connection.execute("SELECT temp_c < -10 FROM public.hourly_observations").fetchall()
    cold = Counter(row[0] for row in hours)
    assert cold[True] > 100
    assert cold[False] > 1_000


def test_another_seed_gives_other_rows(target: Target) -> None:
    weather.generate(target, rows=1_000, seed=8)
    with target.connect("test") as connection:
        assert weather.checksum(connection, "hourly_observations") != EXPECTED["hourly_observations"]


def test_checksum_does_not_depend_on_the_session(target: Target) -> None:
    weather.generate(target, rows=10, seed=7)
    with target.connect("test") as connection:
        here = weather.checksum(connection, "hourly_observations")
        connection.execute("SET timezone = 'Asia/Tokyo'")
        assert weather.checksum(connection, "hourly_observations") == here


def test_a_database_that_is_not_empty_is_left_alone(target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    weather.generate(target, rows=10, seed=7)
    with target.connect("test") as connection:
        before = weather.row_counts(connection)
    parameters = target.parameters
    dsn = f"host={parameters['host']} port={parameters['port']} user=postgres dbname={parameters['dbname']}"
    assert generate.main(["--rows", "20", "--dsn", dsn]) == 1
    assert 'relation "stations" already exists' in capsys.readouterr().err
    with target.connect("test") as connection:
        assert weather.row_counts(connection) == before


def test_no_rows_is_refused(target: Target) -> None:
    with pytest.raises(ConfigurationError, match="cannot generate 0 rows"):
        weather.generate(target, rows=0, seed=1)
