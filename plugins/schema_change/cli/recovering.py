"""``rollback``, ``restore`` and ``reconcile``: for when something went wrong."""

from __future__ import annotations

import argparse
import datetime as dt
import getpass
from dataclasses import replace
from uuid import UUID

from schema_change.cli import arguments as flags
from schema_change.cli.console import confirm, interactive, out, show_error
from schema_change.cli.running import ensure_not_at_work, finish, interruptible, print_report
from schema_change.core.database import Target
from schema_change.core.errors import BackupError, ConfigurationError, JournalError
from schema_change.core.journal.journal import Journal, RunRow
from schema_change.core.names import Table
from schema_change.core.stages.origin import is_gone
from schema_change.core.stages.reconcile import reconcile as reconcile_runs
from schema_change.core.stages.request import Options, Request
from schema_change.core.stages.restore import restore_run
from schema_change.core.stages.runner import Runner
from schema_change.core.stages.session import Pair

_UNDONE = {"rolled_back", "restored", "stopped"}


def rollback(arguments: argparse.Namespace) -> int:
    """Undo a run that has not landed; writes made meanwhile are kept. Return 0 when the database is as it was."""
    run, target = _run_and_target(arguments)
    if run.status == "applied":
        raise JournalError(
            f"run {run.run_id} has landed; from contract on a change only goes forward",
            hint=f"write a change that takes it back, or put its backup back: schema-change restore --run {run.run_id}",
        )
    ensure_not_at_work(run)
    request = _request(arguments, target, run)
    with interruptible(request, f"schema-change rollback --run {run.run_id}"), Pair(target) as pair:
        runner = Runner(request, pair=pair)
        failed = finish(runner)
        print_report(runner)
    if failed is not None:
        show_error(failed)
    return 0 if flags.run_of(target, run.run_id).status in _UNDONE and failed is None else 1


def restore(arguments: argparse.Namespace) -> int:
    """Put a run's backup back, after saying which writes are lost."""
    run, target = _run_and_target(arguments)
    if not run.backup:
        raise BackupError(f"run {run.run_id} took no backup", hint="restore from your own backups")
    tables = [Table.parse(name) for name in arguments.tables] if arguments.tables else None
    what = "the whole database" if arguments.database else ", ".join(map(str, tables or run.backup["tables"]))
    now = dt.datetime.now(dt.UTC)
    out().print(
        f"This puts back {what} of {target.conn_id} as of {run.backup['taken_at']} ({run.change_id}).\n"
        f"Every write since then, until {now.isoformat(timespec='seconds')}, is lost."
    )
    if not arguments.yes:
        if not interactive():
            raise ConfigurationError("there is nobody to ask", hint="--yes says that losing these writes is meant")
        if not confirm("Go on?"):
            out().print("nothing was changed")
            return 1
    result = restore_run(
        target,
        run.run_id,
        tables=tables,
        database=arguments.database,
        terminate_sessions=arguments.terminate_sessions,
        note=lambda line: out().print(f"    {line}"),
        actor=getpass.getuser(),
    )
    for notice in result.notices:
        out().print(f"note: {notice}")
    out().print(result.lost_writes())
    return 0


def reconcile(arguments: argparse.Namespace) -> int:
    """Finish, or roll back, runs whose process is gone; return 1 when one could not be."""
    target = flags.target_of(arguments)
    results = reconcile_runs(
        target,
        is_over=lambda run: is_gone(run.requested_from) and not _waits_for_approval(target, run),
        build=lambda run: _request(arguments, replace(target, conn_id=run.conn_id), run),
        only=arguments.run,
        progress=lambda line: out().print(f"    {line}"),
    )
    for found in results:
        out().print(f"{found.run_id} {found.change_id}: {found.action}")
    if not results:
        out().print("nothing to do: every run has ended")
    return 1 if any(found.action.startswith("failed") for found in results) else 0


def _waits_for_approval(target: Target, run: RunRow) -> bool:
    """Tell whether a run has been planned only: it owns no table and may go on whenever it is approved."""
    with target.connect("cli", read_only=True) as connection:
        return run.status == "planned" and "backup" not in Journal(connection, run.run_id).stages()


def _run_and_target(arguments: argparse.Namespace) -> tuple[RunRow, Target]:
    target = flags.target_of(arguments)
    run = flags.run_of(target, arguments.run)
    return run, replace(target, conn_id=run.conn_id)


def _request(arguments: argparse.Namespace, target: Target, run: RunRow) -> Request:
    """Return a request that ends a run from its journal, with the options it was begun with."""
    return flags.request_of(arguments, target, run.run_id, Options(**run.options), change=None)


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the three commands."""
    parser = commands.add_parser("rollback", help="undo a run that has not landed; keeps writes")
    parser.add_argument("--run", type=UUID, required=True, metavar="ID")
    _add_common(parser, rollback)

    parser = commands.add_parser("restore", help="put a run's backup back; loses later writes")
    parser.add_argument("--run", type=UUID, required=True, metavar="ID")
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument(
        "--tables", type=lambda text: text.split(","), metavar="A,B", help="default: all whose rows are in it"
    )
    scope.add_argument("--database", action="store_true", help="the whole database, beside the old one, then renamed")
    parser.add_argument("--terminate-sessions", action="store_true", help="end sessions that are in the way")
    parser.add_argument("--yes", action="store_true", help="ask no question")
    _add_common(parser, restore)

    parser = commands.add_parser("reconcile", help="finish or roll back runs whose process is gone")
    parser.add_argument("--run", type=UUID, metavar="ID", help="this run, whoever asked for it")
    _add_common(parser, reconcile)


def _add_common(parser: argparse.ArgumentParser, function: object) -> None:
    flags.add_target(parser)
    flags.add_running(parser)
    flags.add_changes(parser)
    parser.set_defaults(function=function)
