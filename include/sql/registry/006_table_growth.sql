-- How large the table was when its backfill began, so that growth can be told.

ALTER TABLE schema_change.backfill ADD COLUMN bytes_before bigint;
COMMENT ON COLUMN schema_change.backfill.bytes_before IS 'Size of the table, with indexes, when the backfill began';
