"""The changes under ``include/sql/changes``: what an application does between them, and what each one must come to.

The databases are those of ``demo``: generated weather, and the shop.
"""

from __future__ import annotations

from schema_change.core.database import Connection, Target

CHAINS = ("weather", "flights", "shop")
"""Their connections; ``flights`` is another one to the database of ``weather``."""

#: How many features, and flights, are generated.
ROWS = 400

_COLUMN = (
    "SELECT format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
    " WHERE attrelid = 'public.{}'::regclass AND attname = '{}'"
)
_CONSTRAINT = "SELECT contype::text, confdeltype::text, convalidated FROM pg_constraint WHERE conname = '{}'"
_INDEX = "SELECT indisvalid, indisunique FROM pg_index WHERE indexrelid = to_regclass('public.{}')"
_KEPT = (
    "SELECT kind, column_name, purge_after > now() + interval '29 days' FROM schema_change.retired"
    " WHERE table_name = '{}' ORDER BY id DESC LIMIT 1"
)

APPLICATION: dict[str, str] = {
    "20240209100000_temp_mean_not_null": "UPDATE public.quarterly_temperature_features SET temp_mean_c = NULL"
    " WHERE quarter = 2 AND year = 2010",
    "20240209103000_observations_have_a_temperature": "UPDATE public.hourly_observations SET temp_c = NULL"
    " WHERE id BETWEEN 5 AND 9",
    "20240213090000_cloudcover_v2": "INSERT INTO public.quarterly_cloudcover_features"
    " (station_id, year, quarter, cloud_cover_mean_oktas, clear_sky_hours)"
    " SELECT station_id, 2013, quarter, 4.5, 100 FROM public.station_metadata, generate_series(1, 4) AS quarter",
}
"""Statements of an application before a change."""

