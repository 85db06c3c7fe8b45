"""Whom a change concerns: what is made of its tables, and which statements touch them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.postgres import Server, free_port
from schema_change.core.binaries import installations
from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Connection, Target
from schema_change.core.names import Table
from schema_change.core.planning.history import read_history
from schema_change.core.planning.impact import find_impact, find_statements
from tests.bench import READINGS, Bench
from tests.conftest import VERSIONS
from tests.integration.planning.shop import SHOP, WITHOUT_DEPENDANTS

COLUMNS = {READINGS: frozenset({"note"})}
FILL = {
    "add_column": {"table": "readings", "column": {"name": "f", "type": "numeric"}, "fill": "readings.celsius * 9 / 5"}
}


def test_what_depends_on_a_table_is_listed(bench: Bench, connection: Connection) -> None:
    impact = find_impact(connection, read_catalog(connection), {READINGS: frozenset({"celsius"})})
    found = impact.dependants[READINGS]
    assert "view public.warm, made of id, celsius (changed here)" in {
        f.replace("celsius, id", "id, celsius") for f in found
    }
    assert any(f.startswith("foreign key remark_reading_fkey of public.remark") for f in found)
    assert "foreign key readings_station_fkey to public.station" in found
    assert any(f.startswith("publication everyone") for f in found)
    assert impact.functions == ("function public.noted()",)
    assert impact.roles == ("postgres",)


def test_without_the_extension_that_is_said(bench: Bench, connection: Connection) -> None:
    catalog = read_catalog(connection)
    statements = find_statements(connection, catalog, COLUMNS)
    assert (statements.uses, statements.problem) == ((), "pg_stat_statements is not installed in this database")
    connection.execute("CREATE EXTENSION pg_stat_statements")
    statements = find_statements(connection, catalog, COLUMNS)
    assert "pg_stat_statements cannot be read: pg_stat_statements must be loaded via" in statements.problem
    assert connection.execute("SELECT 1").fetchone() == (1,), "the session is still of use"


@pytest.fixture(params=VERSIONS, ids=lambda v: f"pg{v}")
def watched(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that keeps statistics of statements, which only a start-up setting brings."""
    found = next((i for i in installations() if i.major == request.param), None)
    if found is None:
        pytest.skip(f"PostgreSQL {request.param} is not installed here")
    folder = Path(tempfile.mkdtemp(prefix="pgwatched_"))
    folder.chmod(0o755)
    settings = {"shared_preload_libraries": "pg_stat_statements", "fsync": "off"}
    server = Server(found, folder / "data", free_port(), settings)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def test_statements_that_touch_the_table_are_found_with_calls_and_time(watched: Server) -> None:
    with watched.target().connect("test") as session:
        session.execute("SET search_path = public")
        session.execute(SHOP.encode())
        session.execute("CREATE SCHEMA stats; CREATE EXTENSION pg_stat_statements SCHEMA stats")
        session.execute(
            "CREATE ROLE clerk LOGIN; GRANT SELECT ON readings TO clerk; GRANT USAGE ON SCHEMA stats TO clerk"
        )
        session.execute("SELECT stats.pg_stat_statements_reset()")
        for number in (b"1", b"2", b"3"):
            session.execute(b"SELECT note FROM readings WHERE id = " + number)
        session.execute("SELECT count(*) FROM public.readings WHERE now() - interval '1 day' < now()")
        session.execute("SELECT most FROM warmest")
        session.execute("SELECT 'readings'")
        session.execute("UPDATE remark SET words = 'readings'")
        statements = find_statements(session, read_catalog(session), COLUMNS)
        found = {use.text: use for use in statements.uses}
        assert statements.problem == ""
        assert statements.notes == ()
        first = statements.uses[0]
        assert (first.text, first.calls, first.columns) == ("SELECT note FROM readings WHERE id = $1", 3, ("note",))
        assert first.mean_ms > 0
        through = found.pop("SELECT most FROM warmest")
        assert through.through == Table("public", "warmest")
        assert {text.partition(" WHERE")[0] for text in found} == {
            "SELECT note FROM readings",
            "SELECT count(*) FROM public.readings",
        }
        catalog = read_catalog(session)
    clerk = Target("target", {**watched.target().parameters, "user": "clerk"})
    with clerk.connect("test") as session:
        statements = find_statements(session, catalog, COLUMNS)
        assert statements.uses == ()
        assert "of other users; grant pg_read_all_stats to see them" in statements.notes[0]


def test_the_pace_of_earlier_backfills_is_measured(bench: Bench, connection: Connection) -> None:
    assert read_history(connection, "001").rows_per_second is None, "no registry yet"
    connection.execute(WITHOUT_DEPENDANTS)
    bench.write("001_fill", {"operations": [FILL]})
    run = bench.run(bench.request("001_fill", skip_backup=True, skip_rehearsal=True))
    assert run.error is None
    [(rows, seconds)] = connection.execute(
        "SELECT rows, extract(epoch FROM finished_at - started_at)::float FROM schema_change.step WHERE rows > 0"
    ).fetchall()
    history = read_history(connection, "002")
    assert history.rehearsal is None
    assert rows == 500
    assert history.rows_per_second == pytest.approx(rows / seconds, rel=0.01)
