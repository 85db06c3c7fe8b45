"""Run the benchmark, or the works named: ``python -m benchmarks [B1 B7] [--rows N] [--rounds N]``.

Without names all works of the engine run (B…); those of the warehouse (W…) are asked for by name. Only a run with the
default sizes writes into ``benchmarks/results``; any other writes into a folder of its own.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import pkgutil
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks import page
from benchmarks.bench import Bench, started
from benchmarks.measure import Result, stopwatch

RESULTS = Path(__file__).parent / "results"
ROWS, ROUNDS = 2_000_000, 5
#: A work gives one result, or those of several keys that are measured side by side.
Work = Callable[[Bench], Result | Sequence[Result]]


def works() -> dict[str, Work]:
    """Return the function ``run`` of each module ``bNN_…`` and ``wNN_…``, by its key; one with more keys names them."""
    names = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if re.fullmatch(r"[bw]\d\d_\w+", m.name))
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    found = {
        key: module.run
        for name, module in modules.items()
        for key in getattr(module, "KEYS", (f"{name[0].upper()}{int(name[1:3])}",))
    }
    return {key: found[key] for key in sorted(found, key=_number)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the works and write ``latest.json`` and its page; return 1 when a work has failed."""
    known = works()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("keys", nargs="*", choices=[[], *known], metavar="KEY", help=f"of {', '.join(known)}")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of large tables")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of each comparison; two more of latencies")
    chosen = parser.parse_args(arguments)
    # As an exception, so that no server or folder of ours is left.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    folder = RESULTS
    if (chosen.rows, chosen.rounds) != (ROWS, ROUNDS):
        folder = Path(tempfile.mkdtemp(prefix="schema_change_bench_results_"))
    with stopwatch() as seconds:
        wanted = dict.fromkeys(known[key] for key in chosen.keys or (k for k in known if k.startswith("B")))
        failed = [key for work in wanted for key in _run(work, known, chosen.rows, chosen.rounds, folder)]
    page.write(folder)
    print(f"{seconds() / 60:.1f} minutes in all; {folder / 'README.md'}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _run(work: Work, known: dict[str, Work], rows: int, rounds: int, folder: Path) -> list[str]:
    """Run a work and keep what it gives; return its keys when it has failed."""
    keys = [key for key in known if known[key] is work]
    print(f"{', '.join(keys)}: {work.__module__.rsplit('.', 1)[-1][4:]}", flush=True)
    try:
        with stopwatch() as seconds, started(rows, rounds) as bench:
            found = work(bench)
    except Exception:  # noqa: BLE001  # the others are measured all the same
        traceback.print_exc()
        _keep(folder, keys, {})
        return keys
    results = [found] if isinstance(found, Result) else found
    took = {"measured_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "seconds": round(seconds(), 1)}
    beside = {"measured_at": took["measured_at"], "seconds": 0, "measured_with": keys[0]}
    _keep(folder, keys, {r.key: {**(took if r.key == keys[0] else beside), **r.to_json()} for r in results})
    _say(results)
    print(f"  took {seconds():.0f} s", flush=True)
    return []


def _keep(folder: Path, keys: Iterable[str], results: dict[str, Any]) -> None:
    """Put results in the place of what was there for their work's keys, beside those of the other works."""
    folder.mkdir(exist_ok=True)
    file = folder / "latest.json"
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    found = {**{key: value for key, value in found.items() if key not in keys}, **results}
    found = {key: found[key] for key in sorted(found, key=_number)}
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def _say(results: Iterable[Result]) -> None:
    for result in results:
        for figure in result.figures:
            low, high = figure.spread
            goal = f" (goal {figure.goal}: {figure.verdict})" if figure.goal else ""
            value = f"{figure.value:.3g} {figure.unit} [{low:.3g}, {high:.3g}]"
            print(f"  {result.key} {figure.name}: {value}{goal}", flush=True)


def _number(key: str) -> tuple[str, int]:
    return key[0], int(key[1:])


if __name__ == "__main__":
    sys.exit(main())
