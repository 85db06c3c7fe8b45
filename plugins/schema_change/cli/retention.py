"""``retired``, ``recover``, ``purge`` and ``purge-backups``: what is kept for a while."""

from __future__ import annotations

import argparse
import getpass

from upath import UPath

from schema_change.cli import arguments as flags
from schema_change.cli.console import out
from schema_change.core.retention.backups import KEEP_DAYS
from schema_change.core.retention.backups import purge_backups as purge_old_backups
from schema_change.core.retention.export import export
from schema_change.core.retention.kept import all_kept
from schema_change.core.retention.purge import purge as purge_kept
from schema_change.core.retention.recover import recover as recover_kept
from schema_change.core.wording import counted, sized


def retired(arguments: argparse.Namespace) -> int:
    """Show what was dropped and what became of it."""
    with flags.target_of(arguments).connect("retired", read_only=True) as connection:
        found = all_kept(connection)
    if not found:
        out().print("nothing was ever dropped by a change in this database")
        return 0
    for kept in found:
        size = f", {sized(kept.bytes)}" if kept.there else ""
        out().print(f"{kept.id:>4}  {kept.what}: dropped {kept.retired_at:%F} by {kept.change}, {kept.state}{size}")
    return 0


def recover(arguments: argparse.Namespace) -> int:
    """Bring dropped data back, or write it to a file; return 1 when something was left alone."""
    target = flags.target_of(arguments)
    if arguments.csv:
        rows = export(target, arguments.id, UPath(arguments.csv).absolute(), actor=getpass.getuser())
        out().print(f"{counted(rows, 'row')} written to {arguments.csv}")
        return 0
    result = recover_kept(target, arguments.id, note=lambda line: out().print(f"    {line}"), actor=getpass.getuser())
    out().print(str(result))
    for conflict in result.conflicts:
        out().print(f"  {conflict}")
    for notice in result.notices:
        out().print(f"note: {notice}")
    return 1 if result.conflicts else 0


def purge(arguments: argparse.Namespace) -> int:
    """Drop what is kept beyond its time; return 1 when something could not be."""
    results = purge_kept(
        flags.target_of(arguments),
        note=lambda line: out().print(f"    {line}"),
        only=arguments.id,
        dry_run=arguments.dry_run,
        actor=getpass.getuser(),
    )
    for result in results:
        out().print(str(result))
    if not results:
        out().print("nothing is kept beyond its time")
    return 1 if any(result.state == "failed" for result in results) else 0


def purge_backups(arguments: argparse.Namespace) -> int:
    """Delete backups that are old and not needed; return 1 when one could not be."""
    results = purge_old_backups(
        flags.target_of(arguments),
        UPath(arguments.artifacts).absolute(),
        days=arguments.days,
        dry_run=arguments.dry_run,
        actor=getpass.getuser(),
    )
    for result in results:
        out().print(str(result))
    if not results:
        out().print(f"no backup is older than {counted(arguments.days, 'day')}")
    return 1 if any(result.state == "failed" for result in results) else 0


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the four commands."""
    parser = commands.add_parser("retired", help="list dropped tables, columns and rows that are kept")
    _add_common(parser, retired)

    parser = commands.add_parser("recover", help="bring dropped data back; overwrites nothing")
    parser.add_argument("--id", type=int, required=True, metavar="N", help="which, as schema-change retired shows it")
    parser.add_argument("--csv", metavar="FILE", help="write it to a file (any fsspec URL) and bring nothing back")
    _add_common(parser, recover)

    parser = commands.add_parser("purge", help="drop what is kept beyond its time")
    parser.add_argument("--id", type=int, metavar="N", help="this one, now, also before its time is over")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    _add_common(parser, purge)

    parser = commands.add_parser("purge-backups", help="delete backups that are old and not needed any more")
    parser.add_argument("--days", type=_days, default=KEEP_DAYS, metavar="N", help="how old; default: %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    flags.add_artifacts(parser)
    _add_common(parser, purge_backups)


def _days(text: str) -> int:
    """Return a number of days."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on is needed, not {text}")
    return int(text)


def _add_common(parser: argparse.ArgumentParser, function: object) -> None:
    flags.add_target(parser)
    flags.add_changes(parser)
    parser.set_defaults(function=function)
