"""B10: twenty checks of a table with our runner, against one query by hand and Great Expectations as it comes.

The query is what somebody would write who knows PostgreSQL: one aggregate over the table for everything that one pass
can tell, and a subquery of its own for each key. Great Expectations as it comes is its quick start (ephemeral context,
table asset, validation definition, default result format) with the twenty checks as its own documentation spells them;
ours is the suite as docs/validation.md says to write it. All three must give the same twenty answers. Importing the
library is excluded and shown apart; the pages are left out on both sides.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

from psycopg import sql

from benchmarks.bench import Bench
from benchmarks.measure import Figure, Goal, Result, noise, ratio, speed, stopwatch, take_turns
from schema_change.core.database import Target
from schema_change.core.model import Expectation
from schema_change.core.names import Table
from schema_change.core.validation.gx import run_suites
from schema_change.core.validation.quiet import load_builder
from schema_change.core.validation.suites import Suite

TABLE = Table("bench", "rows")
QUERY, AGAIN, OURS, LIBRARY = "one query", "one query again", "schema_change", "Great Expectations as it comes"

_IMPORTS = {
    "import of Great Expectations, our way": (
        "from schema_change.core.validation.quiet import load_builder; load_builder()"
    ),
    "import of Great Expectations as it comes": "import great_expectations",
}
_IMPORT_ROUNDS = 3
_FILL = """
CREATE SCHEMA bench;
CREATE TABLE bench.regions (id int PRIMARY KEY);
INSERT INTO bench.regions SELECT generate_series(0, 99);
CREATE TABLE bench.rows (
    id bigint PRIMARY KEY, region int NOT NULL, slot int NOT NULL, email text NOT NULL, status text NOT NULL,
    code text NOT NULL, amount numeric(12, 2) NOT NULL, quantity int NOT NULL, score double precision NOT NULL,
    note text, created timestamptz NOT NULL, updated timestamptz NOT NULL
);
INSERT INTO bench.rows
SELECT
    g, g % 100, g / 100, 'user' || g || '@example.org', (ARRAY['new', 'paid', 'sent', 'done'])[1 + g % 4],
    'C' || lpad((g % 1000000)::text, 6, '0'), (g % 99991) / 100.0, g % 97, (g % 1009) / 7.0,
    CASE WHEN g % 8 > 0 THEN 'note' END, '2024-01-01'::timestamptz + g * interval '1 second',
    '2024-01-01'::timestamptz + g * interval '1 second' + (g % 50) * interval '1 minute'
