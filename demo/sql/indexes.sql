-- Built after the rows are loaded; the fill of a feature reads the hours of one station and quarter.
CREATE INDEX hourly_observations_quarter ON public.hourly_observations (station_id, year, quarter);
CREATE INDEX flights_departure ON public.flights (scheduled_departure);
ANALYZE public.stations;
ANALYZE public.hourly_observations;
ANALYZE public.quarterly_temperature_features;
ANALYZE public.flights;
