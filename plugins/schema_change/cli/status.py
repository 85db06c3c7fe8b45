"""``status``: what ran, what runs, who owns which table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from uuid import UUID

from rich.table import Table as Grid
from rich.text import Text

from schema_change.cli import arguments as flags
from schema_change.cli.console import out
from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import JournalError
from schema_change.core.journal import registry
from schema_change.core.journal.journal import FINAL, Journal, get_run, list_runs
from schema_change.core.names import Table
from schema_change.core.report import report_text, run_report
from schema_change.core.stages.origin import is_gone


def status(arguments: argparse.Namespace) -> int:
    """Show the latest runs, or one run."""
    target = flags.target_of(arguments)
    with target.connect("status", read_only=True) as connection:
        if not registry.is_installed(connection):
            if arguments.run:
                raise JournalError(f"run {arguments.run} is not in database {target.database}")
            out().print(f"no change was ever run in database {target.database}")
        elif arguments.run:
            _one(connection, arguments.run)
        else:
            _all(connection)
    return 0


def _all(connection: Connection) -> None:
    grid = Grid("run", "change", "status", "risk", "asked for by", "started", box=None, pad_edge=False)
    runs = list_runs(connection)
    for run in runs:
        cells = (str(run.run_id), run.change_id, run.status, run.risk, run.requested_by, f"{run.started_at:%F %T %Z}")
        grid.add_row(*map(Text, cells))
    console = out()
    # On a terminal the table may be cut; in a pipe every value is whole.
    console.print(grid, crop=False, soft_wrap=False, width=None if console.is_terminal else 250)
    for run in runs:
        if run.status not in FINAL:
            for line in _progress(connection, run.run_id):
                console.print(f"{run.run_id}: {line}")
            if is_gone(run.requested_from):
                console.print(f"{run.run_id}: its process is gone; schema-change reconcile finishes it")
    for schema, name, run_id, since in connection.execute(sqlfiles.block("queries/status", "owners")):
        console.print(f"{Table(schema, name)} is owned by run {run_id} since {since:%F %T %Z}")


def _one(connection: Connection, run_id: UUID) -> None:
    if get_run(connection, run_id) is None:
        raise JournalError(f"run {run_id} is not in the journal", hint="schema-change status lists them")
    report = run_report(Journal(connection, run_id))
    console = out()
    console.print(report_text(report))
    for step in report["steps"]:
        console.print(f"  {step['status']:<8} {step['phase']:<8} {step['title']}")
    for line in _progress(connection, run_id):
        console.print(line)


def _progress(connection: Connection, run_id: UUID) -> Iterator[str]:
    rows = connection.execute(sqlfiles.block("queries/status", "backfills"), {"run_id": run_id})
    for title, done, estimated, waiting, finished, updated in rows:
        of = f" of about {estimated:,} ({min(done / estimated, 1):.0%})" if estimated and not finished else ""
        wait = f", waiting: {waiting}" if waiting else ""
        yield f"{title}: {done:,} rows{of}{', done' if finished else ''}{wait}, at {updated:%F %T %Z}"
    for stage, summary in connection.execute(sqlfiles.block("queries/status", "waiting"), {"run_id": run_id}):
        yield f"{stage} waits: {summary}"


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("status", help="show runs, backfills and who owns which table")
    parser.add_argument("--run", type=UUID, metavar="ID", help="everything about one run")
    flags.add_target(parser)
    flags.add_changes(parser)
    parser.set_defaults(function=status)
