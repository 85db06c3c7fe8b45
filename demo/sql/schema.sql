-- The tables of the demo, in the shape the weather-features runbook describes. Times are UTC.
CREATE TABLE public.stations (
    station_id varchar(10) PRIMARY KEY,
    name varchar(255) NOT NULL,
    state varchar(100),
    latitude numeric(8, 5) NOT NULL,
    longitude numeric(8, 5) NOT NULL,
    elevation_m integer NOT NULL
);

CREATE TABLE public.hourly_observations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station_id varchar(10) NOT NULL REFERENCES public.stations,
    observed_at timestamptz NOT NULL,
    temp_c numeric(4, 1),
    dew_point_c numeric(4, 1),
    humidity_pct numeric(5, 2),
    wind_direction_deg smallint,
    wind_speed_kmh numeric(6, 1),
    precipitation_mm numeric(5, 1),
    pressure_hpa numeric(5, 1),
    visibility_km numeric(4, 1),
    year integer NOT NULL GENERATED ALWAYS AS (extract(YEAR FROM observed_at AT TIME ZONE 'UTC')) STORED,
    quarter integer NOT NULL GENERATED ALWAYS AS (extract(QUARTER FROM observed_at AT TIME ZONE 'UTC')) STORED,
    UNIQUE (station_id, observed_at)
);

CREATE TABLE public.quarterly_temperature_features (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station_id varchar(10) NOT NULL,
    station_name varchar(255),
    station_state varchar(100),
    station_lat numeric(8, 5),
    station_lon numeric(8, 5),
    station_elevation integer,
    year integer NOT NULL,
    quarter integer NOT NULL CHECK (quarter BETWEEN 1 AND 4),
    temp_mean_c double precision,
    temp_min_c numeric(4, 1),
    temp_max_c numeric(4, 1),
    valid_observations integer NOT NULL,
    missing_observations integer NOT NULL,
    quality_score numeric(3, 2),
    dataset_version varchar(40) NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(),
    UNIQUE (station_id, year, quarter)
);
COMMENT ON TABLE public.quarterly_temperature_features IS 'Temperature per station, year and quarter (UTC)';

CREATE TABLE public.flights (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    carrier varchar(2) NOT NULL,
    flight integer NOT NULL,
    tail_number varchar(10),
    origin varchar(10) NOT NULL REFERENCES public.stations,
    destination varchar(10) NOT NULL,
    scheduled_departure timestamptz NOT NULL,
    departure_delay_min integer,
    arrival_delay_min integer,
    air_time_min integer,
    distance_km numeric(7, 1) NOT NULL
);
COMMENT ON COLUMN public.flights.air_time_min IS 'NULL for a flight that was cancelled or diverted';
