"""The command ``schema-change``.

Exit codes: 0 done; 1 the change did not land, or something was found; 2 wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from schema_change.cli import authoring, controlling, following, recovering, retention, running, status, warehouse
from schema_change.cli.console import show_error
from schema_change.core.errors import ChangeFileError, ConfigurationError, SchemaChangeError

_USAGE = (ConfigurationError, ChangeFileError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as end:  # argparse has said what is wrong, or has shown the help
        return int(end.code or 0)
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING)
    # A log entry of ours may carry a stack trace; what a person has to know is printed.
    logging.getLogger("schema_change").setLevel(logging.DEBUG if arguments.verbose else logging.CRITICAL)
    try:
        return int(arguments.function(arguments))
    except SchemaChangeError as error:
        if arguments.verbose:
            logging.getLogger(__name__).exception("%s", type(error).__name__)
        show_error(error)
        return 2 if isinstance(error, _USAGE) else 1
    except KeyboardInterrupt:
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="schema-change",
        description="Change a PostgreSQL schema: planned, backed up, rehearsed, applied, undone when anything fails.",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens; show where errors come from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (authoring, running, controlling, recovering, retention, following, status, warehouse):
        group.add_parsers(commands)
    return parser
