"""Flags that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import getpass
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from upath import UPath

from schema_change.cli import targets
from schema_change.core.changes.load import Changes, load_changes
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError, JournalError
from schema_change.core.journal.journal import RunRow, find_run
from schema_change.core.planning.approval import load_approvers
from schema_change.core.stages.origin import cli_origin
from schema_change.core.stages.request import Options, Request

#: ``plan`` is the dry run, and the CLI is told who approves, it does not ask around.
_NOT_FLAGS = frozenset({"dry_run", "approvers"})


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add where change files are."""
    group = parser.add_argument_group("files")
    group.add_argument("--changes", type=Path, default=Path("include/sql/changes"), metavar="FOLDER")
    group.add_argument("--expectations", type=Path, metavar="FOLDER", help="default: include/expectations")


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add which database is meant."""
    parser.add_argument(
        "--target",
        metavar="TARGET",
        help="service=NAME, a URL without password, or the id of a connection in AIRFLOW_CONN_<ID>;"
        " default: the change's conn_id",
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add what a run needs besides: a scratch server, artifacts, who may approve."""
    group = parser.add_argument_group("run")
    group.add_argument("--scratch", metavar="TARGET", help="server for rehearsals; default: the target's own")
    add_artifacts(group)
    group.add_argument("--approvers", type=Path, metavar="FILE", help="default: include/approvals.yaml if it is there")
    group.add_argument("--blackouts", type=Path, metavar="FILE", help="default: include/blackouts.yaml if it is there")


def add_artifacts(parser: argparse._ActionsContainer) -> None:
    """Add where backups and reports are."""
    parser.add_argument("--artifacts", default="schema_change_artifacts", metavar="URL", help="default: %(default)s")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each of the run's options, from their model."""
    group = parser.add_argument_group("options")
    for name, field in Options.model_fields.items():
        if name in _NOT_FLAGS:
            continue
        flag = f"--{name.replace('_', '-')}"
        about = field.description or ""
        if field.annotation is bool:
            group.add_argument(flag, dest=f"option_{name}", action="store_true", default=None, help=about)
            continue
        choices = typing.get_args(field.annotation)
        group.add_argument(
            flag,
            dest=f"option_{name}",
            type=str if choices else int,
            choices=choices or None,
            metavar=None if choices else "N",
            help=f"{about} (default: {field.default})",
        )


def options_of(arguments: argparse.Namespace, stored: Mapping[str, Any] | None = None, **fixed: Any) -> Options:
    """Return the options given on top of those a run was begun with. Raises ConfigurationError."""
    given = {name: getattr(arguments, f"option_{name}", None) for name in Options.model_fields}
    try:
        return Options(**{**(stored or {}), **{k: v for k, v in given.items() if v is not None}, **fixed})
    except ValidationError as error:
        problems = "; ".join(f"--{str(e['loc'][0]).replace('_', '-')}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(problems, hint="schema-change apply --help") from None


def changes_of(arguments: argparse.Namespace) -> Changes:
    """Load every change of the folder."""
    return load_changes(arguments.changes, expectations_root=expectations_of(arguments))


def expectations_of(arguments: argparse.Namespace) -> Path:
    """Return the folder of expectations, beside the folder of SQL unless one is given."""
    given: Path | None = arguments.expectations
    return given or arguments.changes.absolute().parents[1] / "expectations"


def target_of(arguments: argparse.Namespace) -> Target:
    """Return the target of a command that names no change: the one given, or the only one the changes have."""
    if arguments.target:
        name = arguments.target if targets.is_conn_id(arguments.target) else "target"
        return targets.resolve(name, arguments.target)
    conn_ids = {change.conn_id for change in changes_of(arguments).changes}
    if len(conn_ids) != 1:
        found = ", ".join(sorted(conn_ids)) or "none"
        raise ConfigurationError(
            f"which database is meant? The changes in {arguments.changes} are for {found}", hint="give --target"
        )
    return targets.resolve(conn_ids.pop(), None)


def request_of(arguments: argparse.Namespace, target: Target, run_id: UUID, options: Options, **more: Any) -> Request:
    """Return the request of a run, asked for by the user of this process."""
    expectations = expectations_of(arguments)
    return Request(
        run_id=run_id,
        target=target,
        options=options,
        artifacts=UPath(arguments.artifacts).absolute(),
        requested_by=getpass.getuser(),
        requested_from=cli_origin(),
        scratch=targets.resolve("scratch", arguments.scratch) if arguments.scratch else None,
        expectations=expectations if expectations.is_dir() else None,
        approvers=_approvers(arguments),
        blackouts_file=_blackouts(arguments),
        **more,
    )


def _approvers(arguments: argparse.Namespace) -> Mapping[str, tuple[str, ...]]:
    given: Path | None = arguments.approvers
    if given is not None and not given.is_file():
        # A policy that is not there must not mean that anybody may approve.
        raise ConfigurationError(f"the approvers file {given} does not exist")
    return load_approvers(given or arguments.changes.absolute().parents[1] / "approvals.yaml")


def _blackouts(arguments: argparse.Namespace) -> Path | None:
    usual: Path = arguments.changes.absolute().parents[1] / "blackouts.yaml"
    given: Path | None = arguments.blackouts
    return given or (usual if usual.is_file() else None)


def run_of(target: Target, run_id: UUID) -> RunRow:
    """Return a run from the journal of a target. Raises JournalError when it is not there."""
    with target.connect("cli", read_only=True) as connection:
        run = find_run(connection, run_id)
    if run is None:
        raise JournalError(
            f"run {run_id} is not in the journal of database {target.database}", hint="schema-change status lists them"
        )
    return run
