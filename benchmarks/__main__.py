"""Run the benchmark, or the works named: ``python -m benchmarks [B1 B7] [--rows N] [--rounds N]``."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import benchmarks
from benchmarks import page
from benchmarks.bench import Bench, started
from benchmarks.measure import Result

RESULTS = Path(__file__).parent / "results"
Work = Callable[[Bench], Result]


def works() -> dict[str, Work]:
    """Return the function ``run`` of every module ``bNN_…``, by its key."""
    names = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if re.fullmatch(r"b\d\d_\w+", m.name)]
    return {f"B{int(name[1:3])}": importlib.import_module(f"benchmarks.{name}").run for name in sorted(names)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the works and write ``results/latest.json`` and its page; return the exit code."""
    known = works()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("keys", nargs="*", choices=[[], *known], metavar="KEY", help=f"of {', '.join(known)}")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of large tables")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    chosen = parser.parse_args(arguments)
    for key in chosen.keys or known:
        print(f"{key}: {known[key].__module__.rsplit('.', 1)[-1][4:]}", flush=True)
        with started(chosen.rows, chosen.rounds) as bench:
            _keep(known[key](bench))
    page.write(RESULTS)
    return 0


def _keep(result: Result) -> None:
    """Write a work's result beside those of the other works, and say what it is."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "latest.json"
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    found[result.key] = {"measured_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), **result.to_json()}
    found = dict(sorted(found.items(), key=lambda item: int(item[0][1:])))
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for figure in result.figures:
        low, high = figure.spread
        goal = f" (goal {figure.goal}: {figure.verdict})" if figure.goal else ""
        print(f"  {figure.name}: {figure.median:.3g} {figure.unit} [{low:.3g}, {high:.3g}]{goal}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
