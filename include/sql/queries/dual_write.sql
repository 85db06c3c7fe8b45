-- Two columns of a table kept in step, and their swap. Filled in by schema_change.core.recipes.

-- name: keep_body
#variable_conflict use_column
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- IS NULL would look into the fields of a composite value.
        IF NEW.{other} IS DISTINCT FROM NULL AND NOT ({given}) THEN
            {back}
            {kept}
            RETURN NEW;
        END IF;
    ELSIF ROW(NEW.{published})::record *= ROW(OLD.{published})::record THEN
        IF ROW(NEW.{other})::record *<> ROW(OLD.{other})::record THEN
            {back}
            {kept}
            RETURN NEW;
        END IF;
        IF {settled} THEN
            {kept}
            RETURN NEW;
        END IF;
    END IF;
    {forth}
    {kept}
    RETURN NEW;
END;

-- name: remember_kept
PERFORM set_config('schema_change.kept', md5(quote_nullable(NEW.{published}::text)), true);

-- name: keep_last_body
-- Behind the user's triggers: the column that is not as the first trigger left it is the one they wrote.
BEGIN
    IF ROW(NEW.{published})::record *<> ROW(NEW.{other})::record THEN
        IF current_setting('schema_change.kept', true) = md5(quote_nullable(NEW.{published}::text)) THEN
            {back}
        ELSE
            {forth}
        END IF;
    END IF;
    RETURN NEW;
END;

-- name: note_one_way
IF NEW.{published} IS DISTINCT FROM NULL AND NOT EXISTS (
    SELECT FROM schema_change.one_way_write AS w
    WHERE w.table_schema = {schema_name} AND w.table_name = {table_name} AND w.column_name = {column_name}
) THEN
    INSERT INTO schema_change.one_way_write (table_schema, table_name, column_name)
    VALUES ({schema_name}, {table_name}, {column_name});
END IF;
NEW.{other} := NULL;

-- name: refuse_one_way
BEGIN
    IF EXISTS (
        SELECT FROM schema_change.one_way_write AS w
        WHERE w.table_schema = {schema_name} AND w.table_name = {table_name} AND w.column_name = {column_name}
    ) THEN
        RAISE EXCEPTION USING
            MESSAGE = {message},
            HINT = {hint};
    END IF;
END;

-- name: forget_one_way
DELETE FROM schema_change.one_way_write AS w
WHERE w.table_schema = {schema_name} AND w.table_name = {table_name} AND w.column_name = {column_name};

-- name: move_identity
-- The sequence of an identity column cannot change hands, so the new one goes on where the old one is.
DECLARE
    old_sequence regclass := pg_get_serial_sequence({table}, {source_name});
    sequence_name text := old_sequence::text;
    options pg_sequence%ROWTYPE;
    place record;
    limits text;
BEGIN
    SELECT s.* INTO STRICT options FROM pg_sequence AS s WHERE s.seqrelid = old_sequence;
    EXECUTE format('SELECT last_value, is_called FROM %s', old_sequence) INTO STRICT place;
    limits := CASE
        WHEN options.seqmax IN (32767, 2147483647, 9223372036854775807) THEN ''
        ELSE format(' MAXVALUE %s', options.seqmax)
    END || CASE
        WHEN options.seqmin IN (-32768, -2147483648, -9223372036854775808) THEN ''
        ELSE format(' MINVALUE %s', options.seqmin)
    END;
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', {table}, {source_name});
    EXECUTE format(
        'ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY'
        ' (SEQUENCE NAME %s START WITH %s INCREMENT BY %s CACHE %s%s%s)',
        {table}, {target_name}, {kind}, sequence_name, options.seqstart, options.seqincrement, options.seqcache,
        CASE WHEN options.seqcycle THEN ' CYCLE' ELSE '' END, limits
    );
    PERFORM setval(pg_get_serial_sequence({table}, {target_name}), place.last_value, place.is_called);
END;

-- name: restore_grants
-- What default privileges gave goes; what was granted comes back in the order of the list, from the same grantors.
DECLARE
    item record;
    grantee text;
BEGIN
    FOR item IN
        SELECT DISTINCT a.grantee
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
        WHERE c.oid = {relation}::regclass
    LOOP
        grantee := CASE WHEN item.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(item.grantee)) END;
        EXECUTE format('REVOKE ALL ON TABLE %s FROM %s CASCADE', {relation}, grantee);
    END LOOP;
    FOR item IN
        SELECT a.*, c.relowner
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode({grants}::text[]::aclitem[]) WITH ORDINALITY AS a
        WHERE c.oid = {relation}::regclass
        ORDER BY a.grantor <> c.relowner, a.ordinality
    LOOP
        grantee := CASE WHEN item.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(item.grantee)) END;
        IF item.grantor <> item.relowner THEN
            EXECUTE format('SET LOCAL ROLE %I', pg_get_userbyid(item.grantor));
        END IF;
        EXECUTE format(
            'GRANT %s ON TABLE %s TO %s%s', item.privilege_type, {relation}, grantee,
            CASE WHEN item.is_grantable AND item.grantee <> 0 THEN ' WITH GRANT OPTION' ELSE '' END
        );
        IF item.grantor <> item.relowner THEN
            SET LOCAL ROLE TO DEFAULT;
        END IF;
    END LOOP;
END;

-- name: restore_column_grants
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT
            a.*,
            c.relowner,
            CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS receiver
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode({grants}::text[]::aclitem[]) WITH ORDINALITY AS a
        WHERE c.oid = {relation}::regclass
        ORDER BY a.grantor <> c.relowner, a.ordinality
    LOOP
        IF item.grantor <> item.relowner THEN
            EXECUTE format('SET LOCAL ROLE %I', pg_get_userbyid(item.grantor));
        END IF;
        EXECUTE format(
            'GRANT %s (%I) ON TABLE %s TO %s%s', item.privilege_type, {column}, {relation}, item.receiver,
            CASE WHEN item.is_grantable AND item.grantee <> 0 THEN ' WITH GRANT OPTION' ELSE '' END
        );
        IF item.grantor <> item.relowner THEN
            SET LOCAL ROLE TO DEFAULT;
        END IF;
    END LOOP;
END;

-- name: name_not_null
-- PostgreSQL 18 names a NOT NULL; the column's should not have a name made of the hidden column's.
DECLARE
    made name := (
        SELECT k.conname FROM pg_constraint AS k
        INNER JOIN pg_attribute AS a ON k.conrelid = a.attrelid AND k.conkey = ARRAY[a.attnum]
        WHERE k.conrelid = {table}::regclass AND k.contype = 'n' AND a.attname = {column}
    );
BEGIN
    IF made <> {name} AND NOT EXISTS (
        SELECT FROM pg_constraint AS k WHERE k.conrelid = {table}::regclass AND k.conname = {name}
    ) THEN
        EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', {table}, made, {name});
    END IF;
END;

-- name: column_type
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE
        a.attrelid = to_regclass({table}) AND a.attname = {column} AND NOT a.attisdropped
        -- With or without the schema, as the session's search_path has it.
        AND replace(format_type(a.atttypid, a.atttypmod), 'public.', '') = replace({type}, 'public.', '')
);

-- name: column_absent
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = to_regclass({table}) AND a.attname = {column} AND NOT a.attisdropped AND a.attnum > 0
);
