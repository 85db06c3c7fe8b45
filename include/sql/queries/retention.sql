-- Dropped data that is kept: what there is, bringing it back, purging it.

-- name: kept_as
SELECT c.relname
FROM pg_catalog.pg_class AS c
INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid
WHERE n.nspname = {schema} AND c.relname = {name}

-- name: undo_create
-- Drops the table that a change created, or keeps it with the rows an application wrote into it meanwhile.
DECLARE
    part record;
    kept text;
    way_back jsonb := '[]';
    tables text[] := '{{}}';
BEGIN
    IF to_regclass({name}) IS NULL THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM {table}) THEN
        DROP TABLE {table};
        RETURN;
    END IF;
    SELECT {prefix} || '_' || left(o.run_id::text, 8) INTO STRICT kept
    FROM schema_change.owner AS o WHERE o.table_schema = {schema} AND o.table_name = {table_name};
    CREATE TEMPORARY TABLE schema_change_leaving ON COMMIT DROP AS
    SELECT c.oid, n.nspname, c.relname, kept || CASE WHEN c.oid = {name}::regclass THEN '' ELSE '_' || c.oid END AS ours
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
    WHERE c.oid = {name}::regclass OR c.oid IN (SELECT t.relid FROM pg_partition_tree({name}) AS t);
    -- They would go on keeping rows of other tables from being deleted.
    FOR part IN
        SELECT l.oid::regclass AS relation, k.conname
        FROM schema_change_leaving AS l
        INNER JOIN pg_constraint AS k ON l.oid = k.conrelid AND k.contype = 'f' AND k.conparentid = 0
        WHERE k.confrelid NOT IN (SELECT o.oid FROM schema_change_leaving AS o)
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', part.relation, part.conname);
    END LOOP;
    -- Another schema's table may have left parts of the same name behind.
    FOR part IN
        SELECT i.indexrelid AS oid, 'INDEX' AS kind
        FROM schema_change_leaving AS l INNER JOIN pg_index AS i ON l.oid = i.indrelid
        UNION ALL
        SELECT s.oid, 'SEQUENCE'
        FROM schema_change_leaving AS l
        INNER JOIN pg_depend AS d
            ON l.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_class'::regclass
            AND d.deptype IN ('a', 'i')
        INNER JOIN pg_class AS s ON d.objid = s.oid AND s.relkind = 'S'
    LOOP
        EXECUTE format('ALTER %s %s RENAME TO %I', part.kind, part.oid::regclass, kept || '_' || part.oid);
    END LOOP;
    FOR part IN SELECT l.* FROM schema_change_leaving AS l ORDER BY l.ours LOOP
        EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', part.nspname, part.relname, part.ours);
        EXECUTE format('ALTER TABLE %I.%I SET SCHEMA schema_change_retired', part.nspname, part.ours);
        way_back := way_back
            || to_jsonb(format('ALTER TABLE schema_change_retired.%I SET SCHEMA %I', part.ours, part.nspname))
            || to_jsonb(format('ALTER TABLE %I.%I RENAME TO %I', part.nspname, part.ours, part.relname));
        tables := tables || part.ours;
    END LOOP;
    INSERT INTO schema_change.retired (
        run_id, kind, table_schema, table_name, kept_name, key_columns, definition, purge_after
    )
    SELECT
        o.run_id, 'table', {schema}, {table_name}, kept, {key}::text[],
        jsonb_build_object('back', way_back, 'tables', tables, 'foreign_keys', '[]'::jsonb), now() + interval '30 days'
    FROM schema_change.owner AS o WHERE o.table_schema = {schema} AND o.table_name = {table_name};
    INSERT INTO schema_change.event (run_id, kind, object_type, object_name, message)
    SELECT
        o.run_id, 'rows_kept', 'table', {name},
        'rows were written into the new table; it is kept as schema_change_retired.' || kept
    FROM schema_change.owner AS o WHERE o.table_schema = {schema} AND o.table_name = {table_name};
END;

-- name: refuse_nulls
-- The undo of a dropped NOT NULL column: what was written without it has to be completed by a person.
DECLARE
    missing bigint;
