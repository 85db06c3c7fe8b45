"""The patterns that known linters flag, by their number in the union of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A pattern: what is unsafe, what must be found at which level, and the safe form."""

    id: str
    unsafe: str
    found: dict[str, str]
    safe: str = ""


_NOT_VALID = "ALTER TABLE public.big ADD CONSTRAINT c CHECK (n > 0) NOT VALID"
_VALIDATE = "ALTER TABLE public.big VALIDATE CONSTRAINT c"
_UNIQUE = "CREATE UNIQUE INDEX CONCURRENTLY u ON public.big (s);"
_LONG = "a" * 64

PATTERNS = (
    Case(
        "01-create-index",
        "CREATE INDEX i ON public.big (n)",
        {"squawk:require-concurrent-index-creation": "error"},
        "CREATE INDEX CONCURRENTLY i ON public.big (n); CREATE INDEX j ON public.empty (n);"
        "CREATE TABLE public.new (id bigint); CREATE INDEX k ON public.new (id)",
    ),
    Case(
        "02-drop-index",
        "DROP INDEX public.big_n",
        {"squawk:require-concurrent-index-deletion": "error"},
        "DROP INDEX CONCURRENTLY public.big_n",
    ),
    Case(
        "04-reindex",
        "REINDEX TABLE public.big",
        {"squawk:require-concurrent-reindex": "error"},
        "REINDEX TABLE CONCURRENTLY public.big",
    ),
    Case("04-reindex-everything", "REINDEX SCHEMA public", {"squawk:require-concurrent-reindex": "error"}),
    Case(
        "05-detach-partition",
        "ALTER TABLE public.parted DETACH PARTITION public.parted_2023",
        {"squawk:require-concurrent-partition-detach": "error"},
        "ALTER TABLE public.parted DETACH PARTITION public.parted_2023 CONCURRENTLY",
    ),
    Case("06-vacuum-full", "VACUUM FULL public.big", {"full-rewrite": "error"}, "VACUUM public.big"),
    Case("06-cluster", "CLUSTER public.big USING big_pkey", {"full-rewrite": "error"}, "CLUSTER public.empty"),
    Case(
        "07-volatile-default",
        "ALTER TABLE public.big ADD COLUMN x uuid DEFAULT gen_random_uuid()",
        {"squawk:adding-field-with-default": "error"},
        "ALTER TABLE public.big ADD COLUMN x uuid; COMMENT ON COLUMN public.big.x IS '';"
        "ALTER TABLE public.big ADD COLUMN y timestamptz DEFAULT now()",
    ),
    Case(
        "08-stored-generated",
        "ALTER TABLE public.big ADD COLUMN x bigint GENERATED ALWAYS AS (n + 1) STORED",
        {"squawk:adding-field-with-default": "error"},
        "ALTER TABLE public.big ADD COLUMN x bigint GENERATED ALWAYS AS (n + 1) VIRTUAL",
    ),
    Case(
        "09-serial",
        "ALTER TABLE public.big ADD COLUMN x bigserial",
        {"serial-column": "error"},
        "ALTER TABLE public.big ADD COLUMN x bigint; CREATE TABLE public.new (id bigserial)",
    ),
    Case(
        "09-identity",
        "ALTER TABLE public.big ADD COLUMN x bigint GENERATED ALWAYS AS IDENTITY",
        {"serial-column": "error"},
        "ALTER TABLE public.empty ADD COLUMN x bigint GENERATED ALWAYS AS IDENTITY",
    ),
    Case(
        "10-required-column",
        "ALTER TABLE public.big ADD COLUMN x bigint NOT NULL",
        {"squawk:adding-required-field": "error"},
        "ALTER TABLE public.big ADD COLUMN x bigint NOT NULL DEFAULT 0",
    ),
    Case(
        "11-set-not-null",
        "ALTER TABLE public.big ALTER n SET NOT NULL",
        {"set-not-null": "error"},
        "ALTER TABLE public.big ALTER proven SET NOT NULL; ALTER TABLE public.empty ALTER n SET NOT NULL",
    ),
    Case(
        "11-not-null-validated-in-the-plan",
        "BEGIN; ALTER TABLE public.big ADD CONSTRAINT c CHECK (s IS NOT NULL) NOT VALID; COMMIT;"
        f"BEGIN; {_VALIDATE}; COMMIT; ALTER TABLE public.big ALTER n SET NOT NULL",
        {"set-not-null": "error"},
        "BEGIN; ALTER TABLE public.big ADD CONSTRAINT c CHECK (n IS NOT NULL) NOT VALID; COMMIT;"
        f"BEGIN; {_VALIDATE}; COMMIT; ALTER TABLE public.big ALTER n SET NOT NULL",
    ),
    Case(
        "11-not-null-not-quite-proven",
        "ALTER TABLE public.big ALTER free SET NOT NULL",
        {"set-not-null": "error"},
        "BEGIN; ALTER TABLE public.big VALIDATE CONSTRAINT unproven_check; COMMIT;"
        "ALTER TABLE public.big ALTER parent_id SET NOT NULL",
    ),
    Case(
        "11-native-not-null",
        "ALTER TABLE public.big ADD CONSTRAINT c NOT NULL n",
        {"set-not-null": "error"},
        f"BEGIN; ALTER TABLE public.big ADD CONSTRAINT c NOT NULL n NOT VALID; COMMIT; BEGIN; {_VALIDATE}; COMMIT",
    ),
    Case(
        "12-type",
        "ALTER TABLE public.big ALTER free TYPE text",
        {"type-rewrite": "error"},
        "ALTER TABLE public.big ALTER s TYPE text; ALTER TABLE public.big ALTER s TYPE varchar(20);"
        "ALTER TABLE public.big ALTER price TYPE numeric(12,2); ALTER TABLE public.big ALTER price TYPE numeric;"
        "ALTER TABLE public.empty ALTER n TYPE text",
    ),
    Case("12-narrower", "ALTER TABLE public.big ALTER s TYPE varchar(5)", {"type-rewrite": "error"}),
    Case("12-other-scale", "ALTER TABLE public.big ALTER price TYPE numeric(12,3)", {"type-rewrite": "error"}),
    Case("12-small", "ALTER TABLE public.child ALTER big_id TYPE text", {"type-rewrite": "warning"}),
    Case(
        "13-type-with-check",
        "ALTER TABLE public.big ALTER checked TYPE text",
        {"type-change-with-check": "error"},
        "ALTER TABLE public.big DROP CONSTRAINT checked_check; ALTER TABLE public.big ALTER checked TYPE text",
    ),
    Case(
        "14-type-with-not-null",
        "ALTER TABLE public.big ALTER s TYPE text, ALTER s SET NOT NULL",
        {"type-change-with-not-null": "error"},
        "ALTER TABLE public.big ALTER s TYPE text",
    ),
    Case(
        "15-foreign-key",
        "ALTER TABLE public.big ADD CONSTRAINT c FOREIGN KEY (n) REFERENCES public.parent (id)",
        {"squawk:adding-foreign-key-constraint": "error"},
        "BEGIN; ALTER TABLE public.big ADD CONSTRAINT c FOREIGN KEY (n) REFERENCES public.parent (id) NOT VALID;"
        f"COMMIT; BEGIN; {_VALIDATE}; COMMIT",
    ),
    Case(
        "16-check",
        "ALTER TABLE public.big ADD CONSTRAINT c CHECK (n > 0)",
        {"squawk:constraint-missing-not-valid": "error"},
        f"BEGIN; {_NOT_VALID}; COMMIT; BEGIN; {_VALIDATE}; COMMIT",
    ),
    Case(
        "16-check-of-a-new-column",
        "ALTER TABLE public.big ADD COLUMN x bigint CHECK (x > 0)",
        {"add-column-check": "error"},
        "ALTER TABLE public.big ADD COLUMN x bigint",
    ),
    Case(
        "17-validate-in-the-same-transaction",
        f"{_NOT_VALID}; {_VALIDATE}",
        {"validate-in-same-transaction": "error"},
        f"BEGIN; {_NOT_VALID}; COMMIT; BEGIN; {_VALIDATE}; COMMIT",
    ),
    Case(
        "18-unique",
        "ALTER TABLE public.big ADD CONSTRAINT c UNIQUE (s)",
        {"squawk:disallowed-unique-constraint": "error"},
        f"{_UNIQUE} ALTER TABLE public.big ADD CONSTRAINT c UNIQUE USING INDEX u",
    ),
    Case(
        "19-primary-key",
        "ALTER TABLE public.big ADD PRIMARY KEY (state)",
        {"squawk:adding-serial-primary-key-field": "error"},
        "ALTER TABLE public.big ADD CONSTRAINT c PRIMARY KEY USING INDEX big_state",
    ),
    Case(
        "19-primary-key-of-nullable-columns",
        f"{_UNIQUE} ALTER TABLE public.big ADD CONSTRAINT c PRIMARY KEY USING INDEX u",
        {"primary-key-nullable": "error"},
        f"{_UNIQUE} BEGIN; ALTER TABLE public.big ADD CONSTRAINT c CHECK (s IS NOT NULL) NOT VALID; COMMIT;"
        f"BEGIN; {_VALIDATE}; COMMIT; ALTER TABLE public.big ADD CONSTRAINT k PRIMARY KEY USING INDEX u",
    ),
    Case(
        "20-exclude",
        "ALTER TABLE public.big ADD CONSTRAINT c EXCLUDE USING gist (n WITH =)",
        {"add-exclude": "error"},
        "ALTER TABLE public.empty ADD CONSTRAINT c EXCLUDE USING gist (n WITH =)",
    ),
    Case(
        "21-add-reference",
        "ALTER TABLE public.big ADD COLUMN x bigint REFERENCES public.parent (id)",
        {"add-reference": "warning"},
        "ALTER TABLE public.big ADD COLUMN x bigint",
    ),
    Case(
        "24-several-tables",
        "ALTER TABLE public.big ADD COLUMN x bigint; ALTER TABLE public.parent ADD COLUMN x bigint",
        {"many-tables-locked": "warning"},
        "BEGIN; ALTER TABLE public.big ADD COLUMN x bigint; COMMIT; ALTER TABLE public.parent ADD COLUMN x bigint",
    ),
    Case(
        "25-partitioned-index",
        "CREATE INDEX i ON public.parted (day)",
        {"partitioned-index": "error"},
        "CREATE INDEX i ON ONLY public.parted (day); CREATE INDEX CONCURRENTLY j ON public.parted_2023 (day);"
        "ALTER INDEX public.i ATTACH PARTITION public.j",
    ),
    Case(
        "25-partitioned-index-concurrently",
        "CREATE INDEX CONCURRENTLY i ON public.parted (day)",
        {"partitioned-index": "error"},
    ),
    Case(
        "27-drop-table-with-foreign-keys",
        "DROP TABLE public.leaf",
        {"drop-table-with-foreign-keys": "error"},
        "BEGIN; ALTER TABLE public.leaf DROP CONSTRAINT leaf_parent; COMMIT; DROP TABLE public.leaf",
    ),
    Case(
        "28-drop-column-with-foreign-key",
        "ALTER TABLE public.leaf DROP COLUMN parent_id",
        {"drop-column-with-parts": "error"},
        "BEGIN; ALTER TABLE public.leaf DROP CONSTRAINT leaf_parent; COMMIT;"
        "ALTER TABLE public.leaf DROP COLUMN parent_id",
    ),
    Case("28-drop-column-with-index", "ALTER TABLE public.big DROP COLUMN free", {"drop-column-with-parts": "warning"}),
    Case("29-drop-column", "ALTER TABLE public.big DROP COLUMN s", {"squawk:ban-drop-column": "error"}),
    Case(
        "30-rename-column",
        "ALTER TABLE public.big RENAME COLUMN s TO t",
        {"squawk:renaming-column": "error"},
        "ALTER TABLE public.big RENAME CONSTRAINT checked_check TO c; ALTER INDEX public.big_n RENAME TO big_m",
    ),
    Case("31-rename-table", "ALTER TABLE public.parent RENAME TO p", {"squawk:renaming-table": "error"}),
    Case("31-set-schema", "ALTER TABLE public.parent SET SCHEMA s", {"squawk:ban-set-schema": "error"}),
    Case(
        "32-drop-table",
        "DROP TABLE public.people",
        {"squawk:ban-drop-table": "error"},
        "CREATE TABLE public.tmp (id bigint); DROP TABLE public.tmp",
    ),
    Case("34-rename-schema", "ALTER SCHEMA public RENAME TO other", {"rename-schema": "error"}),
    Case(
        "35-rename-enum-value",
        "ALTER TYPE public.mood RENAME VALUE 'a' TO 'b'",
        {"rename-enum-value": "error"},
        "ALTER TYPE public.mood ADD VALUE 'b' AFTER 'a'",
    ),
    Case(
        "36-drop-not-null",
        "ALTER TABLE public.big ALTER state DROP NOT NULL",
        {"drop-not-null": "warning"},
        "CREATE TABLE public.new (id bigint NOT NULL); ALTER TABLE public.new ALTER id DROP NOT NULL",
    ),
    Case(
        "37-create-table-by-force",
        "DROP TABLE IF EXISTS public.people; CREATE TABLE public.people (id bigint)",
        {"squawk:ban-drop-table": "error"},
        "CREATE TABLE IF NOT EXISTS public.people (id bigint)",
    ),
    Case(
        "38-json",
        "ALTER TABLE public.big ADD COLUMN x json",
        {"json-column": "warning"},
        "ALTER TABLE public.big ADD COLUMN x jsonb",
    ),
    Case(
        "39-change-default",
        "ALTER TABLE public.big ALTER state SET DEFAULT 'open'",
        {"change-default": "warning"},
        "ALTER TABLE public.big ALTER s SET DEFAULT 'x'",
    ),
    Case(
        "40-enum-value-without-position",
        "ALTER TYPE public.mood ADD VALUE 'b'",
        {"squawk:require-enum-value-ordering": "warning"},
        "ALTER TYPE public.mood ADD VALUE 'b' AFTER 'a'",
    ),
    Case("41-truncate-cascade", "TRUNCATE public.empty CASCADE", {"squawk:ban-truncate-cascade": "error"}),
    Case("41-truncate", "TRUNCATE public.big", {"truncate": "error"}, "TRUNCATE public.empty"),
    Case(
        "42-create-domain",
        "CREATE DOMAIN public.d AS text CHECK (value <> '')",
        {"squawk:ban-create-domain-with-constraint": "warning"},
        "CREATE DOMAIN public.d AS text",
    ),
    Case(
        "42-alter-domain",
        "ALTER DOMAIN public.email ADD CONSTRAINT c CHECK (value <> '')",
        {"domain-constraint": "error"},
        "ALTER DOMAIN public.email DROP CONSTRAINT c; CREATE DOMAIN public.d AS text;"
        "ALTER TABLE public.people ADD CONSTRAINT c CHECK (mail <> '') NOT VALID",
    ),
    Case(
        "42-column-of-a-domain",
        "ALTER TABLE public.big ADD COLUMN x public.email",
        {"constrained-domain": "error"},
        "ALTER TABLE public.big ADD COLUMN x text; ALTER TABLE public.empty ADD COLUMN x public.email",
    ),
    Case(
        "47-long-name",
        f"CREATE INDEX CONCURRENTLY {_LONG} ON public.big (n)",
        {"squawk:identifier-too-long": "error"},
        f"CREATE INDEX CONCURRENTLY {_LONG[1:]} ON public.big (n)",
    ),
    Case(
        "48-unqualified-name",
        "ALTER TABLE big ADD COLUMN x bigint",
        {"unqualified-name": "warning"},
        "ALTER TABLE public.big ADD COLUMN x bigint; SELECT count(*) FROM pg_class;"
        "SET search_path TO weather; CREATE TABLE t (id bigint)",
    ),
    Case(
        "49-assigned-twice",
        "UPDATE public.big SET n = 1, n = 2 WHERE id = 1",
        {"squawk:ban-duplicate-column-assignments": "error"},
        "UPDATE public.big SET n = 1, s = '2' WHERE id = 1",
    ),
    Case(
        "50-int",
        "ALTER TABLE public.big ADD COLUMN x int",
        {"squawk:prefer-bigint-over-int": "warning"},
        "ALTER TABLE public.big ADD COLUMN x bigint; ALTER TABLE public.empty ALTER n TYPE integer",
    ),
    Case(
        "50-smallint",
        "CREATE TABLE public.new (x smallint)",
        {"squawk:prefer-bigint-over-smallint": "warning"},
        "CREATE TABLE public.new (x bigint)",
    ),
    Case(
        "51-serial",
        "CREATE TABLE public.new (x bigserial)",
        {"squawk:prefer-identity": "warning"},
        "CREATE TABLE public.new (x bigint GENERATED ALWAYS AS IDENTITY)",
    ),
    Case("52-char", "CREATE TABLE public.new (x char(3))", {"squawk:ban-char-field": "warning"}),
    Case(
        "53-varchar",
        "CREATE TABLE public.new (x varchar(3))",
        {"squawk:prefer-text-field": "warning"},
        "CREATE TABLE public.new (x text CHECK (length(x) <= 3)); ALTER TABLE public.big ALTER s TYPE varchar(20)",
    ),
    Case(
        "54-timestamp",
        "CREATE TABLE public.new (x timestamp)",
        {"squawk:prefer-timestamp-tz": "warning"},
        "CREATE TABLE public.new (x timestamptz)",
    ),
    Case(
        "55-wide-index",
        "CREATE INDEX CONCURRENTLY i ON public.big (n, s, price, state)",
        {"wide-index": "warning"},
        "CREATE INDEX CONCURRENTLY i ON public.big (n, s, price) INCLUDE (state);"
        "CREATE UNIQUE INDEX CONCURRENTLY j ON public.big (n, s, price, state)",
    ),
    Case(
        "56-opaque",
        "DO $$ BEGIN PERFORM 1; END $$",
        {"unanalysable": "warning"},
        "UPDATE public.big SET n = 1 WHERE id = 1",
    ),
    Case(
        "57-separate-default",
        "ALTER TABLE public.big ADD COLUMN x bigint; ALTER TABLE public.big ALTER x SET DEFAULT 1",
        {"separate-default": "warning"},
        "ALTER TABLE public.big ADD COLUMN x bigint DEFAULT 1",
    ),
    Case(
        "58-backfill-beside-ddl",
        "ALTER TABLE public.big ADD COLUMN x bigint; UPDATE public.big SET x = n WHERE n > 0",
        {"ddl-with-bulk-dml": "error"},
        "BEGIN; ALTER TABLE public.big ADD COLUMN x bigint; COMMIT; UPDATE public.big SET x = n WHERE n > 0",
    ),
    Case(
        "59-partman-retention",
        "UPDATE partman.part_config SET retention = '1 month' WHERE parent_table = 'public.parted'",
        {"partman-retention": "error"},
        "UPDATE partman.part_config SET premake = 8 WHERE parent_table = 'public.parted'",
    ),
    Case(
        "60-ignore-comment",
        "ALTER TABLE public.big\n-- squawk-ignore ban-drop-column\nDROP s",
        {"ignore-comment": "warning", "squawk:ban-drop-column": "error"},
    ),
)
