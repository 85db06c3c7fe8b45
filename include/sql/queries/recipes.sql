-- Bodies of the recipes that need procedural code. Filled in by schema_change.core.recipes.

-- name: fill_body
#variable_conflict use_column
DECLARE
    was {type};
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.{column} IS DISTINCT FROM OLD.{column} THEN
            RETURN NEW;  -- the application wrote the column itself
        END IF;
        IF OLD.{column} IS NOT NULL THEN
            SELECT ({expression}) INTO was FROM (SELECT OLD.*) AS {row};
            IF OLD.{column} IS DISTINCT FROM was THEN
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
