"""``plan`` and ``apply``: the stages of a run, in the order of the DAG."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import gc
import getpass
import json
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from schema_change.cli import arguments as flags
from schema_change.cli import targets
from schema_change.cli.console import StageLine, confirm, interactive, out, show_error, show_markdown
from schema_change.core.changes.spec import Change
from schema_change.core.errors import (
    ConfigurationError,
    JournalError,
    OwnershipError,
    PreCheckFailed,
    SchemaChangeError,
)
from schema_change.core.journal.journal import FINAL, Journal, RunRow, find_run
from schema_change.core.planning.approval import Approval
from schema_change.core.report import report_text
from schema_change.core.stages import STAGES
from schema_change.core.stages.local import LocalRunner
from schema_change.core.stages.origin import adopt, is_alive
from schema_change.core.stages.request import Request
from schema_change.core.stages.runner import Runner
from schema_change.core.stages.session import Pair

FORWARD = STAGES[: STAGES.index("rollback")]
#: After everything else has ended; the journal decides whether there is something to roll back.
FINISH = STAGES[STAGES.index("rollback") : STAGES.index("outcome")]


def plan(arguments: argparse.Namespace) -> int:
    """Show the migration guide and every pre-check; the target is only read."""
    change = flags.changes_of(arguments).get(arguments.change)
    target = targets.resolve(change.conn_id, arguments.target)
    options = flags.options_of(arguments, dry_run=True)
    request = flags.request_of(arguments, target, uuid4(), options, change=change)
    failed: PreCheckFailed | None = None
    try:
        data = dict(Runner(request, progress=lambda line: None).run("pre_check").data)
    except PreCheckFailed as error:
        if "guide" not in error.data:
            raise
        data, failed = error.data, error
    page = request.folder / "guide.html"
    if arguments.html:
        arguments.html.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    # A dry run leaves nothing behind, not even here.
    with contextlib.suppress(OSError):
        page.unlink()
        (request.folder / "guide.md").unlink()
        request.folder.rmdir()
    if arguments.json:
        out().print(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        show_markdown(data["guide"])
    if failed is not None:
        show_error(failed)
    return 1 if failed else 0


def apply(arguments: argparse.Namespace) -> int:
    """Run changes one after the other, or go on with a run that was cut off; return 0 only when all of them landed."""
    known = flags.changes_of(arguments)
    changes = [known.get(change) for change in arguments.changes_to_apply]
    if arguments.run and len(changes) > 1:
        raise ConfigurationError("--run goes on with one run", hint="name its change only; then apply the others")
    for change in changes:
        if other := change.surroundings.backfill_dag:
            raise ConfigurationError(
                f"{change.id} has its data filled by the DAG {other.dag_id}, which only Airflow can trigger",
                hint="run this change from Airflow; schema-change plan shows it here",
            )
    gc.freeze()  # what was imported stays: to look through it again and again is an eighth of the work
    targets_of = {c.conn_id: targets.resolve(c.conn_id, arguments.target) for c in changes}
    with contextlib.ExitStack() as stack:
        pairs = {conn_id: stack.enter_context(Pair(target)) for conn_id, target in targets_of.items()}
        return next((code for change in changes if (code := _apply(arguments, change, pairs[change.conn_id]))), 0)


def _apply(arguments: argparse.Namespace, change: Change, pair: Pair) -> int:
    target = pair.target
    run = flags.run_of(target, arguments.run) if arguments.run else None
    request = flags.request_of(
        arguments,
        target,
        run.run_id if run else uuid4(),
        flags.options_of(arguments, run.options if run else None),
        change=change,
    )
    if run is not None:
        _ensure_resumable(run, change.id)
        adopt(pair.side, run, origin=request.requested_from, actor=request.requested_by)
    with interruptible(request, f"schema-change apply {change.id} --run {request.run_id}{_same_target(arguments)}"):
        out().print(f"run {request.run_id} of {change.id} on {target.conn_id}")
        return _run(arguments, LocalRunner(request, pair=pair, ahead=True), resumed=run is not None)


@contextlib.contextmanager
def interruptible(request: Request, command: str) -> Iterator[None]:
    """Tell how to go on when a person, or a lost server, stops what runs."""
    try:
        yield
    except (KeyboardInterrupt, psycopg.OperationalError) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else f"the server is gone: {error}"
        raise JournalError(
            f"{why}; the journal knows how far run {request.run_id} came",
            hint=f"go on: {command}\n    or undo: schema-change rollback --run {request.run_id}",
        ) from error


def run_stage(runner: Runner, stage: str) -> None:
    """Run a stage, to the end of what it waits for, and print its line; when interrupted, cancel what it runs."""
    with StageLine(stage) as line:
        runner.progress = line.progress
        try:
            while (result := runner.run(stage)).until is not None:
                line.progress(f"waiting: {result.summary}")
                _sleep_until(result.until)
        except KeyboardInterrupt:
            runner.cancel()
            raise
        line.finish(result.status, result.summary)


def _sleep_until(moment: dt.datetime) -> None:
    time.sleep(max(0.0, (moment - dt.datetime.now(dt.UTC)).total_seconds()))


def finish(runner: Runner) -> SchemaChangeError | None:
    """Run the stages that end a run, whatever became of it; return the last error."""
    failure: SchemaChangeError | None = None
    for stage in FINISH:
        try:
            run_stage(runner, stage)
        except SchemaChangeError as error:
            failure = error
    return failure


def print_report(runner: Runner) -> None:
    """Print what became of a run."""
    report = runner.report()
    out().print()
    out().print(report_text(report))
    out().print(f"report      {runner.request.folder / 'report.html'}")


def _run(arguments: argparse.Namespace, runner: Runner, *, resumed: bool) -> int:
    failure: SchemaChangeError | None = None
    try:
        _forward(arguments, runner, _stages_done(runner) if resumed else set())
    except _NotApproved:
        raise
    except SchemaChangeError as error:
        if isinstance(error, ConfigurationError) or not _is_ours(runner):
            raise
        failure = error
    except psycopg.OperationalError:
        raise  # without a server nothing can be undone now
    except Exception:
        # A bug of ours. First the database is given back, then the bug is shown.
        if _is_ours(runner):
            finish(runner)
        raise
    failure = finish(runner) or failure
    print_report(runner)
    runner.progress = lambda line: None
    try:
        runner.run("outcome")
    except SchemaChangeError as error:
        show_error(failure or error)
        return 1
    return 0


def _is_ours(runner: Runner) -> bool:
    """Tell whether the run was recorded, and nobody on another host has gone on with it meanwhile."""
    with runner.looking() as connection:
        run = find_run(connection, runner.request.run_id)
    return run is not None and run.requested_from == runner.request.requested_from


def _forward(arguments: argparse.Namespace, runner: Runner, done: Collection[str]) -> None:
    for stage in FORWARD:
        if stage in done:
            continue
        if stage == "approve":
            _approve(arguments, runner)
        if stage == "migrate" and not (arguments.yes or _agreed(runner)):
            raise PreCheckFailed("nobody said yes", hint="nothing was changed; --yes asks no question")
        run_stage(runner, stage)


def _stages_done(runner: Runner) -> set[str]:
    with runner.looking() as connection:
        stages = Journal(connection, runner.request.run_id).stages().values()
    return {s.stage for s in stages if s.status in {"done", "skipped"}}


def _agreed(runner: Runner) -> bool:
    """Ask before the first change; without a terminal, the command itself is the answer."""
    if not interactive():
        return True
    runner.rest()
    request = runner.request
    assert request.change is not None  # noqa: S101 - apply has read it
    return confirm(f"Everything is checked. Apply {request.change.id} to {request.target.database}?")


# -- approvals ------------------------------------------------------------------------------------------------------


class _NotApproved(ConfigurationError):
    """The run waits for somebody's approval."""