FROM generate_series(1, {rows}::bigint) AS g;
"""

_EMAIL = r"^[a-z0-9.]+@[a-z.]+$"

#: The checks that are spelled alike on both sides, by the name of their answer.
_SHARED: dict[str, tuple[str, dict[str, Any]]] = {
    "rows": ("expect_table_row_count_to_be_between", {"min_value": 1}),
    "no email": ("expect_column_values_to_not_be_null", {"column": "email"}),
    "no note": ("expect_column_values_to_not_be_null", {"column": "note", "mostly": 0.8}),
    "amount": (
        "expect_column_values_to_be_between",
        {"column": "amount", "min_value": 0, "max_value": 990, "mostly": 0.9},
    ),
    "quantity": ("expect_column_values_to_be_between", {"column": "quantity", "min_value": 0, "max_value": 96}),
    "status": ("expect_column_values_to_be_in_set", {"column": "status", "value_set": ["new", "paid", "sent", "done"]}),
    "email": ("expect_column_values_to_match_regex", {"column": "email", "regex": _EMAIL}),
    "code": ("expect_column_value_lengths_to_equal", {"column": "code", "value": 7}),
    "unique": ("expect_column_values_to_be_unique", {"column": "id"}),
    "min": ("expect_column_min_to_be_between", {"column": "quantity", "min_value": 0}),
    "max": ("expect_column_max_to_be_between", {"column": "quantity", "max_value": 96}),
    "mean": ("expect_column_mean_to_be_between", {"column": "quantity", "min_value": 1}),
    "sum": ("expect_column_sum_to_be_between", {"column": "quantity", "min_value": 1}),
    "deviation": ("expect_column_stdev_to_be_between", {"column": "score", "min_value": 1}),
    "distinct": ("expect_column_unique_value_count_to_be_between", {"column": "region", "max_value": 100}),
    "order": (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "updated", "column_B": "created", "or_equal": True},
    ),
}
_COLUMNS = {
    "id": "bigint",
    "region": "integer",
    "slot": "integer",
    "email": "text",
    "status": "text",
    "code": "text",
    "amount": "numeric(12,2)",
    "quantity": "integer",
    "score": "double precision",
    "note": "text",
    "created": "timestamp with time zone",
    "updated": "timestamp with time zone",
}
_THEIRS = {
    **_SHARED,
    "key": ("expect_compound_columns_to_be_unique", {"column_list": ["region", "slot"]}),
    "rule": (
        "unexpected_rows_expectation",
        {"unexpected_rows_query": "SELECT * FROM {batch} WHERE NOT (amount >= 0 AND quantity < 100)"},
    ),
    "orphans": (
        "unexpected_rows_expectation",
        {
            "unexpected_rows_query": "SELECT r.id FROM {batch} r LEFT JOIN bench.regions p ON p.id = r.region"
            " WHERE p.id IS NULL"
        },
    ),
    "schema": ("expect_table_columns_to_match_set", {"column_set": list(_COLUMNS), "exact_match": True}),
}
_OURS = {
    **_SHARED,
    "key": ("expect_compound_key_to_be_unique", {"columns": ["region", "slot"]}),
    "rule": ("expect_rows_to_satisfy_sql", {"sql": "amount >= 0 AND quantity < 100"}),
    "orphans": (
        "expect_no_orphaned_rows",
        {"columns": ["region"], "parent_table": "bench.regions", "parent_columns": ["id"]},
    ),
    "schema": ("expect_pg_schema_to_match", {"columns": _COLUMNS}),
}

# Each count is of what offends, as in the answers of a check. Of GROUP BY and count(DISTINCT …) for the keys the former
# is the faster, and leaves the rest to parallel workers.
_QUERY = """
SELECT
    count(*),
    count(*) FILTER (WHERE email IS NULL),
    count(*) FILTER (WHERE note IS NULL),
    count(*) FILTER (WHERE NOT amount BETWEEN 0 AND 990),
    count(*) FILTER (WHERE NOT quantity BETWEEN 0 AND 96),
    count(*) FILTER (WHERE status NOT IN ('new', 'paid', 'sent', 'done')),
    count(*) FILTER (WHERE email !~ %(email)s),
    count(*) FILTER (WHERE length(code) <> 7),
    (SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM bench.rows GROUP BY id HAVING count(*) > 1) AS k),
    min(quantity),
    max(quantity),
    avg(quantity),
    sum(quantity),
    stddev_samp(score),
    (SELECT count(*) FROM (SELECT DISTINCT region FROM bench.rows WHERE region IS NOT NULL) AS d),
    count(*) FILTER (WHERE updated < created),
    (
        SELECT coalesce(sum(n), 0)
        FROM (SELECT count(*) AS n FROM bench.rows GROUP BY region, slot HAVING count(*) > 1) AS k
    ),
    count(*) FILTER (WHERE (amount >= 0 AND quantity < 100) IS NOT TRUE),
    (
        SELECT count(*) FROM bench.rows AS r
        WHERE r.region IS NOT NULL AND NOT EXISTS (SELECT FROM bench.regions AS p WHERE p.id = r.region)
    ),
    (
        SELECT (array_agg(attname || ' ' || format_type(atttypid, atttypmod) ORDER BY attnum) = %(columns)s)::int
        FROM pg_attribute
        WHERE attrelid = 'bench.rows'::regclass AND attnum > 0 AND NOT attisdropped
    )
