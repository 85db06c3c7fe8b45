-- Bodies of the triggers that keep two tables in step. Filled in by schema_change.core.recipes.tables_in_step
-- (many rows with a copy of the values that one row of the other table has) and versions_in_step (row by row).

-- name: take_over_body
#variable_conflict use_column
DECLARE
    theirs record;
BEGIN
    IF {keyless} OR (TG_OP = 'UPDATE' AND {key_kept}) THEN
        RETURN NEW;
    END IF;
    -- Whoever changes these values locks the row FOR UPDATE, and so waits until this row can be seen and changed too.
    SELECT {theirs} INTO theirs FROM {one} AS schema_change_one WHERE {same_key} FOR KEY SHARE OF schema_change_one;
    -- A row that is there already makes this INSERT fail or ON CONFLICT: nothing may be left of it.
    IF NOT FOUND AND (TG_OP = 'UPDATE' OR NOT {has_its_like}) THEN
        {ensure};
        SELECT {theirs} INTO theirs FROM {one} AS schema_change_one WHERE {same_key} FOR KEY SHARE OF schema_change_one;
    END IF;
    IF FOUND THEN
        {take}
    END IF;
    RETURN NEW;
END;

-- name: hand_over_body
#variable_conflict use_column
DECLARE
    differs boolean;
BEGIN
    IF {keyless} OR (TG_OP = 'UPDATE' AND {key_kept} AND {copies_kept}) THEN
        RETURN NULL;
    END IF;
    SELECT {differs} INTO differs FROM {one} AS schema_change_one WHERE {same_key};
    IF NOT FOUND THEN
        {ensure};
        differs := true;
    END IF;
    IF differs THEN
        PERFORM 1 FROM {one} AS schema_change_one WHERE {same_key} FOR UPDATE OF schema_change_one;
        UPDATE {one} AS schema_change_one SET {hand_over} WHERE {same_key} AND ({differs});
        {spread};
    END IF;
    RETURN NULL;
END;

-- name: spread_body
#variable_conflict use_column
BEGIN
    IF TG_OP = 'UPDATE' AND {key_kept} AND {copies_kept} THEN
        RETURN NULL;
    END IF;
    {clear};
    IF TG_OP <> 'DELETE' THEN
        PERFORM 1 FROM {one} AS schema_change_one WHERE {same_key} FOR UPDATE OF schema_change_one;
        {spread};
    END IF;
    RETURN NULL;
END;

-- name: clear
IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NOT {key_kept}) THEN
        UPDATE {many} AS schema_change_many SET {nothing} WHERE {same_key} AND {something};
    END IF;

-- name: clear_all_body
#variable_conflict use_column
BEGIN
    UPDATE {many} AS schema_change_many SET {nothing} WHERE {something};
    RETURN NULL;
END;

-- name: recompute_all_body
#variable_conflict use_column
BEGIN
    UPDATE {one} AS schema_change_one SET {values} FROM ({derived}) AS schema_change_group WHERE {differs};
    RETURN NULL;
END;

-- name: recompute_body
#variable_conflict use_column
DECLARE
    touched record;
BEGIN
    -- One key after the other, in order: first the lock, then a look at the rows, which sees what others have committed.
    FOR touched IN
        {touched}
    LOOP
        {ensure};
        PERFORM 1 FROM {one} AS schema_change_one WHERE {same_key} FOR NO KEY UPDATE OF schema_change_one;
        UPDATE {one} AS schema_change_one SET {values}
        FROM ({derived}) AS schema_change_group
        WHERE {same_key} AND ({differs});
    END LOOP;
    RETURN NULL;
END;

-- name: touched_by_insert
SELECT DISTINCT {key} FROM schema_change_new AS schema_change_many WHERE {keyed} ORDER BY {order}

-- name: touched_by_delete
SELECT DISTINCT {key} FROM schema_change_old AS schema_change_many WHERE {keyed} ORDER BY {order}

-- name: touched_by_update
SELECT DISTINCT {key}
        FROM (
            (SELECT {inputs} FROM schema_change_old AS schema_change_many
            EXCEPT ALL SELECT {inputs} FROM schema_change_new AS schema_change_many)
            UNION ALL
            (SELECT {inputs} FROM schema_change_new AS schema_change_many
            EXCEPT ALL SELECT {inputs} FROM schema_change_old AS schema_change_many)
        ) AS schema_change_many
        WHERE {keyed} ORDER BY {order}

