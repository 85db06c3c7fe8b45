-- Features per station, year and quarter, from the hourly observations; only hours with a temperature are valid.
INSERT INTO public.quarterly_temperature_features (
    station_id, station_name, station_state, station_lat, station_lon, station_elevation, year, quarter,
    temp_mean_c, temp_min_c, temp_max_c, valid_observations, missing_observations, quality_score, dataset_version,
    created_at
)
SELECT
    s.station_id, s.name, s.state, s.latitude, s.longitude, s.elevation_m, q.year, q.quarter,
    q.temp_mean_c, q.temp_min_c, q.temp_max_c, q.valid, q.expected - q.valid, round(q.valid / q.expected::numeric, 2),
    %(dataset)s, timestamp '2024-01-15 06:00'
FROM (
    SELECT
        h.station_id, h.year, h.quarter,
        round(avg(h.temp_c), 2)::double precision AS temp_mean_c,
        min(h.temp_c) AS temp_min_c,
        max(h.temp_c) AS temp_max_c,
        count(h.temp_c) AS valid,
        24 * (
            (make_date(h.year, 3 * h.quarter - 2, 1) + interval '3 months')::date
            - make_date(h.year, 3 * h.quarter - 2, 1)
        ) AS expected
    FROM public.hourly_observations AS h
    GROUP BY h.station_id, h.year, h.quarter
) AS q
INNER JOIN public.stations AS s ON q.station_id = s.station_id
ORDER BY s.station_id, q.year, q.quarter;
