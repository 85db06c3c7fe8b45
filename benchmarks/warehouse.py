"""A generated warehouse: tenants with source databases of their own, finished years as tables, this year by day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from benchmarks.bench import SETTINGS, Bench
from demo.postgres import Server, free_port
from schema_change.core.database import Connection, Target
from schema_change.core.warehouse.toolkit import install

TEMPLATE = "foodlogstats"
#: One read of the public view locks every day of every tenant, and each of its indexes.
LOCKS = "1024"
#: In UTC, and for the whole run: also when that goes on past midnight.
_YESTERDAY = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)

_DIMENSIONS = ("store", "station", "region", "action", "pan", "category", "reason", "client")
_SOURCE = """
CREATE TABLE foodlog (
    id bigint PRIMARY KEY, store_id int, station_id int, region_id int, action_id int, pan_id int, category_id int,
    reason_id int, client_id int, name text, quantity int, weight numeric(10,2), validation_status text,
    logged_time timestamptz, flags text, waste_category text
);
SELECT setseed(0.42);
INSERT INTO foodlog
SELECT
    row_number() OVER (), 1 + n %% 20, 1 + n %% 7, 1 + n %% 5, 1 + n %% 9, 1 + n %% 12, 1 + n %% 15,
    1 + n %% 8, 1 + n %% 3,
    'item ' || n %% 50, n %% 10, round((random() * 20)::numeric, 2), CASE WHEN n %% 4 = 0 THEN 'open' ELSE 'valid' END,
    day + random() * interval '23 hours', CASE WHEN n %% 11 = 0 THEN 'late' END,
    (ARRAY['peel', 'plate', 'spoiled', 'overcooked'])[1 + n %% 4]
FROM generate_series(%(first)s::date, %(last)s::date, interval '1 day') AS day, generate_series(1, %(rows)s) AS n;
CREATE INDEX ON foodlog (logged_time);
"""
QUERY = """
SELECT
    l.id,
    s.name AS store,
    st.name AS station,
    l.validation_status,
    r.name AS region,
    l.action_id AS action_taken_id,
    a.name AS action_taken,
    l.name,
    l.quantity,
    c.rate AS average_weight,
    p.name AS pan_name,
    l.weight,
    c.name AS food_category,
    c.rate AS cost_per_lb,
    p.rate AS target_weight,
    r.rate AS price_per_lb,
    rs.name AS action_reason,
    cl.id AS client_id,
    l.logged_time,
    l.flags
FROM foodlog l
JOIN store s ON l.store_id = s.id
JOIN station st ON l.station_id = st.id
JOIN region r ON l.region_id = r.id
JOIN action a ON l.action_id = a.id
JOIN pan p ON l.pan_id = p.id
JOIN category c ON l.category_id = c.id
JOIN reason rs ON l.reason_id = rs.id
JOIN client cl ON l.client_id = cl.id
WHERE l.logged_time >= '{TARGET_DATE} 00:00:00+00'::TIMESTAMPTZ
  AND l.logged_time < '{TARGET_DATE} 00:00:00+00'::TIMESTAMPTZ + INTERVAL '1 day'
"""
COLUMNS = """
id BIGINT, store TEXT, station TEXT, validation_status TEXT, region TEXT, action_taken_id INTEGER, action_taken TEXT,
name TEXT, quantity INTEGER, average_weight NUMERIC(10,2), pan_name TEXT, weight NUMERIC(10,2), food_category TEXT,
cost_per_lb NUMERIC(10,2), target_weight NUMERIC(10,2), price_per_lb NUMERIC(10,2), action_reason TEXT,
client_id INTEGER, logged_time TIMESTAMPTZ, flags TEXT
"""
INDEXES = """
CREATE UNIQUE INDEX idx_{SCHEMA}_{VIEW_NAME}_id ON {SCHEMA}.{VIEW_NAME} (id);
CREATE INDEX idx_{SCHEMA}_{VIEW_NAME}_logged_time ON {SCHEMA}.{VIEW_NAME} (logged_time);
CREATE INDEX idx_{SCHEMA}_{VIEW_NAME}_store ON {SCHEMA}.{VIEW_NAME} (store);
CREATE INDEX idx_{SCHEMA}_{VIEW_NAME}_action_taken_id ON {SCHEMA}.{VIEW_NAME} (action_taken_id);
"""


@dataclass(frozen=True)
class Size:
    """How large a warehouse is: tenants, days of the current year, finished years, rows of a day and tenant."""

    tenants: int = 6
    days: int | None = None
    years: int = 2
    rows: int = 40

    @property
    def last(self) -> dt.date:
        """Return the last day that is over."""
        return _YESTERDAY

    @property
    def first(self) -> dt.date:
        """Return the first day that has a view of its own."""
        start = self.last.replace(month=1, day=1)
        return start if self.days is None else max(start, self.last - dt.timedelta(days=self.days - 1))

    @property
    def schemas(self) -> list[str]:
        """Return the tenants' schemas."""
        return [f"tenant{n}" for n in range(1, self.tenants + 1)]