OUTCOMES: dict[str, dict[str, list[tuple[object, ...]]]] = {
    "20240208143002_add_extreme_cold_hours": {
        "SELECT count(*) FROM public.quarterly_temperature_features AS f WHERE extreme_cold_hours IS DISTINCT FROM"
        " (SELECT count(*) FROM public.hourly_observations AS h WHERE h.station_id = f.station_id AND h.year = f.year"
        " AND h.quarter = f.quarter AND h.temp_c < -10)": [(0,)],
        "SELECT sum(extreme_cold_hours) > 0 FROM public.quarterly_temperature_features": [(True,)],
        "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attname = 'extreme_cold_hours'"
        " AND attrelid = 'public.quarterly_temperature_features'::regclass": [
            ("Number of hours with temperature < -10 °C",)
        ],
    },
    "20240208150000_split_station_metadata": {
        "SELECT count(*) FROM public.station_metadata AS m FULL JOIN public.stations AS s USING (station_id)"
        " WHERE (m.name, m.state, m.latitude, m.longitude, m.elevation_m)"
        " IS DISTINCT FROM (s.name, s.state, s.latitude, s.longitude, s.elevation_m)": [(0,)],
        "SELECT min(start_date)::text, max(end_date)::text, bool_and(is_active) FROM public.station_metadata": [
            ("2000-01-01", "2024-12-31", True)
        ],
        "SELECT attname FROM pg_attribute WHERE attrelid = 'public.quarterly_temperature_features'::regclass"
        " AND attname LIKE 'station%' AND NOT attisdropped": [("station_id",)],
        _CONSTRAINT.format("fk_station"): [("f", "a", True)],
        _INDEX.format("idx_station_metadata_state"): [(True, False)],
    },
    "20240209090000_temp_mean_to_numeric": {
        _COLUMN.format("quarterly_temperature_features", "temp_mean_c"): [("numeric(5,2)", False)],
        "SELECT count(*) FROM public.quarterly_temperature_features AS f WHERE temp_mean_c IS DISTINCT FROM"
        " (SELECT round(avg(temp_c), 2) FROM public.hourly_observations AS h WHERE h.station_id = f.station_id"
        " AND h.year = f.year AND h.quarter = f.quarter)": [(0,)],
    },
    "20240209093000_elevation_to_numeric": {
        _COLUMN.format("station_metadata", "elevation_m"): [("numeric(6,1)", False)],
        "SELECT count(*) FROM public.station_metadata JOIN public.stations AS s USING (station_id)"
        " WHERE station_metadata.elevation_m <> s.elevation_m": [(0,)],
    },
    "20240209100000_temp_mean_not_null": {
        _COLUMN.format("quarterly_temperature_features", "temp_mean_c"): [("numeric(5,2)", True)],
        "SELECT DISTINCT temp_mean_c::text FROM public.quarterly_temperature_features"
        " WHERE quarter = 2 AND year = 2010": [("0.00",)],
    },
    "20240209103000_observations_have_a_temperature": {
        _COLUMN.format("hourly_observations", "temp_c"): [("numeric(4,1)", True)],
        "SELECT count(*) FROM public.hourly_observations WHERE id BETWEEN 5 AND 9": [(0,)],
        _KEPT.format("hourly_observations"): [("rows", "", True)],
    },
    "20240209110000_index_station_year": {
        _INDEX.format("idx_temp_features_station_year"): [(True, False)],
        "SELECT name, due_at > now() + interval '23 hours', status FROM schema_change.follow_up": [
            ("the index is used", True, "planned")
        ],
    },
    "20240210090000_add_cloudcover_features": {
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype <> 'n'"
        " AND conrelid = 'public.quarterly_cloudcover_features'::regclass ORDER BY contype": [
            ("CHECK (((quarter >= 1) AND (quarter <= 4)))",),
            ("FOREIGN KEY (station_id) REFERENCES public.station_metadata(station_id)",),
            ("PRIMARY KEY (id)",),
            ("UNIQUE (station_id, year, quarter)",),
        ],
        _INDEX.format("idx_cloudcover_station_year"): [(True, False)],
        _INDEX.format("idx_cloudcover_year_quarter"): [(True, False)],
        "SELECT schema_definition ->> 'product' FROM schema_change.schema_registry"
        " WHERE table_name = 'quarterly_cloudcover_features'": [("cloud_cover",)],
    },
    "20240210100000_add_temp_range": {
        _COLUMN.format("quarterly_temperature_features", "temp_range_c"): [("numeric(5,2)", True)],
        "SELECT count(*) FROM public.quarterly_temperature_features WHERE temp_range_c <> temp_max_c - temp_min_c": [
            (0,)
        ],
        _INDEX.format("idx_temp_features_range"): [(True, False)],
    },
    "20240213090000_cloudcover_v2": {
        "SELECT to_regclass('public.quarterly_cloudcover_features')": [(None,)],
        _KEPT.format("quarterly_cloudcover_features"): [("table", "", True)],
        "SELECT count(*) = 4 * (SELECT count(*) FROM public.station_metadata), min(cloud_cover_mean_pct)::text,"
        " max(clear_hours) FROM public.cloudcover_features": [(True, "56.250", 100)],
        "SELECT contype::text, convalidated FROM pg_constraint"
        " WHERE conrelid = 'public.quarterly_cloudcover_features_v2'::regclass AND contype <> 'n' ORDER BY contype": [
            ("f", True),
            ("p", True),
            ("u", True),
        ],
    },
    "20240215091500_add_flight_speed": {
        "SELECT count(*) FROM public.flights WHERE average_speed_kmh IS DISTINCT FROM"
        " round(distance_km / (air_time_min / 60.0), 1)": [(0,)],
        _INDEX.format("idx_flights_average_speed"): [(True, False)],
    },
    "20240301090000_drop_legacy_sessions": {
        "SELECT to_regclass('public.legacy_sessions')": [(None,)],
        _KEPT.format("legacy_sessions"): [("table", "", True)],
    },
    "20240301100000_drop_customer_fax": {
        _COLUMN.format("customers", "fax"): [],
        _KEPT.format("customers"): [("column", "fax", True)],
    },
    "20240301110000_order_total_to_numeric": {
        _COLUMN.format("orders", "total"): [("numeric(10,2)", True)],
        "SELECT count(*) FROM public.orders WHERE total <> mod(id * 37, 100000) / 100.0": [(0,)],
    },
    "20240301120000_order_status_not_null": {
        _COLUMN.format("orders", "status"): [("text", True)],
        "SELECT DISTINCT status FROM public.orders WHERE mod(id, 5) = 0": [("new",)],
        "SELECT count(DISTINCT status) FROM public.orders": [(3,)],
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum"
        " WHERE adrelid = 'public.orders'::regclass AND attname = 'status'": [("'new'::text",)],
    },
    "20240301130000_order_customer_foreign_key": {
        _CONSTRAINT.format("orders_customer_fk"): [("f", "n", True)],
        "SELECT count(*) FROM public.orders WHERE (customer_id IS NULL) <> (mod(id * 7, 510) + 1 > 500)": [(0,)],
        "SELECT count(*) > 0 FROM public.orders WHERE customer_id IS NULL": [(True,)],
    },
    "20240301131500_orphans_of_items_and_countries": {
        _CONSTRAINT.format("order_items_order_fk"): [("f", "c", True)],
        "SELECT count(*) FROM public.order_items AS i"
        " WHERE NOT EXISTS (SELECT FROM public.orders WHERE id = i.order_id)": [(0,)],
        _KEPT.format("order_items"): [("rows", "", True)],
        _CONSTRAINT.format("customers_country_fk"): [("f", "r", True)],
        "SELECT code, name FROM public.countries WHERE name LIKE 'country%' ORDER BY code": [
            ("LI", "country LI"),
            ("NO", "country NO"),
        ],
    },
    "20240301133000_delete_orders_with_their_customer": {
        _CONSTRAINT.format("orders_customer_fk"): [("f", "c", True)],
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'public.orders'::regclass": [(1,)],
    },
    "20240301140000_zero_downtime_phases": {
        _COLUMN.format("orders", "total_cents"): [("bigint", True)],
        "SELECT count(*) FROM public.orders WHERE total_cents <> total * 100": [(0,)],
        _INDEX.format("orders_total_cents"): [(True, False)],
        _CONSTRAINT.format("orders_total_not_negative"): [("c", " ", True)],
        "SELECT count(*) FROM public.payments": [(0,)],
    },
    "20240301150000_zero_downtime_cleanup": {
        _COLUMN.format("orders", "total"): [],
        "SELECT count(*) FROM public.orders WHERE total_cents <> mod(id * 37, 100000)": [(0,)],
        _KEPT.format("orders"): [("column", "total", True)],
    },
    "20240301160000_complete_migration_script": {
        "SELECT DISTINCT email_domain FROM public.customers": [("example.com",)],
        "SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'": [(1,)],
        _INDEX.format("customers_email_search"): [(True, False)],
        _CONSTRAINT.format("customers_email_domain"): [("c", " ", True)],
    },
}
"""What must be true right after a change has landed: queries and their rows."""


def apply_writes(target: Target, change_id: str) -> None:
    """Write what the application writes before a change."""
    if change_id in APPLICATION:
        with target.connect("application") as connection:
            connection.execute(APPLICATION[change_id].encode())


def assert_outcome(connection: Connection, change_id: str) -> None:
    """Assert what must be true right after a change has landed."""
    for query, expected in OUTCOMES[change_id].items():
        assert connection.execute(query.encode()).fetchall() == expected, (change_id, query)
    nothing_left = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_schema_change%'"
    assert connection.execute(nothing_left).fetchone() == (0,), change_id
    owned = connection.execute("SELECT count(*) FROM schema_change.owner").fetchone()
    assert owned == (0,), change_id


def versions(connection: Connection) -> dict[str, str]:
    """Return the current version of each table in the registry."""
    latest = (
        "SELECT DISTINCT ON (table_name) table_name, version FROM schema_change.schema_registry ORDER BY 1, id DESC"
    )
    return dict(connection.execute(latest).fetchall())
