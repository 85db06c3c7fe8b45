"""``new``, ``lint`` and ``propose``: for whoever writes a change."""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from schema_change.cli import arguments as flags
from schema_change.cli import targets
from schema_change.cli.console import out, show_markdown
from schema_change.cli.issues import file_issue, issue_command
from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog
from schema_change.core.catalog.read import read_catalog
from schema_change.core.changes.load import Changes
from schema_change.core.changes.scaffold import new_change
from schema_change.core.changes.spec import Change
from schema_change.core.database import Connection
from schema_change.core.errors import ConfigurationError, PlanError, SchemaChangeError
from schema_change.core.journal import registry
from schema_change.core.model import Finding
from schema_change.core.operations.base import PlanContext
from schema_change.core.planning.lint import apply_waivers, lint_plan
from schema_change.core.planning.plan import make_plan
from schema_change.core.planning.proposal import propose as proposal_of

#: What raw SQL is linted against when there is no database to look at: the newest version supported.
_NO_DATABASE = Catalog(180000, {})


def new(arguments: argparse.Namespace) -> int:
    """Create the folder of a change."""
    folder = new_change(
        arguments.changes,
        arguments.name,
        conn_id=arguments.conn_id or _only_conn_id(arguments),
        now=dt.datetime.now(dt.UTC),
        operation=arguments.operation,
        raw=arguments.raw,
    )
    out().print(str(folder))
    return 0


def lint(arguments: argparse.Namespace) -> int:
    """Check change files, and with a target the plans they give; return 1 when there is an error."""
    changes = flags.changes_of(arguments)
    errors, chosen = _files(changes, arguments.change)
    findings = _against_database(arguments, chosen) if arguments.target else [(c, _raw_findings(c)) for c in chosen]
    for change, found in findings:
        for finding in found:
            _show(change, finding)
            errors += finding.level == "error" and not finding.waived
    out().print(f"{len(chosen)} changes checked, {errors} errors")
    return 1 if errors else 0


def propose(arguments: argparse.Namespace) -> int:
    """Describe a change for those who decide about it, and file that as an issue when asked to."""
    change = flags.changes_of(arguments).get(arguments.change)
    command = issue_command() if arguments.issue else None
    with targets.resolve(change.conn_id, arguments.target).connect("propose", read_only=True) as connection:
        proposal = proposal_of(connection, change)
    output: Path | None = arguments.output
    if output is not None:
        page = output.suffix in {".html", ".htm"}
        output.write_text(proposal.html if page else proposal.markdown, encoding="utf-8")
    elif command is None:
        show_markdown(proposal.markdown)
    if command is not None:
        out().print(file_issue(command, proposal.title, proposal.markdown))
    return 0


def _files(changes: Changes, wanted: Sequence[str]) -> tuple[int, list[Change]]:
    """Show what is wrong with the files; return how many are, and the changes that loaded."""
    errors: list[SchemaChangeError] = []
    chosen: list[Change] = []
    if not wanted:
        errors, chosen = list(changes.broken.values()), list(changes.changes)
    for change_id in wanted:
        try:
            chosen.append(changes.get(change_id))
        except ConfigurationError:
            raise
        except SchemaChangeError as error:
            errors.append(error)
    for problem in errors:
        out().print(f"error: {problem}")
    return len(errors), chosen


def _raw_findings(change: Change) -> tuple[Finding, ...]:
    """Lint the scripts of a change by their text alone; typed operations need a catalog."""
    steps = [
        step
        for operation in change.operations
        if operation.kind == "sql"
        for step in operation.plan(_NO_DATABASE, PlanContext(version=change.version)).steps
    ]
    found = lint_plan(steps, _NO_DATABASE)
    return apply_waivers(found, {r: why for r, why in change.waivers.items() if any(f.rule == r for f in found)})


def _against_database(
    arguments: argparse.Namespace, changes: Sequence[Change]
) -> list[tuple[Change, tuple[Finding, ...]]]:
    """Plan what has not been applied yet against the live catalog, and return the findings."""
    conn_ids = sorted({change.conn_id for change in changes})
    if len(conn_ids) > 1:
        raise ConfigurationError(
            f"these changes are for several databases: {', '.join(conn_ids)}", hint="name the changes of one"
        )
    if not changes:
        return []
    with targets.resolve(conn_ids[0], arguments.target).connect("lint", read_only=True) as connection:
        applied = _applied(connection)
        catalog = read_catalog(connection)
    results: list[tuple[Change, tuple[Finding, ...]]] = []
    waiting: Change | None = None
    for change in changes:
        if change.version in applied:
            continue
        results.append((change, _planned(change, catalog, waiting)))
        waiting = waiting or change
    return results


def _planned(change: Change, catalog: Catalog, waiting: Change | None) -> tuple[Finding, ...]:
    """Return the findings of a plan; one that may fit only after an earlier change is no error yet."""
    try:
        return make_plan(change, catalog).findings
    except PlanError as error:
        if waiting is None:
            return (Finding("does-not-fit", "error", error.message, error.hint or ""),)
        return (Finding("does-not-fit", "warning", error.message, f"look again when {waiting.id} has landed"),)


def _applied(connection: Connection) -> set[str]:
    if not registry.is_installed(connection):
        return set()
    return {row[0] for row in connection.execute(sqlfiles.block("queries/journal", "applied_changes"))}


def _show(change: Change, finding: Finding) -> None:
    level = "waived" if finding.waived else finding.level
    why = f"waived: {finding.waived}" if finding.waived else finding.remedy
    out().print(f"{level}: {change.id}: {finding.rule}: {finding.message}" + (f"\n  → {why}" if why else ""))


def _only_conn_id(arguments: argparse.Namespace) -> str:
    conn_ids = (
        {change.conn_id for change in flags.changes_of(arguments).changes} if arguments.changes.is_dir() else set()
    )
    if len(conn_ids) != 1:
        raise ConfigurationError("which database is the change for?", hint="give --conn-id")
    return str(conn_ids.pop())


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = commands.add_parser("new", help="start a change: a folder with a commented change.yaml")
    parser.add_argument("name", metavar="NAME", help="such as add_wind_chill")
    parser.add_argument("--conn-id", metavar="ID", help="default: the one that the other changes have")
    parser.add_argument("--operation", metavar="KIND", help="such as create_index; default: add_column")
    parser.add_argument("--raw", action="store_true", help="deploy.sql, revert.sql and verify.sql instead")
    flags.add_changes(parser)
    parser.set_defaults(function=new)

    parser = commands.add_parser("lint", help="check change files; with --target, against a database")
    parser.add_argument("change", metavar="CHANGE", nargs="*", help="default: all")
    flags.add_target(parser)
    flags.add_changes(parser)
    parser.set_defaults(function=lint)

    parser = commands.add_parser("propose", help="write a change's proposal: both shapes, impact, way back")
    parser.add_argument("change", metavar="CHANGE")
    flags.add_target(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there; a page if it ends in .html")
    parser.add_argument("--issue", action="store_true", help="file it, with SCHEMA_CHANGE_ISSUE_COMMAND")
    flags.add_changes(parser)
    parser.set_defaults(function=propose)