FROM bench.rows
"""
_VALUES = {"email": _EMAIL, "columns": [f"{name} {type_}" for name, type_ in _COLUMNS.items()]}
_NAMES = (*_SHARED, "key", "rule", "orphans", "schema")

Answers = Mapping[str, float]


def run(bench: Bench) -> Result:
    """Measure the three, after they have agreed on every answer."""
    target = bench.database("b10")
    with target.connect("bench") as connection:
        connection.execute(sql.SQL(_FILL).format(rows=sql.Literal(bench.rows)))
    with target.connect("bench") as connection:
        connection.execute("VACUUM ANALYZE")
        size = connection.execute("SELECT pg_relation_size('bench.rows')").fetchone()
    load_builder()

    contenders: dict[str, Callable[[], Answers]] = {
        QUERY: lambda: _by_hand(target),
        AGAIN: lambda: _by_hand(target),
        OURS: lambda: _ours(target),
        LIBRARY: lambda: _as_it_comes(target),
    }
    expected = _by_hand(target)
    passes: dict[str, list[float]] = {name: [] for name in contenders}

    def checked(name: str) -> float:
        before = _rows_read(target)
        with stopwatch() as seconds:
            answers = contenders[name]()
        passes[name].append((_rows_read(target) - before) / bench.rows)
        _agree(expected, answers)
        return seconds()

    rounds = take_turns({name: partial(checked, name) for name in contenders}, bench.rounds, say=bench.say)
    imports = take_turns(
        {name: partial(_import_seconds, statement) for name, statement in _IMPORTS.items()},
        _IMPORT_ROUNDS,
        say=bench.say,
    )
    return Result(
        "B10",
        "A suite of 20 checks",
        [
            Figure("our suite against one query by hand", ratio(rounds, OURS, QUERY), Goal(2), peer=True),
            Figure(
                "our suite, times as fast as Great Expectations as it comes",
                speed(rounds, OURS, LIBRARY),
                Goal(3, at_least=True),
                peer=True,
            ),
            noise(rounds, QUERY, AGAIN),
            *(
                Figure(f"passes over the table: {name}", tuple(passes[name]), unit="passes")
                for name in (QUERY, OURS, LIBRARY)
            ),
            *(Figure(name, tuple(seconds), unit="s") for name, seconds in imports.items()),
        ],
        {**rounds, **imports},
        bench.setting(rows=bench.rows, bytes=size[0] if size else 0, great_expectations=version("great_expectations")),
        ["all three agree on the 20 answers in every round; the import is excluded"],
    )


def _import_seconds(statement: str) -> float:
    """Return what an import costs beyond starting Python."""
    seconds = []
    for code in (statement, "pass"):
        with stopwatch() as elapsed:
            subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
        seconds.append(elapsed())
    return seconds[0] - seconds[1]


def _agree(expected: Answers, found: Answers) -> None:
    """Refuse to compare different work."""
    names = expected.keys() | found.keys()
    wrong = {n for n in names if not math.isclose(expected.get(n, math.nan), found.get(n, math.nan), rel_tol=1e-9)}
    if wrong:
        raise AssertionError(f"the answers differ: { {n: (expected.get(n), found.get(n)) for n in sorted(wrong)} }")


def _rows_read(target: Target) -> int:
    """Return how many rows scans of the table have read so far; what an index alone answers is not counted."""
    with target.connect("bench") as connection:
        row = connection.execute("SELECT pg_stat_get_tuples_returned('bench.rows'::regclass)").fetchone()
    return int(row[0]) if row else 0


def _by_hand(target: Target) -> Answers:
    with target.connect("bench", read_only=True) as connection:
        row = connection.execute(_QUERY.encode(), _VALUES).fetchone()
    return {name: float(value) for name, value in zip(_NAMES, row or (), strict=True)}


def _ours(target: Target) -> Answers:
    checks = tuple(Expectation(TABLE, type_, kwargs, name) for name, (type_, kwargs) in _OURS.items())
    outcomes = run_suites(target, [Suite("b10", TABLE, checks)], docs=None, run_name="b10").outcomes
    if wrong := [o for o in outcomes if o.status != "passed"]:
        raise AssertionError(f"not passed: {wrong}")
    counts = {o.check_id: o.unexpected_count for o in outcomes}
    answers: dict[str, Any] = {
        o.check_id: o.observed if counts[o.check_id] is None else counts[o.check_id] for o in outcomes
    }
    return {name: float(value) for name, value in {**answers, "schema": 1}.items()}


def _as_it_comes(target: Target) -> Answers:
    import great_expectations as gx  # noqa: PLC0415
    from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415
    from great_expectations.expectations.registry import get_expectation_impl  # noqa: PLC0415

    where = target.parameters
    url = f"postgresql+psycopg2://{where['user']}@{where['host']}:{where['port']}/{where['dbname']}"
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_postgres("pg", connection_string=url)
    data = source.add_table_asset("rows", table_name=TABLE.name, schema_name=TABLE.schema)
    suite = context.suites.add(
        gx.ExpectationSuite(
            "b10",
            [get_expectation_impl(type_)(**kwargs, meta={"name": name}) for name, (type_, kwargs) in _THEIRS.items()],
        )
    )
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name="b10", data=data.add_batch_definition_whole_table("all"), suite=suite)
    )
    try:
        results = definition.run().results
    finally:
        source.get_execution_engine().close()
        source.get_engine().dispose()
    return dict(map(_answer, results))


def _answer(result: Any) -> tuple[str, float]:
    name, found = result.expectation_config.meta["name"], result.result
    if not result.success:
        raise AssertionError(f"{name}: {result}")
    return name, 1.0 if name == "schema" else float(found.get("unexpected_count", found.get("observed_value")))
