-- From the raw files to the demo's tables, in metric units. The order is fixed, so that ids are the same every time.
INSERT INTO public.stations (station_id, name, state, latitude, longitude, elevation_m)
SELECT
    a.faa, a.name, s.state, round(a.lat, 5), round(a.lon, 5), round(a.alt * 0.3048)
FROM pg_temp.raw_airport AS a
INNER JOIN (VALUES ('EWR', 'New Jersey'), ('JFK', 'New York'), ('LGA', 'New York')) AS s (faa, state) ON a.faa = s.faa
ORDER BY a.faa;

INSERT INTO public.hourly_observations (
    station_id, observed_at, temp_c, dew_point_c, humidity_pct, wind_direction_deg, wind_speed_kmh, precipitation_mm,
    pressure_hpa, visibility_km
)
SELECT
    w.origin, w.time_hour, round((w.temp - 32) * 5 / 9, 1), round((w.dewp - 32) * 5 / 9, 1), w.humid, w.wind_dir,
    round(w.wind_speed * 1.609344, 1), round(w.precip * 25.4, 1), w.pressure, round(w.visib * 1.609344, 1)
FROM pg_temp.raw_weather AS w
ORDER BY w.origin, w.time_hour;

INSERT INTO public.flights (
    carrier, flight, tail_number, origin, destination, scheduled_departure, departure_delay_min, arrival_delay_min,
    air_time_min, distance_km
)
SELECT
    f.carrier, f.flight, f.tailnum, f.origin, f.dest, f.time_hour + f.minute * interval '1 minute', f.dep_delay,
    f.arr_delay, f.air_time, round(f.distance * 1.609344, 1)
FROM pg_temp.raw_flight AS f
ORDER BY f.time_hour, f.minute, f.carrier, f.flight, f.origin;

DROP TABLE pg_temp.raw_airport, pg_temp.raw_weather, pg_temp.raw_flight;
