"""B9: a hundred small changes (tables, columns, indexes, comments, defaults) by ``schema-change apply`` and its peers.

Ours takes no backup and rehearses nothing; audit and verification are on. sqitch (Debian's package) deploys as it does
by default, without its verify scripts, and in two rounds with them; alembic upgrades with a transaction per revision,
yoyo applies. All run the same statements, indexes concurrently as on tables in use, in one command each, from nothing
to the last change, registry included. Before and after what a change does, commits of our journal do not wait for the
disk; so each of the others is also run, in one round and without a goal, with all of its commits not waiting. Right is
the same catalog of schema ``app`` behind each. What ours does beside the statements is listed with its cost, from one
more run under a profile.
"""

from __future__ import annotations

import contextlib
import cProfile
import io
import math
import os
import pstats
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.commands import NO_WAIT, Contender, compiled, quiet, url_of
from benchmarks.measure import Figure, Goal, Result, Rounds, noise, ratio, take_turns
from benchmarks.migrations import Small, small_changes, write_alembic, write_ours, write_sqitch, write_yoyo
from schema_change.cli.main import main
from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Target
from schema_change.core.names import Table

_FLAGS = ("--yes", "--skip-backup", "--skip-rehearsal")
_PEERS = ("sqitch", "alembic", "yoyo")
_VERIFY = "sqitch with verify"
_NO_WAIT = "{}, no wait at commit"
_NOTES = [
    (
        "apply commits what a change does as the others do; its journal before and after that does not wait for the"
        " disk (synchronous_commit = off)"
    ),
    "no wait at commit: the same with PGOPTIONS='-c synchronous_commit=off', in one round",
    "costs are from one more run under a profile, in one process, per change; they overlap",
]
_NO_SQITCH = "sqitch was not found; apt-get install sqitch libdbd-pg-perl postgresql-client compares it too"
#: What ours does beside the statements, by the function that does it: (file, function).
_SAFETIES = {
    "catalog reading": ("catalog/read.py", "_patiently"),
    "lint": ("planning/lint.py", "lint_plan"),
    "pre-checks (drift, chain, locks, privileges, data …)": ("prechecks/run.py", "run_checks"),
    "migration guide": ("planning/guide.py", "render_guide"),
    "probes of what was made": ("stages/validate.py", "check_shape"),
    "fence": ("journal/fence.py", "try_fence"),
    "audit trail": ("journal/journal.py", "event"),
    "journal of stages": ("journal/journal.py", "start_stage"),
    "looking before each lock": ("execution/blockers.py", "look"),
    "report": ("stages/finish.py", "report"),
}


def run(bench: Bench) -> Result:
    """Let every tool apply the changes to an empty database, in turns."""
    changes = small_changes()
    contenders = _contenders(bench, changes)
    guests = [_VERIFY, *map(_NO_WAIT.format, _PEERS)]
    rounds = take_turns(contenders, bench.rounds, only={**dict.fromkeys(guests, 1), _VERIFY: 2}, say=bench.say)
    unknown = {p: (math.nan,) for p in _PEERS if p not in rounds}
    to_peers = {p: ratio(rounds, "apply", p) for p in _PEERS if p in rounds} | unknown
    figures = [Figure(f"apply to {p}", values, Goal(1), peer=True) for p, values in to_peers.items()]
    beside = [name for name in guests if name in rounds]
    figures += [Figure(f"apply to {name}", ratio(rounds, "apply", name), peer=True) for name in beside]
    each = Figure("apply, per change", tuple(s / len(changes) * 1000 for s in rounds["apply"]), unit="ms")
    costs = _costs(bench, changes)
    return Result(
        "B9",
        f"{len(changes)} small changes",
        [*figures, each, *costs, noise(rounds, "alembic", "alembic again")],
        rounds,
        bench.setting(changes=len(changes), versions=_versions()),
        [*([_NO_SQITCH] if unknown else []), *_NOTES],
    )


def _versions() -> dict[str, str]:
    found = {"alembic": version("alembic"), "yoyo": version("yoyo-migrations")}
    if sqitch := shutil.which("sqitch"):
        said = subprocess.run([sqitch, "--version"], check=True, capture_output=True, text=True).stdout
        found["sqitch"] = said.split()[-1]
    return found


