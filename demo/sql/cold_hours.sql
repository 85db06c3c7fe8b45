-- What the first change wrote.
SELECT f.station_id, f.year, f.quarter, f.extreme_cold_hours
FROM public.quarterly_temperature_features AS f;