-- name: group
-- A key that has lost its last row gets what the expressions give for no row.
SELECT {columns} FROM {many} AS {row} WHERE {same_key}
        GROUP BY GROUPING SETS (({key}), ()) ORDER BY GROUPING({key}) LIMIT 1

-- name: insert_new
-- A conflict does not keep a NOT NULL from being checked.
IF NOT EXISTS (SELECT FROM {one} AS schema_change_one WHERE {same_key}) THEN
            INSERT INTO {one} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values}) ON CONFLICT ({key}) DO NOTHING;
        END IF

-- name: insert_given
IF {given} THEN
            INSERT INTO {one} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values}) ON CONFLICT ({key}) DO NOTHING;
        END IF

-- name: spread
UPDATE {many} AS schema_change_many SET {values} WHERE {same_key} AND ({differs});

-- name: copy_groups
) INSERT INTO {one} ({columns})
SELECT {values}
FROM (
    SELECT DISTINCT ON ({many_key}) {many_values}
    FROM schema_change_keys INNER JOIN {many} AS {row} ON {same_key}
    ORDER BY {many_key}{order}
) AS schema_change_first
{derived}ON CONFLICT ({key}) DO NOTHING

-- name: copy_derived
INNER JOIN (
    SELECT {values}
    FROM schema_change_keys INNER JOIN {many} AS {row} ON {same_key}
    GROUP BY {many_key}
) AS schema_change_group ON {same_group}

-- name: contradictions
SELECT {key}, count(DISTINCT {row}) AS different, string_agg(DISTINCT {row}::text, ' / ') AS examples
FROM {many} AS schema_change_many WHERE {keyed} GROUP BY {key} HAVING count(DISTINCT {row}) > 1

-- name: look_up_body
#variable_conflict use_column
DECLARE
    found {one};
BEGIN
    SELECT schema_change_one.* INTO found FROM {one} AS schema_change_one WHERE {same_key} FOR KEY SHARE OF schema_change_one;
    RETURN found;
END;

-- name: functions_absent
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_trigger AS t
    WHERE t.tgrelid IN (to_regclass({left}), to_regclass({right})) AND t.tgname = ANY({triggers})
);

-- name: follow_body
#variable_conflict use_column
DECLARE
    outside text := current_setting('schema_change.in_step', true);
BEGIN
    IF outside = 'on' THEN
        RETURN NULL;  -- the other side's trigger is writing this row
    END IF;
    PERFORM set_config('schema_change.in_step', 'on', true);
    IF TG_OP = 'DELETE' THEN
        DELETE FROM {theirs} AS schema_change_theirs WHERE {same_key};
    ELSE
        IF TG_OP = 'UPDATE' AND NOT {key_kept} THEN
            UPDATE {theirs} AS schema_change_theirs SET {new_key} WHERE {same_key};
        END IF;
        INSERT INTO {theirs} ({columns}) OVERRIDING SYSTEM VALUE
        SELECT {values} FROM (SELECT NEW.*) AS {row}
        ON CONFLICT ({key}) DO {update};
    END IF;
    PERFORM set_config('schema_change.in_step', coalesce(outside, ''), true);
    RETURN NULL;
END;

-- name: refuse_truncate_body
BEGIN
    RAISE EXCEPTION 'TRUNCATE of %.% is refused while it is kept in step with another table', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'DELETE the rows, or wait until the change has landed';
END;

-- name: number_body
BEGIN
    IF NEW.{column} IS NULL THEN
        NEW.{column} := nextval(pg_get_serial_sequence({table}, {old_column}));
    END IF;
    RETURN NEW;
END;

-- name: go_on_counting
SELECT setval(
    pg_get_serial_sequence({table}, {column}), coalesce(s.last_value, s.start_value), s.last_value IS NOT NULL
)
FROM (
    SELECT pg_sequence_last_value(q.seqrelid) AS last_value, q.seqstart AS start_value
    FROM pg_sequence AS q
    WHERE q.seqrelid = pg_get_serial_sequence({old_table}, {old_column})::regclass
) AS s;