def _contenders(bench: Bench, changes: list[Small]) -> dict[str, Contender]:
    environment = compiled(bench)
    scripts = Path(sys.executable).parent
    folders = {name: bench.folder / f"b09_{name}" for name in ("ours", "sqitch", "alembic", "yoyo")}
    for folder in folders.values():
        folder.mkdir()
    target = bench.server.target("b09")
    ids = write_ours(changes, folders["ours"])
    write_sqitch(changes, folders["sqitch"])
    write_alembic(changes, folders["alembic"], url_of(target, "+psycopg"))
    write_yoyo(changes, folders["yoyo"])
    apply = [sys.executable, "-m", "schema_change.cli", "apply", *ids, *_FLAGS]
    alembic = [str(scripts / "alembic"), "upgrade", "head"]
    yoyo = [str(scripts / "yoyo"), "apply", "--batch", "--no-config-file", "--database"]
    yoyo += [url_of(target, "+psycopg"), str(folders["yoyo"])]
    found = {
        "apply": (apply, folders["ours"], {"AIRFLOW_CONN_APP": url_of(target)}),
        "alembic": (alembic, folders["alembic"], {}),
        "alembic again": (alembic, folders["alembic"], {}),
        "yoyo": (yoyo, folders["yoyo"], {}),
    }
    uri = f"db:pg{url_of(target).removeprefix('postgresql')}"
    if sqitch := shutil.which("sqitch"):
        found["sqitch"] = ([sqitch, "deploy", "--no-verify", uri], folders["sqitch"], {})
    else:
        bench.say(_NO_SQITCH)
    fingerprints: dict[str, str] = {}

    def contend(name: str, command: list[str], folder: Path, more: Mapping[str, str]) -> float:
        _fresh(bench)
        timed: Rounds = take_turns({name: partial(quiet, command, folder, {**environment, **more})}, 1)
        fingerprints[name] = _fingerprint(target)
        if len(set(fingerprints.values())) != 1:
            raise AssertionError(f"the tools left different catalogs: {fingerprints}")
        return timed[name][0]

    for name in ("apply", "alembic", "yoyo"):  # compiles the modules
        contend(name, *found[name])
    turns: dict[str, Contender] = {name: partial(contend, name, *how) for name, how in found.items()}
    guests = {_NO_WAIT.format(p): (found[p][0], found[p][1], NO_WAIT) for p in _PEERS if p in found}
    if sqitch:
        guests[_VERIFY] = ([sqitch, "deploy", "--verify", uri], folders["sqitch"], {})
    return turns | {name: partial(contend, name, *how) for name, how in guests.items()}


def _fresh(bench: Bench) -> Target:
    target = bench.database("b09")
    with target.connect("bench") as connection:
        connection.execute("CREATE SCHEMA app")
    bench.checkpoint()
    return target


def _fingerprint(target: Target) -> str:
    with target.connect("bench") as connection:
        catalog = read_catalog(connection)
    tables = [table for table in catalog.relations if table.schema == "app"]
    if not tables or Table("app", "t0") not in tables:
        raise AssertionError("nothing was made")
    return catalog.restricted(tables).fingerprint


def _costs(bench: Bench, changes: list[Small]) -> list[Figure]:
    """Apply them once more in this process, profiled; return the milliseconds that each safety took per change."""
    folder = bench.folder / "b09_profiled"
    folder.mkdir()
    ids = write_ours(changes, folder)
    profile = cProfile.Profile()
    with _within(folder, {"AIRFLOW_CONN_APP": url_of(_fresh(bench))}), contextlib.redirect_stdout(io.StringIO()):
        code = profile.runcall(main, ["apply", *ids, *_FLAGS])
    if code:
        raise AssertionError("the profiled run did not land")
    times = pstats.Stats(profile).stats  # type: ignore[attr-defined] # (file, line, function) → (…, cumulative, …)
    found = []
    for name, (file, function) in _SAFETIES.items():
        spent = [t[3] for (path, _, called), t in times.items() if path.endswith(file) and called == function]
        per_change = sum(spent) / len(changes) * 1000 if spent else math.nan
        found.append(Figure(f"cost of {name}, per change", (per_change,), unit="ms"))
    return found


@contextlib.contextmanager
def _within(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
