"""``warehouse``: the toolkit of the multi-tenant template warehouse, and its daily upkeep."""

from __future__ import annotations

import argparse
import datetime as dt
import getpass
from collections.abc import Callable, Sequence
from uuid import UUID

from schema_change.cli import arguments as flags
from schema_change.cli.console import out, show_error
from schema_change.core.database import Connection
from schema_change.core.errors import ConfigurationError, SchemaChangeError
from schema_change.core.stages.restore import refill_run
from schema_change.core.warehouse import upkeep
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


def refresh(arguments: argparse.Namespace) -> int:
    """Bring the last days of every member up to date, or of those asked for; return 1 when one could not be."""
    with flags.target_of(arguments).connect("warehouse") as connection:
        last = upkeep.today(connection)
        first = last - dt.timedelta(arguments.days - 1)
        return _each(connection, arguments, lambda member: upkeep.refresh(connection, member, first, last))


def fold(arguments: argparse.Namespace) -> int:
    """Fold a finished year or month of every member, or of those asked for; return 1 when one could not be."""
    with flags.target_of(arguments).connect("warehouse") as connection:
        return _each(connection, arguments, lambda member: upkeep.fold(connection, member, arguments.period))


def emergency(arguments: argparse.Namespace) -> int:
    """Restore public access to a part of a template, at once."""
    with flags.target_of(arguments).connect("warehouse") as connection:
        upkeep.emergency(
            connection, arguments.template, only_years=arguments.only_years, schemas=arguments.schema or ()
        )
    what = "the yearly tables only" if arguments.only_years else f"only {', '.join(arguments.schema)}"
    out().print(f"public.{arguments.template} reads {what}, until schema-change warehouse normal")
    return 0


def normal(arguments: argparse.Namespace) -> int:
    """Let the public view of a template read everything again."""
    with flags.target_of(arguments).connect("warehouse") as connection:
        upkeep.back_to_normal(connection, arguments.template)
    out().print(f"public.{arguments.template} reads all tenants")
    return 0


def refill(arguments: argparse.Namespace) -> int:
    """Give days their rows back from a run's backup, without the sources; return 1 when one could not be filled."""
    target = flags.target_of(arguments)
    failed = refill_run(target, arguments.run, note=lambda line: out().print(line), actor=getpass.getuser())
    for line in failed:
        out().print(line)
    if not failed:
        out().print("every day of the backup has rows; schema-change warehouse refresh lets the views read new ones")
    return 1 if failed else 0


def check(arguments: argparse.Namespace) -> int:
    """Ask every tenant's source, and show the log's errors of the last day; return 1 when one does not answer."""
    with flags.target_of(arguments).connect("warehouse") as connection:
        answers = upkeep.check(connection)
        errors = upkeep.errors_since(connection, dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
    for answer in answers:
        out().print(str(answer))
    for error in errors:
        out().print(f"in the log at {error.at:%F %H:%M}: {error.message} {dict(error.context)}")
    if not answers:
        out().print("there is no tenant connection")
    return 1 if any(answer.error for answer in answers) else 0


def _each(connection: Connection, arguments: argparse.Namespace, work: Callable[[upkeep.Member], object]) -> int:
    """Do something with each member; one that fails is told and stops no other, unless the session is lost."""
    failed = False
    for member in _members(connection, arguments.template or (), arguments.schema or ()):
        try:
            out().print(str(work(member)))
        except SchemaChangeError as error:
            if connection.closed:
                raise
            show_error(error)
            failed = True
    return 1 if failed else 0


def _members(connection: Connection, templates: Sequence[str], schemas: Sequence[str]) -> list[upkeep.Member]:
    found = upkeep.members(connection, templates)
    known = {member.schema for member in found}
    if unknown := sorted(set(schemas) - known):
        raise ConfigurationError(
            f"no tenant has schema {', '.join(unknown)}", hint=f"known: {', '.join(sorted(known)) or 'none'}"
        )
    if not found:
        out().print("no tenant has any days: make the first one with _wh.create_mv_from_template")
    return [member for member in found if not schemas or member.schema in schemas]


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and what it can do."""
    parser = commands.add_parser("warehouse", help="the toolkit of the multi-tenant template warehouse")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    found = {}
    for name, function, what in (
        ("install", install, "make or upgrade schema _wh in one transaction"),
        ("verify", verify, "compare schema _wh with what this release makes; writes nothing"),
        ("refresh", refresh, "bring the last days, in UTC, of every tenant up to date"),
        ("fold", fold, "make one table of a finished year's or month's days, and drop these"),
        ("emergency", emergency, "restore public access to yearly tables or healthy tenants at once"),
        ("normal", normal, "let the public view read everything again"),
        ("refill", refill, "give days that hold no rows, or are gone, those of a run's backup; no source is asked"),
        ("check", check, "ask every tenant's source whether it answers"),
    ):
        found[name] = action = actions.add_parser(name, help=what)
        flags.add_target(action)
        flags.add_changes(action)
        action.set_defaults(function=function)
    found["refresh"].add_argument(
        "--days", type=_positive, default=2, metavar="N", help="how many, today is one; default: %(default)s"
    )
    period = found["fold"].add_mutually_exclusive_group(required=True)
    for flag, what in (("--year", "YYYY"), ("--month", "YYYY-MM")):
        period.add_argument(flag, dest="period", metavar=what, help=f"a {flag[2:]} that is over in UTC")
    for name in ("refresh", "fold"):
        found[name].add_argument("--template", action="append", metavar="T", help="this one; can be repeated")
        found[name].add_argument("--schema", action="append", metavar="S", help="this tenant; can be repeated")
    for name in ("emergency", "normal"):
        found[name].add_argument("--template", required=True, metavar="T")
    found["refill"].add_argument("--run", type=UUID, required=True, metavar="ID", help="whose backup is read")
    what_is_left = found["emergency"].add_mutually_exclusive_group(required=True)
    what_is_left.add_argument("--only-years", action="store_true", help="the yearly tables")
    what_is_left.add_argument("--schema", action="append", metavar="S", help="this tenant; can be repeated")


def _positive(text: str) -> int:
    """Return a number from 1 on."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on is needed, not {text}")
    return int(text)
