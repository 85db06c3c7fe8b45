"""``follow-up``: the checks that run some time after a change landed."""

from __future__ import annotations

import argparse
import getpass

from schema_change.cli import arguments as flags
from schema_change.cli.console import out
from schema_change.core.surroundings.follow_ups import carry_out, planned
from schema_change.core.wording import counted


def follow_up(arguments: argparse.Namespace) -> int:
    """Carry out the follow-up checks that are due; return 1 when one of them did not pass."""
    target = flags.target_of(arguments)
    results = carry_out(target, getpass.getuser())
    for result in results:
        out().print(str(result))
    left, due_at = planned(target)
    if due_at is not None:
        out().print(f"{counted(left, 'check')} to come, the next from {due_at:%Y-%m-%d %H:%M %Z} on")
    elif not results:
        out().print("nothing to do: no check is due or to come")
    return 1 if any(result.status != "passed" for result in results) else 0


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("follow-up", help="carry out checks that are due after a change landed")
    flags.add_target(parser)
    flags.add_changes(parser)
    parser.set_defaults(function=follow_up)
