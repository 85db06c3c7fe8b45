"""The unsafe patterns that no known linter flags."""

from __future__ import annotations

from tests.unit.core.planning.lint_cases import Case

_ATTACH = "FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')"

GAPS = (
    Case(
        "gap-attach-partition",
        f"ALTER TABLE public.parted ATTACH PARTITION public.loose {_ATTACH}",
        {"attach-partition": "error"},
        f"ALTER TABLE public.parted ATTACH PARTITION public.fits {_ATTACH}",
    ),
    Case(
        "gap-default-partition",
        f"ALTER TABLE public.open ATTACH PARTITION public.fits {_ATTACH}",
        {"attach-partition": "error"},
    ),
    Case(
        "gap-attach-partition-proven-in-the-plan",
        "ALTER TABLE public.loose ADD CONSTRAINT c CHECK (day >= '2024-01-01' AND day < '2025-01-01') NOT VALID;"
        f"ALTER TABLE public.parted ATTACH PARTITION public.loose {_ATTACH}",
        {"attach-partition": "error"},
        "BEGIN; ALTER TABLE public.loose ADD CONSTRAINT c CHECK (day >= '2024-01-01' AND day < '2025-01-01') NOT VALID;"
        "COMMIT; BEGIN; ALTER TABLE public.loose VALIDATE CONSTRAINT c; COMMIT;"
        f"ALTER TABLE public.parted ATTACH PARTITION public.loose {_ATTACH}",
    ),
    Case(
        "gap-attach-partition-without-its-indexes",
        f"ALTER TABLE public.parted ATTACH PARTITION public.bare {_ATTACH}",
        {"attach-partition": "error"},
    ),
    Case(
        "gap-create-partition",
        f"CREATE TABLE public.parted_2024 PARTITION OF public.parted {_ATTACH}",
        {"create-partition": "warning"},
        "CREATE TABLE public.parted_2024 (LIKE public.parted INCLUDING ALL);"
        f"ALTER TABLE public.parted ATTACH PARTITION public.parted_2024 {_ATTACH}",
    ),
    Case("gap-update-without-where", "UPDATE public.big SET n = 1", {"dml-without-where": "error"}),
    Case(
        "gap-delete-without-where",
        "DELETE FROM public.big",
        {"dml-without-where": "error"},
        "DELETE FROM public.big WHERE id = 1; DELETE FROM public.empty",
    ),
    Case(
        "gap-create-trigger",
        "CREATE TRIGGER t BEFORE INSERT ON public.big FOR EACH ROW EXECUTE FUNCTION public.f()",
        {"create-trigger": "warning"},
        "CREATE TRIGGER t BEFORE INSERT ON public.empty FOR EACH ROW EXECUTE FUNCTION public.f()",
    ),
    Case(
        "gap-disable-trigger",
        "ALTER TABLE public.big DISABLE TRIGGER ALL",
        {"disable-trigger": "error"},
        "ALTER TABLE public.empty DISABLE TRIGGER ALL",
    ),
    Case(
        "gap-refresh",
        "REFRESH MATERIALIZED VIEW public.top",
        {"refresh-materialized-view": "error"},
        "REFRESH MATERIALIZED VIEW CONCURRENTLY public.top",
    ),
    Case("gap-set-unlogged", "ALTER TABLE public.big SET UNLOGGED", {"full-rewrite": "error"}),
    Case("gap-set-logged", "ALTER TABLE public.big SET LOGGED", {"full-rewrite": "error"}),
    Case("gap-tablespace", "ALTER TABLE public.big SET TABLESPACE fast", {"full-rewrite": "error"}),
    Case("gap-access-method", "ALTER TABLE public.big SET ACCESS METHOD columnar", {"full-rewrite": "error"}),
    Case(
        "gap-lock-table",
        "LOCK TABLE public.big",
        {"lock-table": "error"},
        "LOCK TABLE public.big IN ROW SHARE MODE",
    ),
    Case(
        "gap-dropped-column-of-a-view",
        "ALTER TABLE public.big DROP COLUMN n",
        {"drop-with-dependants": "error"},
    ),
    Case("gap-dropped-table-of-a-view", "DROP TABLE public.big", {"drop-with-dependants": "error"}),
    Case(
        "gap-retyped-column-of-a-view",
        "ALTER TABLE public.big ALTER n TYPE bigint",
        {"retype-with-dependants": "error"},
        "ALTER TABLE public.big ALTER s TYPE text",
    ),
    Case(
        "gap-cascade",
        "ALTER TABLE public.big DROP CONSTRAINT checked_check CASCADE",
        {"drop-cascade": "error"},
        "ALTER TABLE public.big DROP CONSTRAINT checked_check",
    ),
    Case(
        "gap-published-table",
        "ALTER TABLE public.sent ADD COLUMN x bigint",
        {"published-table": "warning"},
        "ALTER TABLE public.big ADD COLUMN x bigint",
    ),
    Case(
        "gap-invalid-index",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS half ON public.big (n)",
        {"invalid-index": "error"},
        "DROP INDEX CONCURRENTLY public.half; CREATE INDEX CONCURRENTLY half ON public.big (n)",
    ),
)
