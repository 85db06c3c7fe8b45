"""B11: plan one change in a database with 10,000 tables (200,000 columns), against ``pg_dump --schema-only`` of it.

Both are commands as a person types them: ``schema-change plan`` reads the catalog, lints, runs every pre-check and
renders the guide; pg_dump (the server's own version) writes the schema to a file. The goal is on the whole commands;
what they take without the start of their process, as ``--help`` and ``--version`` take it, is shown beside it. The
whole catalog, which a change of raw SQL needs, is timed too. Right is a plan with the one step that is wanted, on the
fingerprint that the whole catalog gives too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.bench import Bench
from benchmarks.commands import compiled, output, quiet, url_of
from benchmarks.measure import Figure, Goal, Result, noise, ratio, take_turns
from schema_change.core.catalog.read import read_catalog
from schema_change.core.names import Table

_TABLES = 10_000
_TABLE = Table("s1", "t1001")
_MAKE = """
DO $$
BEGIN
    FOR s IN 0..9 LOOP EXECUTE format('CREATE SCHEMA s%s', s); END LOOP;
    FOR i IN 1..{tables} LOOP
        EXECUTE format(
            'CREATE TABLE s%1$s.t%2$s (id bigint PRIMARY KEY, parent_id bigint, code text NOT NULL DEFAULT ''none'','
            ' amount numeric(12,2) DEFAULT 0 CHECK (amount >= 0),'
            ' state varchar(20) CHECK (state IN (''new'', ''done'')), created_at timestamptz NOT NULL DEFAULT now(),'
            ' a1 int, a2 int, a3 text, a4 text, a5 date, a6 jsonb, a7 boolean DEFAULT false, a8 double precision,'
            ' a9 text[], a10 uuid, a11 int, a12 text, a13 int, a14 text)',
            i % 10, i);
        EXECUTE format('CREATE INDEX t%2$s_created ON s%1$s.t%2$s (created_at, state)', i % 10, i);
        IF i % 5 = 0 THEN
            EXECUTE format(
                'ALTER TABLE s%1$s.t%2$s ADD FOREIGN KEY (parent_id) REFERENCES s%3$s.t%4$s',
                i % 10, i, (i - 1) % 10, i - 1);
        END IF;
        IF i % 10 = 0 THEN
            EXECUTE format('COMMENT ON TABLE s%1$s.t%2$s IS ''table %2$s''', i % 10, i);
            EXECUTE format('GRANT SELECT ON s%1$s.t%2$s TO PUBLIC', i % 10, i);
        END IF;
        IF i % 50 = 0 THEN
            EXECUTE format('CREATE VIEW s%1$s.v%2$s AS SELECT id, amount * 2 AS twice FROM s%1$s.t%2$s', i % 10, i);
        END IF;
        IF i % 500 = 0 THEN COMMIT; END IF;
    END LOOP;
END $$;
"""


def run(bench: Bench) -> Result:
    """Make the database once, then let the commands take turns."""
    target = bench.database("b11")
    bench.say(f"making {_TABLES:,} tables")
    with target.connect("bench") as connection:
        connection.execute(_MAKE.replace("{tables}", str(_TABLES)).encode())
        connection.execute("VACUUM ANALYZE")
        (columns,) = connection.execute(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema ~ '^s[0-9]$'"
        ).fetchone() or (0,)
        started = time.perf_counter()
        fingerprint = read_catalog(connection).restricted([_TABLE]).fingerprint
        whole = time.perf_counter() - started
    changes = _write_change(bench.folder / "b11")
    environment = compiled(bench) | {"AIRFLOW_CONN_BIG": url_of(target)}
    command = [sys.executable, "-m", "schema_change.cli"]
    plan = [*command, "plan", "001_note", "--changes", str(changes), "--json", "--skip-backup", "--skip-rehearsal"]
    pg_dump = bench.server.installation.tool("pg_dump")
    dump = [pg_dump, "--schema-only", f"--dbname={url_of(target)}", f"--file={bench.folder / 'b11.sql'}"]

    def planned() -> None:
        _check(json.loads(output(plan, bench.folder, environment)))

    planned()  # compiles the modules
    rounds = take_turns(
        {
            "plan": planned,
            "pg_dump": partial(quiet, dump, bench.folder, environment),
            "pg_dump again": partial(quiet, dump, bench.folder, environment),
            "start of plan": partial(quiet, [*command, "plan", "--help"], bench.folder, environment),
            "start of pg_dump": partial(quiet, [pg_dump, "--version"], bench.folder, environment),
        },
        bench.rounds,
        say=bench.say,
    )
    with target.connect("bench") as connection:
        if read_catalog(connection, [_TABLE]).fingerprint != fingerprint:
            raise AssertionError("a catalog read in part has another fingerprint")
    inner = {
        "plan": _without(rounds["plan"], rounds["start of plan"]),
        "pg_dump": _without(rounds["pg_dump"], rounds["start of pg_dump"]),
    }
    return Result(
        "B11",
        "Plan of one change in a database with 10,000 tables",
        [
            Figure("plan to pg_dump --schema-only", ratio(rounds, "plan", "pg_dump"), Goal(0.5), peer=True),
            Figure("the same without process start", ratio(inner, "plan", "pg_dump"), peer=True),
            Figure("the whole catalog, as raw SQL needs it", (whole,), unit="s"),
            noise(rounds, "pg_dump", "pg_dump again"),
        ],
        rounds,
        bench.setting(tables=_TABLES, columns=columns, bytes_of_schema=(bench.folder / "b11.sql").stat().st_size),
        ["process start is that of `schema-change plan --help` and of `pg_dump --version`"],
    )


def _write_change(root: Path) -> Path:
    folder = root / "include" / "sql" / "changes" / "001_note"
    folder.mkdir(parents=True)
    column = {"name": "noted_at", "type": "timestamptz", "comment": "when it was noted"}
    document = {
        "description": "When a row was noted",
        "conn_id": "big",
        "operations": [{"add_column": {"table": str(_TABLE), "column": column}}],
    }
    (folder / "change.yaml").write_text(yaml.safe_dump(document), "utf-8")
    return folder.parent


def _check(found: dict[str, Any]) -> None:
    if [step["phase"] for step in found["steps"]] != ["expand"] or any(c["status"] == "fail" for c in found["checks"]):
        raise AssertionError(f"not the plan that is wanted: {found['steps']}")


def _without(whole: Sequence[float], start: Sequence[float]) -> list[float]:
    return [all_of_it - of_start for all_of_it, of_start in zip(whole, start, strict=True)]
