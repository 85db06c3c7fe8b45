-- Synthetic rows in the demo's tables: as many features (a hundred quarters per station) and flights as asked for, four
-- observations for each feature. Every value is taken from md5 of the seed and the row's number, in integer and numeric
-- arithmetic only, so the same rows and seed give the same tables on every server.
INSERT INTO public.stations (station_id, name, state, latitude, longitude, elevation_m)
SELECT
    'S' || lpad(n::text, 8, '0'), 'Station ' || n, 'State ' || mod(n, 50),
    25 + mod(r.a, 2400000) / 100000.0, -120 + mod(r.b, 5000000) / 100000.0, mod(r.a + r.b, 2500)
FROM generate_series(0, (%(rows)s - 1) / 100) AS n
CROSS JOIN LATERAL (SELECT md5(%(seed)s || ':station:' || n) AS h) AS m
CROSS JOIN LATERAL (
    SELECT ('x' || left(m.h, 7))::bit(28)::integer AS a, ('x' || right(m.h, 7))::bit(28)::integer AS b
) AS r;

INSERT INTO public.hourly_observations (
    station_id, observed_at, temp_c, dew_point_c, humidity_pct, wind_direction_deg, wind_speed_kmh, precipitation_mm,
    pressure_hpa, visibility_km
)
SELECT
    'S' || lpad((n / 100)::text, 8, '0'),
    make_timestamptz((2000 + mod(n, 100) / 4)::integer, (mod(n, 4) * 3 + 1)::integer, 1, 0, 0, 0, 'UTC')
    + make_interval(hours => (o * 500 + mod(r.b, 500))::integer),
    CASE WHEN mod(r.a, 1000) <> 0 THEN t.c END, t.c - mod(r.b, 150) / 10.0, 20 + mod(r.b, 8000) / 100.0, mod(r.a, 360),
    mod(r.a, 900) / 10.0, greatest(mod(r.b, 200) - 150, 0) / 10.0, 980 + mod(r.a, 600) / 10.0, 2 + mod(r.b, 141) / 10.0
FROM generate_series(0::bigint, %(rows)s - 1) AS n
CROSS JOIN generate_series(0, 3) AS o
CROSS JOIN LATERAL (SELECT md5(%(seed)s || ':hour:' || n || ':' || o) AS h) AS m
CROSS JOIN LATERAL (
    SELECT ('x' || left(m.h, 7))::bit(28)::integer AS a, ('x' || right(m.h, 7))::bit(28)::integer AS b
) AS r
CROSS JOIN LATERAL (SELECT (ARRAY[-40, 100, 230, 80])[mod(n, 4) + 1] / 10.0 + (mod(r.a, 301) - 150) / 10.0 AS c) AS t;

INSERT INTO public.flights (
    carrier, flight, tail_number, origin, destination, scheduled_departure, departure_delay_min, arrival_delay_min,
    air_time_min, distance_km
)
SELECT
    (ARRAY['AA', 'B6', 'DL', 'EV', 'MQ', 'UA', 'US', 'WN'])[mod(r.a, 8) + 1], mod(r.b, 8000) + 1, 'N' || mod(r.a, 99999),
    'S' || lpad((n / 100)::text, 8, '0'), 'D' || mod(r.b, 100),
    timestamptz '2013-01-01 05:00:00+00' + mod(n, 365) * interval '1 day' + mod(r.a, 1440) * interval '1 minute',
    mod(r.a, 200) - 20, mod(r.b, 240) - 40,
    CASE WHEN mod(r.a, 40) <> 0 THEN 20 + (200 + mod(r.b, 60000) / 10.0)::integer * 60 / (600 + mod(r.a, 250)) END,
    200 + mod(r.b, 60000) / 10.0
FROM generate_series(0::bigint, %(rows)s - 1) AS n
CROSS JOIN LATERAL (SELECT md5(%(seed)s || ':flight:' || n) AS h) AS m
CROSS JOIN LATERAL (
    SELECT ('x' || left(m.h, 7))::bit(28)::integer AS a, ('x' || right(m.h, 7))::bit(28)::integer AS b
) AS r;