def _approve(arguments: argparse.Namespace, runner: Runner) -> None:
    """Record the approvals given; raise when some are missing and there is nobody to ask."""
    missing = runner.approvals()
    given = dict(arguments.approved_by)
    for approval in missing:
        user = given.pop(approval.role, "") or (_ask(runner, approval) if interactive() else "")
        if user:
            comment = f"given on the command line of {getpass.getuser()}"
            try:
                runner.record_approval(role=approval.role, user=user, comment=comment)
            except PreCheckFailed as error:
                show_error(error)
    if missing and (missing := runner.approvals()):
        request = runner.request
        assert request.change is not None  # noqa: S101 - apply has read it
        raise _NotApproved(
            "the change waits for approval by " + "; ".join(map(_who, missing)) + f" ({missing[0].reason})",
            hint=f"schema-change apply {request.change.id} --run {request.run_id}"
            + _same_target(arguments)
            + "".join(f" --approved-by {a.role}=USER" for a in missing),
        )


def _ask(runner: Runner, approval: Approval) -> str:
    runner.rest()
    return input(f"{approval.reason}\nApproved as {_who(approval)} by (a name, empty for nobody): ").strip()


def _who(approval: Approval) -> str:
    return f"{approval.role} ({', '.join(approval.users) or 'anybody but the requester'})"


