-- The server and the database: may it be written, what does it know, how far behind are its copies.

-- name: writable
-- Our own sessions set default_transaction_read_only themselves; reset_val is what a database or role was given.
SELECT
    pg_is_in_recovery(),
    (SELECT s.reset_val = 'on' FROM pg_settings AS s WHERE s.name = 'default_transaction_read_only');

-- name: available_extensions
SELECT e.name::text
FROM pg_available_extensions AS e
WHERE e.name = ANY(%(names)s);

-- name: standbys
-- state is null for those who may not see it.
SELECT
    r.application_name,
    r.state,
    pg_wal_lsn_diff(CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END, r.replay_lsn)::bigint AS bytes,
    extract(EPOCH FROM r.replay_lag)::float8 AS seconds
FROM pg_stat_replication AS r
ORDER BY r.application_name COLLATE "C";

-- name: inactive_slots
SELECT
    s.slot_name::text,
    coalesce(
        pg_wal_lsn_diff(CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END, s.restart_lsn), 0
    )::bigint AS bytes,
    s.wal_status
FROM pg_replication_slots AS s
WHERE NOT s.active AND s.restart_lsn IS NOT NULL
ORDER BY s.slot_name;

-- name: data_directory
SELECT
    current_setting('data_directory'),
    pg_backend_pid(),
    inet_client_port();
