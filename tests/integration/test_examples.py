"""Every change under ``include/sql/changes``, one behind the other, on the databases it was written for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from upath import UPath

from demo import weather
from schema_change.core.backup.checksums import checksums
from schema_change.core.catalog.read import read_catalog
from schema_change.core.changes.load import load_changes
from schema_change.core.changes.spec import Change
from schema_change.core.database import Connection, Target
from schema_change.core.errors import ChangeRolledBack
from schema_change.core.names import Table
from schema_change.core.stages.request import Options, Request
from schema_change.core.validation.quality import run_data_quality
from tests import examples
from tests.bench import FORWARD, Run

INCLUDE = Path(__file__).resolve().parents[2] / "include"
FAST: dict[str, Any] = {"skip_backup": True, "skip_rehearsal": True}
#: What is tried on a copy of the data first, as it is in earnest.
REHEARSED = {"20240208150000_split_station_metadata", "20240301130000_order_customer_foreign_key"}


@cache
def changes() -> tuple[Change, ...]:
    loaded = load_changes(INCLUDE / "sql" / "changes", expectations_root=INCLUDE / "expectations")
    assert not loaded.broken, loaded.broken
    return loaded.changes


def chain(conn_id: str) -> Iterator[Change]:
    return (change for change in changes() if change.conn_id == conn_id)


@dataclass
class Database:
    """One of the demo's databases, and runs of the examples on it."""

    target: Target
    artifacts: UPath

    def run(self, change: Change, *, stop_before: str | None = None) -> Run:
        options = Options() if change.id in REHEARSED else Options(**FAST)
        run = Run(
            Request(
                run_id=uuid4(),
                change=change,
                target=self.target,
                options=options,
                artifacts=self.artifacts,
                requested_by="tester",
                requested_from="test",
                expectations=INCLUDE / "expectations",
            )
        )
        for stage in FORWARD[: FORWARD.index(stop_before) if stop_before else None]:
            assert run.try_stage(stage), (change.id, stage, run.error, run.error and run.error.hint)
            if run.results[stage].status == "waiting":
                self.let_time_pass()
                assert run.try_stage(stage)
            if stage == "plan":
                run.approve()
        return run

    def let_time_pass(self) -> None:
        with self.target.connect("test") as connection:
            connection.execute(
                "UPDATE schema_change.stage SET started_at = started_at - interval '48 hours' WHERE stage = 'soak'"
            )

    def lands(self, change: Change) -> None:
        examples.apply_writes(self.target, change.id)
        run = self.run(change)
        run.finish()
        assert run.outcome_error is None, (change.id, run.outcome_error)
        with self.target.connect("test") as connection:
            examples.assert_outcome(connection, change.id)
            if change.registry:
                assert examples.versions(connection)[change.registry.table] == change.registry.to_version

    def comes_back(self, change: Change, *tables: Table, meanwhile: Callable[[Connection], None]) -> None:
        """Run a change up to contract, write, and roll it back; what it changed is as it was."""
        before = self.state(*tables)
        run = self.run(change, stop_before="contract")
        with self.target.connect("application") as connection:
            meanwhile(connection)
        run.finish()
        assert isinstance(run.outcome_error, ChangeRolledBack), run.outcome_error
        assert self.state(*tables) == before

    def warnings_of_the_day(self, conn_id: str) -> set[str]:
        """Run what is checked every day; nothing critical may be found."""
        target = replace(self.target, conn_id=conn_id)
        outcome = run_data_quality(target, INCLUDE / "expectations", run_id="daily")
        assert not outcome.blocking, outcome.blocking
        return {o.check_id for o in outcome.warnings}

    def state(self, *tables: Table) -> tuple[Any, ...]:
        with self.target.connect("state") as connection:
            rows = [c.to_json() for c in checksums(connection, tables)]
            return read_catalog(connection).fingerprint, rows


def test_the_examples_of_the_weather_land(target: Target, tmp_path: Path) -> None:
    weather.generate(target, rows=examples.ROWS, seed=7)
    database = Database(target, UPath(tmp_path))
    for change in chain("weather"):
        if change.id == "20240208150000_split_station_metadata":
            features = Table("public", "quarterly_temperature_features")
            database.comes_back(change, features, meanwhile=both_shapes_of_the_stations)
        if change.id == "20240213090000_cloudcover_v2":
            database.comes_back(change, meanwhile=both_versions_of_the_cloud_cover)
        database.lands(change)
    for change in chain("flights"):
        database.lands(change)
    assert database.warnings_of_the_day("weather") | database.warnings_of_the_day("flights") <= {"complete"}


def both_shapes_of_the_stations(connection: Connection) -> None:
    """Write each shape, see it in the other one, and write back what was there."""
    ours, theirs = (
        "public.quarterly_temperature_features SET station_name = %s WHERE station_id = 'S00000001'",
        "public.station_metadata SET name = %s WHERE station_id = 'S00000001'",
    )
    for name in ("Vienna", "Station 1"):
        connection.execute(b"UPDATE " + theirs.encode(), [name])
        assert names(connection) == {(name, name)}
    for name in ("Graz", "Station 1"):
        connection.execute(b"UPDATE " + ours.encode(), [name])
        assert names(connection) == {(name, name)}


def names(connection: Connection) -> set[Any]:
    query = (
        "SELECT station_name, name FROM public.quarterly_temperature_features"
        " JOIN public.station_metadata USING (station_id) WHERE station_id = 'S00000001'"
    )
    return set(connection.execute(query).fetchall())


def both_versions_of_the_cloud_cover(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO public.quarterly_cloudcover_features (station_id, year, quarter, cloud_cover_mean_oktas) "
        "SELECT station_id, 2012, 1, 6 FROM public.station_metadata WHERE station_id = 'S00000001'"
    )
    assert connection.execute("SELECT cloud_cover_mean_pct FROM public.cloudcover_features").fetchall() == [(75,)]
    connection.execute("UPDATE public.quarterly_cloudcover_features_v2 SET cloud_cover_mean_pct = 25")
    old = "SELECT cloud_cover_mean_oktas FROM public.quarterly_cloudcover_features"
    assert connection.execute(old).fetchall() == [(2,)]
    connection.execute("DELETE FROM public.quarterly_cloudcover_features_v2")
    assert connection.execute(old).fetchall() == []


def test_the_examples_of_the_shop_land(target: Target, tmp_path: Path) -> None:
    with target.connect("load") as connection, connection.transaction():
        weather.run_script(connection, "shop")
        connection.execute("DELETE FROM public.orders WHERE id > 2000")
        connection.execute("DELETE FROM public.order_items WHERE order_id BETWEEN 2001 AND 20000")
    database = Database(target, UPath(tmp_path))
    assert database.warnings_of_the_day("shop") == {"customer_known"}
    for change in chain("shop"):
        if change.id == "20240301110000_order_total_to_numeric":
            database.comes_back(change, Table("public", "orders"), meanwhile=both_shapes_of_the_total)
        database.lands(change)
    assert database.warnings_of_the_day("shop") == set()


def both_shapes_of_the_total(connection: Connection) -> None:
    connection.execute("UPDATE public.orders SET total = total + 1 WHERE id = 7")
    connection.execute("UPDATE public.orders SET total = total - 1 WHERE id = 7")