# -- going on -------------------------------------------------------------------------------------------------------


def _ensure_resumable(run: RunRow, change_id: str) -> None:
    if run.change_id != change_id:
        raise JournalError(f"run {run.run_id} is of {run.change_id}", hint=f"schema-change apply {run.change_id} …")
    if run.status in FINAL:
        raise JournalError(f"run {run.run_id} is over ({run.status})", hint="leave --run out to start a new one")
    if run.status in {"rolling_back", "rollback_failed"}:
        raise JournalError(
            f"run {run.run_id} is being undone ({run.status})", hint=f"schema-change rollback --run {run.run_id}"
        )
    if run.requested_from.startswith("airflow:"):
        raise JournalError(
            f"run {run.run_id} belongs to {run.requested_from.removeprefix('airflow:')}",
            hint="clear its failed task in Airflow",
        )
    ensure_not_at_work(run)


def ensure_not_at_work(run: RunRow) -> None:
    """Raise OwnershipError while the process that asked for a run is still there."""
    if is_alive(run.requested_from):
        raise OwnershipError(f"run {run.run_id} is at work in {run.requested_from}", hint="wait for it, or stop it")


def _same_target(arguments: argparse.Namespace) -> str:
    return f" --target {arguments.target}" if arguments.target else ""


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands."""
    parser = commands.add_parser("plan", help="show what a change would do; writes nothing")
    parser.add_argument("change", metavar="CHANGE")
    flags.add_target(parser)
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the guide as a page")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    _add_common(parser, plan)

    parser = commands.add_parser("apply", help="run changes, one after the other; undo one when anything fails")
    parser.add_argument("changes_to_apply", nargs="+", metavar="CHANGE")
    flags.add_target(parser)
    parser.add_argument("--yes", action="store_true", help="ask no question before the first change")
    parser.add_argument(
        "--approved-by",
        action="append",
        default=[],
        type=_approval,
        metavar="ROLE=USER",
        help="may be repeated; audited",
    )
    parser.add_argument("--run", type=UUID, metavar="ID", help="go on with this run")
    _add_common(parser, apply)


def _add_common(parser: argparse.ArgumentParser, function: object) -> None:
    flags.add_running(parser)
    flags.add_changes(parser)
    flags.add_options(parser)
    parser.set_defaults(function=function)


def _approval(text: str) -> Sequence[str]:
    role, equals, user = text.partition("=")
    if not (equals and role and user):
        raise argparse.ArgumentTypeError("write ROLE=USER")
    return role, user
