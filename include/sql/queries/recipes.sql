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
    RETURN NEW;
END;
