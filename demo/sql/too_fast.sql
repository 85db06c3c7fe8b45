-- How many flights are too fast to be true.
SELECT count(*) FROM public.flights AS f
WHERE f.air_time_min > 0 AND round(f.distance_km / (f.air_time_min / 60.0), 1) > 1000;
