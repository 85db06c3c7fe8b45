-- Shards of a backfill work side by side: one that fails for good ends the others, which read its error here.

ALTER TABLE schema_change.backfill ADD COLUMN error text;
COMMENT ON COLUMN schema_change.backfill.shard IS 'Key range of the table, from 0; all of them are cut when the backfill begins';
COMMENT ON COLUMN schema_change.backfill.lower_bound IS 'Where the shard begins, excluded; null: at the smallest key';
COMMENT ON COLUMN schema_change.backfill.error IS 'Why the latest try of this shard failed for good; null again after its next batch';
