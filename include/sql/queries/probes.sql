-- Probes: one boolean each, true once a step is done. Filled in by the recipes.

-- name: column_exists
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = to_regclass({table}) AND a.attname = {column} AND NOT a.attisdropped AND a.attnum > 0
);

-- name: trigger_absent
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = to_regclass({table}) AND t.tgname = {trigger}
);

-- name: constraint_exists
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_constraint AS c WHERE c.conrelid = to_regclass({table}) AND c.conname = {constraint}
);

-- name: constraint_validated
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_constraint AS c
    WHERE c.conrelid = to_regclass({table}) AND c.conname = {constraint} AND c.convalidated
);

-- name: column_not_null
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE
        a.attrelid = to_regclass({table}) AND a.attname = {column} AND NOT a.attisdropped AND a.attnotnull
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_constraint AS c
            WHERE c.conrelid = a.attrelid AND c.contype = 'n' AND c.conkey = ARRAY[a.attnum] AND NOT c.convalidated
        )
);

-- name: index_valid
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
    WHERE i.indexrelid = to_regclass({index}) AND i.indrelid = to_regclass({table}) AND i.indisvalid AND i.indisready
);

-- name: name_taken
SELECT to_regclass({relation}) IS NOT NULL;

-- name: index_taken
-- By anything but this very index, valid: then IF NOT EXISTS has nothing to do.
SELECT to_regclass({index}) IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
    WHERE i.indexrelid = to_regclass({index}) AND i.indrelid = to_regclass({table}) AND i.indisvalid AND i.indisready
);

-- name: index_absent
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i WHERE i.indexrelid = to_regclass({index})
);

-- name: relation_absent
SELECT to_regclass({relation}) IS NULL;

-- name: constraint_absent
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint AS c WHERE c.conrelid = to_regclass({table}) AND c.conname = {constraint}
);

-- name: column_default
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = to_regclass({table}) AND a.attname = {column} AND NOT a.attisdropped AND a.atthasdef
);

-- name: column_no_default
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = to_regclass({table}) AND a.attname = {column} AND NOT a.attisdropped AND NOT a.atthasdef
);

-- name: column_nullable
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = to_regclass({table}) AND a.attname = {column} AND NOT a.attisdropped AND NOT a.attnotnull
);

-- name: enum_has_value
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = to_regtype({type}) AND e.enumlabel = {value}
);

-- name: extension_exists
SELECT EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname = {extension});

-- name: column_is_identity
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE
        a.attrelid = to_regclass({table}) AND a.attname = {column} AND NOT a.attisdropped AND a.attidentity <> ''
);

-- name: is_table
SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass({relation}) AND c.relkind IN ('r', 'p'));

-- name: is_table_with
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class AS c
    WHERE
        c.oid = to_regclass({relation}) AND c.relkind IN ('r', 'p')
        AND {columns}::text [] <@ ARRAY(
            SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        )
);