BEGIN
    SELECT count(*) INTO missing FROM {table} WHERE {column} IS NULL;
    IF missing > 0 THEN
        RAISE EXCEPTION '% rows have no value for %, which was NOT NULL before it was dropped', missing, {what}
        USING HINT = 'give these rows a value, then roll back again';
    END IF;
END;

-- name: kept_data
SELECT
    k.id,
    k.run_id,
    r.change_version || '_' || r.change_name AS change,
    r.status AS run_status,
    k.kind,
    k.table_schema,
    k.table_name,
    k.column_name,
    k.kept_name,
    k.key_columns,
    k.definition,
    k.retired_at,
    k.purge_after,
    k.purged_at,
    k.recovered_at,
    c.oid IS NOT NULL AS there,
    coalesce(
        (SELECT sum(pg_total_relation_size(t.relid)) FROM pg_partition_tree(c.oid) AS t),
        pg_total_relation_size(c.oid), 0
    )::bigint AS bytes
FROM schema_change.retired AS k
INNER JOIN schema_change.run AS r ON k.run_id = r.run_id
LEFT JOIN pg_namespace AS n ON n.nspname = 'schema_change_retired'
LEFT JOIN pg_class AS c ON n.oid = c.relnamespace AND k.kept_name = c.relname AND c.relkind IN ('r', 'p')
ORDER BY k.id;

-- name: free_step
-- A step without a backfill of its own: under it the checkpoint of a recovery is kept.
SELECT min(s.seq) FROM schema_change.step AS s WHERE s.run_id = %(run_id)s AND s.step -> 'backfill' = 'null'::jsonb;

-- name: columns_of
SELECT a.attname::text, a.attgenerated::text
FROM pg_attribute AS a
WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: mark_recovered
UPDATE schema_change.retired SET recovered_at = clock_timestamp() WHERE id = %(id)s;

-- name: mark_purged
UPDATE schema_change.retired SET purged_at = clock_timestamp() WHERE id = %(id)s;

-- name: is_there
SELECT to_regnamespace('schema_change_retired') IS NOT NULL;

-- name: nothing_is_kept
UPDATE schema_change.retired SET purged_at = clock_timestamp() WHERE purged_at IS NULL;

-- name: forgotten_owners
-- A recovery that was killed leaves its claim behind; a run that has ended owns nothing.
SELECT DISTINCT o.run_id
FROM schema_change.owner AS o
INNER JOIN schema_change.run AS r ON o.run_id = r.run_id
WHERE r.status IN ('applied', 'rolled_back', 'restored', 'stopped');

-- name: snapshots
SELECT r.run_id, coalesce(r.plan -> 'scope', '[]') AS scope, r.catalog_after
FROM schema_change.run AS r
WHERE r.status = 'applied' AND r.fingerprint_after IS NOT NULL AND r.catalog_after IS NOT NULL;

-- name: set_snapshot
UPDATE schema_change.run
SET catalog_after = %(catalog)s, fingerprint_after = %(fingerprint)s
WHERE run_id = %(run_id)s;

-- name: backups
-- Every backup that was begun; a run that failed over it has left some of its files, or none.
SELECT
    r.run_id,
    r.change_version || '_' || r.change_name AS change,
    r.conn_id,
    r.status AS run_status,
    r.backup ->> 'folder' AS folder,
    (r.backup ->> 'bytes')::bigint AS bytes,
    s.started_at AS begun_at,
    r.finished_at AS ended_at
FROM schema_change.run AS r
INNER JOIN schema_change.stage AS s ON r.run_id = s.run_id
WHERE
    s.stage = 'backup'
    AND s.status <> 'skipped'
    AND NOT EXISTS (SELECT FROM schema_change.event AS e WHERE e.run_id = r.run_id AND e.kind = 'backup_deleted')
ORDER BY s.started_at;

-- name: mark_backup_deleted
UPDATE schema_change.run
SET backup = backup || jsonb_build_object('deleted_at', to_jsonb(now()))
WHERE run_id = %(run_id)s;

-- name: sessions_named
-- On any database of the server: a whole restore keeps none on the one that it replaces.
SELECT a.pid FROM pg_stat_activity AS a WHERE a.application_name = %(name)s;