@contextmanager
def server_of(bench: Bench) -> Iterator[Server]:
    """Start a server with room for the locks of a read of everything."""
    folder = bench.folder / "warehouse"
    settings = {**SETTINGS, "max_locks_per_transaction": LOCKS, "shared_buffers": "1GB"}
    server = Server(bench.server.installation, folder, free_port(), settings)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")


def make_sources(server: Server, size: Size) -> None:
    """Make the tenants' databases, all alike, with the rows of every year."""
    with server.target().connect("bench") as admin:
        first, *others = size.schemas
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(f"source_{first}")))
        with server.target(f"source_{first}").connect("bench") as session:
            session.execute("SET search_path = public")
            for name in _DIMENSIONS:
                table = sql.Identifier(name)
                session.execute(
                    sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, name text, rate numeric(10,2))").format(table)
                )
                rows = "INSERT INTO {} SELECT n, {} || n, n * 1.25 FROM generate_series(1, 30) AS n"
                session.execute(sql.SQL(rows).format(table, sql.Literal(f"{name} ")))
            oldest = size.last.replace(year=size.last.year - size.years, month=1, day=1)
            words = {"first": oldest, "last": size.last + dt.timedelta(days=1), "rows": size.rows}
            for statement in filter(str.strip, _SOURCE.split(";\n")):
                session.execute(statement.encode(), words if "%(" in statement else None)
            session.execute("VACUUM ANALYZE")
        for other in others:
            names = sql.Identifier(f"source_{other}"), sql.Identifier(f"source_{first}")
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))


def make_warehouse(server: Server, name: str, size: Size) -> Target:
    """Make the warehouse: toolkit, tenants, finished years as tables, the days of this year, all views."""
    with server.target().connect("bench") as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    target = server.target(name)
    with target.connect("bench") as session:
        session.execute("SET search_path = public")
        install(session)
        session.execute(
            "INSERT INTO _wh.mv_templates (template_name, query_template, column_definitions, indexes)"
            " VALUES (%s, %s, %s, %s)",
            [TEMPLATE, QUERY, COLUMNS, INDEXES],
        )
        for schema in size.schemas:
            _tenant(session, server.target(f"source_{schema}"), schema, size)
        session.execute("SELECT _wh.update_public_view_by_template(%s)", [TEMPLATE])
        session.execute("VACUUM ANALYZE")
    return target


def _tenant(session: Connection, source: Target, schema: str, size: Size) -> None:
    p = source.parameters
    session.execute(
        "INSERT INTO _wh.tenant_connections (tenant_name, host, port, dbname, username) VALUES (%s, %s, %s, %s, %s)",
        [f"{schema}-prod", p["host"], int(str(p["port"])), p["dbname"], p["user"]],
    )
    session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    for year in range(size.last.year - size.years, size.last.year):
        table = sql.Identifier(schema, f"{TEMPLATE}_{year}")
        session.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(COLUMNS)))
        whole = QUERY.replace("{TARGET_DATE} 00:00:00+00'::TIMESTAMPTZ + INTERVAL '1 day'", f"{year + 1}-01-01'")
        query = whole.replace("{TARGET_DATE}", f"{year}-01-01")
        rows = sql.SQL("INSERT INTO {} SELECT * FROM public.dblink({}, {}) AS s ({})")
        server = sql.Literal(f"wh_{schema}-prod")
        session.execute(rows.format(table, server, sql.Literal(query), sql.SQL(COLUMNS)))
        session.execute(sql.SQL("CREATE UNIQUE INDEX ON {} (id)").format(table))
    session.execute(
        "SELECT _wh.update_mv_window_by_template(%s, %s, %s, %s::date, %s::date)",
        [TEMPLATE, f"{schema}-prod", schema, size.first, size.last],
    )
