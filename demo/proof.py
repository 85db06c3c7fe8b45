"""Prove from outside what a change did, or that it left nothing behind.

Nothing here asks the product: the expected values come from the CSV file, the state of the database from pg_dump and
the demo's own checksums.
"""

from __future__ import annotations

import csv
import hashlib
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from demo import weather
from schema_change.core.binaries import client_for
from schema_change.core.database import Connection, Target, server_version
from schema_change.core.errors import ConfigurationError

Quarter = tuple[str, int, int]
"""Station, year, quarter."""

COLD_COLUMN = ("integer", True, "Number of hours with temperature < -10 °C")
FAILED_CHECK = "speed_is_possible"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be true, whether it is, and what was seen."""

    name: str
    ok: bool
    seen: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What a database holds: its schema as text, rows and checksum per table, versions in the registry."""

    schema: str
    rows: Mapping[str, int]
    checksums: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Return a short hash of the schema."""
        return hashlib.sha256(self.schema.encode()).hexdigest()[:16]

    @classmethod
    def of(cls, target: Target) -> State:
        """Look at a database."""
        with target.connect("demo-proof", read_only=True) as connection:
            return cls(
                schema=_schema(target, connection),
                rows=weather.row_counts(connection),
                checksums={table: weather.checksum(connection, table) for table in weather.TABLES},
                versions=dict(weather.run_query(connection, "registry_versions")),
            )


def cold_hours() -> dict[Quarter, int]:
    """Count the hours below -10 °C per station and quarter (UTC), straight from the CSV file."""
    counts: Counter[Quarter] = Counter()
    with (weather.source() / "weather.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["time_hour"])
            cold = row["temp"] != "NA" and _celsius(row["temp"]) < -10
            counts[row["origin"], at.year, (at.month - 1) // 3 + 1] += cold
    return dict(counts)


def check_landed(target: Target, state: str) -> list[Check]:
    """Check the first change: it landed, and its values are the ones computed from the file."""
    expected = cold_hours()
    with target.connect("demo-proof", read_only=True) as connection:
        column = weather.run_query(connection, "cold_hours_column")
        versions = dict(weather.run_query(connection, "registry_versions"))
        found: dict[Quarter, int | None] = {}
        if column:
            found = {(row[0], row[1], row[2]): row[3] for row in weather.run_query(connection, "cold_hours")}
    version = versions.get("quarterly_temperature_features", "none")
    return [
        Check("the run ended in success", state == "success", state),
        Check("the column is a nullable integer with its comment", column == [COLD_COLUMN], _column(column)),
        Check(
            "every value equals the one computed from the CSV file",
            found == expected and 0 < sum(n > 0 for n in expected.values()) < len(expected),
            f"{len(found)} rows, {sum(n or 0 for n in found.values())} cold hours",
        ),
        Check("the registry says v1.1.0", version == "v1.1.0", version),
    ]


def check_validated(target: Target, run_id: str) -> list[Check]:
    """Check that Great Expectations ran for a run and stored its results."""
    results = _results(target, run_id)
    failed = [f"{check} ({severity})" for status, severity, check, _ in results if status != "passed"]
    critical = [r for r in results if r[0] != "passed" and r[1] == "critical"]
    seen = f"{len(results)} expectations" + (f", not met: {', '.join(failed)}" if failed else "")
    return [Check("Great Expectations found nothing critical", bool(results) and not critical, seen)]


def check_undone(before: State, after: State, state: str) -> list[Check]:
    """Check the second change: the run failed, and the database is what it was before."""
    total = sum(after.rows.values())
    return [
        Check("the run ended in failed", state == "failed", state),
        Check("the schema is the same (pg_dump)", before.schema == after.schema, after.fingerprint),
        Check("the row counts are the same", before.rows == after.rows, f"{total:,} rows in {len(after.rows)} tables"),
        Check("the checksums are the same", before.checksums == after.checksums, after.checksums["flights"][:16]),
        Check("the registry still says v1.0.0", after.versions.get("flights") == "v1.0.0", str(after.versions)),
    ]


def check_reason(target: Target, run_id: str, folder: Path) -> list[Check]:
    """Check that the second change failed for the right reason: flights that are too fast, named in the report."""
    with target.connect("demo-proof", read_only=True) as connection:
        too_fast = int(weather.run_query(connection, "too_fast")[0][0])
    counted = [
        count for status, _, check, count in _results(target, run_id) if check == FAILED_CHECK and status == "failed"
    ]
    texts = {name: _text(folder / name) for name in ("report.json", "report.html")}
    named = [name for name, text in texts.items() if FAILED_CHECK in text]
    return [
        Check(
            "the impossible flights were found", too_fast > 0 and counted == [too_fast], f"{too_fast} flights too fast"
        ),
        Check("the report names the failed expectation", len(named) == len(texts), ", ".join(named) or "no report"),
    ]


def _schema(target: Target, connection: Connection) -> str:
    tool = client_for(server_version(connection)).tool("pg_dump")
    with target.client_environment() as environment:
        result = subprocess.run(
            [tool, "--schema-only", "--exclude-schema=schema_change"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        raise ConfigurationError(f"pg_dump of {target.database} failed: {result.stderr.strip()}")
    # Each dump is guarded by a random word in \restrict, which says nothing about the schema.
    lines = result.stdout.splitlines()
    return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))


def _results(target: Target, run_id: str) -> list[tuple[str, str, str, int]]:
    with target.connect("demo-proof", read_only=True) as connection:
        rows = weather.run_query(connection, "validation_results", {"run_id": run_id})
    return [(row[0], row[1], row[2], int(row[3])) for row in rows]


def _celsius(fahrenheit: str) -> Decimal:
    return ((Decimal(fahrenheit) - 32) * 5 / 9).quantize(Decimal("0.1"), rounding=ROUND_HALF_UP)


def _column(rows: list[tuple[str, bool, str]]) -> str:
    return f"{rows[0][0]}, {'nullable' if rows[0][1] else 'not null'}" if rows else "no such column"


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
