"""``warehouse``: the toolkit of the multi-tenant template warehouse."""

from __future__ import annotations

import argparse

from schema_change.cli import arguments as flags
from schema_change.cli.console import out
from schema_change.core.warehouse.toolkit import VERSION
from schema_change.core.warehouse.toolkit import install as install_toolkit
from schema_change.core.warehouse.toolkit import verify as verify_toolkit


def install(arguments: argparse.Namespace) -> int:
    """Make or upgrade schema ``_wh``."""
    with flags.target_of(arguments).connect("warehouse") as connection:
        changed = install_toolkit(connection)
    out().print(f"schema _wh is {'now' if changed else 'already'} at version {VERSION}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Say whether schema ``_wh`` is as this release makes it; return 1 when it is not."""
    with flags.target_of(arguments).connect("warehouse") as connection:
        found = verify_toolkit(connection)
    for line in found.differences:
        out().print(line)
    if found.is_complete:
        out().print(f"schema _wh is at version {VERSION}, as it was installed")
    else:
        installed = f"at version {found.version}" if found.version is not None else "not installed"
        out().print(f"schema _wh is {installed}; schema-change warehouse install makes version {VERSION}")
    return 0 if found.is_complete else 1


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and what it can do."""
    parser = commands.add_parser("warehouse", help="the toolkit of the multi-tenant template warehouse")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, function, what in (
        ("install", install, "make or upgrade schema _wh in one transaction"),
        ("verify", verify, "compare schema _wh with what this release makes; writes nothing"),
    ):
        action = actions.add_parser(name, help=what)
        flags.add_target(action)
        flags.add_changes(action)
        action.set_defaults(function=function)
