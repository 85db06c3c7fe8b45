-- Bodies of the recipes that need procedural code. Filled in by schema_change.core.recipes.

-- name: fill_body
#variable_conflict use_column
DECLARE
    was {type};
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- Byte by byte: a type or a collation may call different values equal, and json knows no equality.
        IF ROW(NEW.{column})::record *<> ROW(OLD.{column})::record THEN
            RETURN NEW;  -- the application wrote the column itself
        END IF;
        IF OLD.{column} IS NOT NULL THEN
            SELECT ({expression}) INTO was FROM (SELECT OLD.*) AS {row};
            IF ROW(OLD.{column})::record *<> ROW(was)::record THEN
                RETURN NEW;  -- not our value
            END IF;
        END IF;
    ELSIF NEW.{column} IS NOT NULL THEN
        RETURN NEW;
    END IF;
    SELECT ({expression}) INTO NEW.{column} FROM (SELECT NEW.*) AS {row};
    RETURN NEW;
END;

-- name: replace_null_body
#variable_conflict use_column
BEGIN
    SELECT ({expression}) INTO NEW.{column} FROM (SELECT NEW.*) AS {row};
    -- A row that is there already makes this INSERT fail or ON CONFLICT: its value is not ours.
    IF NEW.{column} IS NOT NULL AND (TG_OP = 'UPDATE' OR NOT EXISTS (SELECT FROM {table} AS t WHERE {same_key})) THEN
        INSERT INTO schema_change.filled_row (run_id, seq, key, value)
        SELECT s.run_id, s.seq, jsonb_build_array({key}), NEW.{column}::text
        FROM schema_change.owner AS o
        INNER JOIN schema_change.step AS s ON o.run_id = s.run_id
        WHERE
            o.table_schema = {schema_name} AND o.table_name = {table_name}
            AND s.step -> 'backfill' -> 'table' ->> 'schema' = {schema_name}
            AND s.step -> 'backfill' -> 'table' ->> 'name' = {table_name}
            AND s.step -> 'backfill' ->> 'column' = {column_name}
        ON CONFLICT (run_id, seq, key) DO UPDATE SET value = excluded.value;
    END IF;
    RETURN NEW;
END;

-- name: extension_missing
SELECT 1 - count(*)
FROM (
    SELECT 1
    FROM pg_available_extension_versions AS v
    WHERE v.name = {name} AND ({version} IS NULL OR v.version = {version})
    LIMIT 1
) AS found;

-- name: extension_alike
SELECT v.name || ' ' || v.version
FROM pg_available_extension_versions AS v
ORDER BY v.name = {name} DESC, v.name
LIMIT 10;

-- name: extension_forbidden
SELECT count(*)
FROM pg_available_extensions AS e
INNER JOIN pg_available_extension_versions AS v
    ON e.name = v.name AND v.version = coalesce({version}, e.default_version)
INNER JOIN pg_roles AS r ON r.rolname = current_user
WHERE
    v.name = {name} AND NOT r.rolsuper
    AND NOT ((v.trusted OR NOT v.superuser) AND has_database_privilege(current_database(), 'CREATE'));

-- name: extension_brings_schema
-- CREATE EXTENSION makes the schema that its control file asks for, and DROP EXTENSION leaves it behind.
SELECT DISTINCT v.schema::text AS what
FROM pg_available_extensions AS e
INNER JOIN pg_available_extension_versions AS v
    ON e.name = v.name AND v.version = coalesce({version}, e.default_version)
WHERE v.name = {name} AND v.schema IS NOT NULL AND to_regnamespace(quote_ident(v.schema)) IS NULL;

-- name: index_beyond_its_definition
SELECT 'tablespace ' || quote_ident(t.spcname) AS what
FROM pg_class AS x
INNER JOIN pg_tablespace AS t ON x.reltablespace = t.oid
WHERE x.oid = to_regclass({index})
UNION ALL
SELECT 'statistics target ' || a.attstattarget || ' of ' || a.attname AS what
FROM pg_attribute AS a
WHERE a.attrelid = to_regclass({index}) AND a.attstattarget >= 0;

-- name: who_we_are
SELECT current_user;

-- name: revoke_everything
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = {relation}::regclass
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', {relation}, grantee);
    END LOOP;
END;
