-- The column of the first change as the catalog has it: type, nullable, comment.
SELECT
    format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, coalesce(col_description(a.attrelid, a.attnum), '')
FROM pg_attribute AS a
WHERE
    a.attrelid = 'public.quarterly_temperature_features'::regclass
    AND a.attname = 'extreme_cold_hours'
    AND NOT a.attisdropped;
