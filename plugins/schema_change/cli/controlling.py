"""``pause``, ``resume``, ``speed`` and ``cancel``: what a person says to a backfill, wherever it is at work."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable
from uuid import UUID

from schema_change.cli import arguments as flags
from schema_change.cli.console import out
from schema_change.core.backfill import control
from schema_change.core.database import Connection


def pause(arguments: argparse.Namespace) -> int:
    """Stop the backfills of a run between two batches."""
    _say(arguments, control.pause)
    out().print(f"paused; go on: schema-change resume --run {arguments.run}")
    return 0


def resume(arguments: argparse.Namespace) -> int:
    """Let paused backfills go on."""
    _say(arguments, control.resume)
    out().print("resumed")
    return 0


def cancel(arguments: argparse.Namespace) -> int:
    """Let the backfills of a run fail, so that it is rolled back."""
    _say(arguments, control.cancel)
    out().print("cancelled; the run is rolled back when it comes to its next batch")
    return 0


def speed(arguments: argparse.Namespace) -> int:
    """Limit how many rows the backfills of a run fill per second."""
    rows: int | None = arguments.rows_per_second

    def limit(connection: Connection, run_id: UUID, actor: str) -> None:
        control.limit_speed(connection, run_id, actor, rows)

    _say(arguments, limit)
    out().print(f"at most {rows:,} rows per second" if rows else "no limit")
    return 0


def _say(arguments: argparse.Namespace, what: Callable[[Connection, UUID, str], None]) -> None:
    target = flags.target_of(arguments)
    flags.run_of(target, arguments.run)
    with target.connect("cli") as connection:
        what(connection, arguments.run, getpass.getuser())


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the four commands."""
    for function, about in (
        (pause, "stop the backfills of a run until they are resumed"),
        (resume, "let them go on"),
        (speed, "limit how many rows per second they fill"),
        (cancel, "let them fail, so that the run is rolled back"),
    ):
        parser = commands.add_parser(function.__name__, help=about)
        if function is speed:
            parser.add_argument("rows_per_second", type=_rows, metavar="ROWS", help="a number, or unlimited")
        parser.add_argument("--run", type=UUID, required=True, metavar="ID")
        flags.add_target(parser)
        flags.add_changes(parser)
        parser.set_defaults(function=function)


def _rows(text: str) -> int | None:
    if text == "unlimited":
        return None
    # The registry keeps an integer.
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError("write a number of rows from 1 on, or unlimited")
    return int(text)
