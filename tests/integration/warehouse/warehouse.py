"""A small warehouse: two tenants with databases of their own, a template, and some days of a year.

It is the same day there whenever the tests run, so that none breaks at midnight or at New Year.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from schema_change.core.database import Connection, Target
from schema_change.core.warehouse.toolkit import install

#: What the warehouse takes for today; the sources have rows from the first day on.
TODAY = dt.date(2026, 6, 17)
FIRST = TODAY - dt.timedelta(days=3)
_STOPPED_CLOCK = f"""
CREATE OR REPLACE FUNCTION _wh.current_date_utc(offset_days integer DEFAULT 0) RETURNS date
LANGUAGE sql STABLE AS $body$ SELECT '{TODAY}'::date + offset_days $body$
"""
TENANTS = {"landb-prod": "landb", "bistro-prod": "bistro"}
TEMPLATE = "foodlogstats"
QUERY = """
SELECT l.id, s.name AS store, l.weight, l.logged_time{more}
FROM foodlog l JOIN store s ON l.store_id = s.id
WHERE l.logged_time >= '{{TARGET_DATE}} 00:00:00+00'::TIMESTAMPTZ
  AND l.logged_time < '{{TARGET_DATE}} 00:00:00+00'::TIMESTAMPTZ + INTERVAL '1 day'
"""
COLUMNS = "id BIGINT, store VARCHAR(40), weight NUMERIC(10, 2), logged_time TIMESTAMPTZ{more}"
INDEXES = """CREATE UNIQUE INDEX idx_{SCHEMA}_{VIEW_NAME}_id ON {SCHEMA}.{VIEW_NAME} (id);
CREATE INDEX idx_{SCHEMA}_{VIEW_NAME}_logged_time ON {SCHEMA}.{VIEW_NAME} (logged_time);"""
SOURCE = """
CREATE TABLE store (id integer PRIMARY KEY, name text);
INSERT INTO store VALUES (1, 'north'), (2, 'south');
CREATE TABLE foodlog (
    id bigint PRIMARY KEY, store_id integer, weight numeric, logged_time timestamptz, waste_category text
);
INSERT INTO foodlog
SELECT row_number() OVER (), 1 + g %% 2, g * 0.5, day + g * interval '1 hour',
    CASE WHEN g %% 3 = 0 THEN 'peel' ELSE 'rest' END
FROM generate_series(%(first)s::date, %(last)s::date, interval '1 day') AS day, generate_series(0, 4) AS g
"""


@dataclass(frozen=True)
class Warehouse:
    """A warehouse, its administrator's session, and the tenants' databases by schema."""

    session: Connection
    sources: dict[str, Target]

    def one(self, query: str, *values: Any) -> Any:
        """Return the first value of a query."""
        row = self.session.execute(query.encode(), values or None).fetchone()
        return row[0] if row else None

    def describe(self, user: str = "postgres") -> None:
        """Say what the template is, and how the tenants are reached, whose databases know the warehouse as ``user``."""
        self.session.execute(
            "INSERT INTO _wh.mv_templates (template_name, query_template, column_definitions, indexes)"
            " VALUES (%s, %s, %s, %s)",
            [TEMPLATE, QUERY.format(more=""), COLUMNS.format(more=""), INDEXES],
        )
        for tenant, schema in TENANTS.items():
            p = self.sources[schema].parameters
            self.session.execute(
                "INSERT INTO _wh.tenant_connections (tenant_name, host, port, dbname, username, password)"
                " VALUES (%s, %s, %s, %s, %s, 's3cret')",
                [tenant, p["host"], int(str(p["port"])), p["dbname"], user],
            )

    def build(self) -> None:
        """Make the days, the tenants' views and the public view, as the runbook does."""
        for tenant, schema in TENANTS.items():
            window = "SELECT _wh.update_mv_window_by_template(%s, %s, %s, %s::date, _wh.current_date_utc())"
            result = self.one(window, TEMPLATE, tenant, schema, FIRST)
            assert result["error_count"] == 0, result
        assert self.one("SELECT _wh.update_public_view_by_template(%s)", TEMPLATE) is True

    def rows(self) -> dict[str, tuple[Any, ...]]:
        """Return how many rows the public view and each day of each tenant have, and their checksums."""
        days = "SELECT format('%%I.%%I', schema_name, part_name) FROM _wh.parts_of(%s) WHERE NOT is_table"
        names = [f"public.{TEMPLATE}", *(name for (name,) in self.session.execute(days, [TEMPLATE]))]
        query = "SELECT count(*), sum(hashtextextended(d::text, 0)) FROM {} AS d"
        return {name: self.session.execute(query.format(name).encode()).fetchall()[0] for name in names}

    def template(self, more_query: str = "", more_columns: str = "", more_indexes: str = "") -> None:
        """Update the template, as the runbook's administrator does by hand."""
        self.session.execute(
            "UPDATE _wh.mv_templates SET query_template = %s, column_definitions = %s, indexes = %s"
            " WHERE template_name = %s",
            [QUERY.format(more=more_query), COLUMNS.format(more=more_columns), INDEXES + more_indexes, TEMPLATE],
        )

    def year_table(self, schema: str, year: int) -> None:
        """Make the table of a finished year with two rows, as an installation has it from its past."""
        name = f"{schema}.{TEMPLATE}_{year}"
        columns = COLUMNS.format(more="")
        self.session.execute(f"CREATE TABLE {name} ({columns})".encode())
        rows = f"(1, 'old', 1.5, '{year}-05-01'), (2, 'old', 2.5, '{year}-06-01')"
        self.session.execute(f"INSERT INTO {name} VALUES {rows}".encode())


def install_with_a_stopped_clock(session: Connection) -> None:
    """Install the toolkit, in which it is always the same day."""
    install(session)
    session.execute(_STOPPED_CLOCK.encode())


@pytest.fixture
def sources(new_database: Callable[[], Target]) -> dict[str, Target]:
    found = {}
    for schema in TENANTS.values():
        found[schema] = target = new_database()
        with target.connect("test") as session:
            session.execute("SET search_path = public")
            for statement in SOURCE.split(";"):
                values = {"first": FIRST, "last": TODAY} if "%(" in statement else None
                session.execute(statement.encode(), values)
    return found


@pytest.fixture
def empty(target: Target, sources: dict[str, Target]) -> Iterator[Warehouse]:
    """A warehouse with its toolkit, a template and connections, and nothing else."""
    with target.connect("admin") as session:
        session.execute("SET search_path = public")
        install_with_a_stopped_clock(session)
        warehouse = Warehouse(session, sources)
        warehouse.describe()
        yield warehouse


@pytest.fixture
def warehouse(empty: Warehouse) -> Warehouse:
    """The same with days, two finished years, and all views."""
    for schema in TENANTS.values():
        empty.session.execute(f"CREATE SCHEMA {schema}".encode())
        for year in (TODAY.year - 2, TODAY.year - 1):
            empty.year_table(schema, year)
    empty.build()
    return empty
