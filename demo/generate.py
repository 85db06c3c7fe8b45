"""Make the demo's tables at any size: ``python -m demo.generate --rows 1000000 --seed 1 --dsn postgresql://…``."""

from __future__ import annotations

import argparse
import sys
import time

import psycopg

from demo import weather
from schema_change.core.database import Target
from schema_change.core.errors import SchemaChangeError


def main(arguments: list[str] | None = None) -> int:
    """Fill the database of ``--dsn`` and print rows per table; return 0, or 1 with one line on what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m demo.generate", description=__doc__)
    parser.add_argument("--rows", type=int, required=True, help="rows of quarterly_temperature_features and of flights")
    parser.add_argument("--seed", type=int, default=1, help="same rows and seed: same tables")
    parser.add_argument("--dsn", required=True, help="an empty database; its password belongs in PGPASSWORD")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        counts = weather.generate(Target.from_dsn("generated", options.dsn), options.rows, options.seed)
    except (SchemaChangeError, psycopg.Error) as error:
        print(f"cannot generate: {error}", file=sys.stderr)
        return 1
    for table, rows in counts.items():
        print(f"{rows:>12,}  {table}")
    print(f"done in {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
