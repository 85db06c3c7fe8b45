"""Run the pre-checks in order, and stop when one failed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import psycopg

from schema_change.core.errors import PreCheckFailed
from schema_change.core.prechecks import access, history, server, sessions, surroundings, tables, warehouse
from schema_change.core.prechecks.model import Answer, Check, CheckContext, CheckResult

log = logging.getLogger(__name__)

#: Every check, in the order in which a person would look. Those that are not cheap wait for the full run.
CHECKS: tuple[Check, ...] = (
    Check("writable", server.writable),
    Check("server_version", server.version),
    Check("pooler", server.pooler),
    Check("extensions", server.extensions),
    Check("privileges", access.privileges),
    Check("row_security", access.row_security),
    Check("registry_version", history.registry_version),
    Check("checksum_chain", history.checksum_chain),
    Check("drift", history.drift),
    Check("ownership", history.ownership),
    Check("lint", tables.lint),
    Check("identifiers", tables.identifiers),
    Check("table_kinds", tables.table_kinds),
    Check("table_size", tables.table_size),
    Check("dependants", tables.dependants),
    Check("triggers", tables.triggers),
    Check("invalid_indexes", tables.invalid_indexes),
    Check("backup_client", access.backup_client),
    Check("storage", access.storage),
    Check("scratch", access.scratch),
    Check("disk_space", server.disk_space),
    Check("replication", server.replication),
    Check("tenants_sources", warehouse.sources),
    Check("warehouse_owners", warehouse.owners),
    Check("lock_capacity", warehouse.lock_capacity),
    Check("warehouse_risks", warehouse.risks),
    Check("window", surroundings.window, cheap=False),
    Check("hooks", surroundings.hooks, cheap=False),
    Check("health", surroundings.health, cheap=False),
    Check("throttle", surroundings.throttle, cheap=False),
    Check("sentinels", surroundings.sentinels, cheap=False),
    Check("long_transactions", sessions.long_transactions, cheap=False),
    Check("idle_in_transaction", sessions.idle_in_transaction, cheap=False),
    Check("blocking_chains", sessions.blocking_chains, cheap=False),
    Check("prepared_transactions", sessions.prepared_transactions, cheap=False),
    Check("wraparound", sessions.wraparound, cheap=False),
    Check("data_fit", tables.data_fit, cheap=False),
)


def run_checks(
    context: CheckContext, *, cheap: bool = False, known: Iterable[CheckResult] = ()
) -> tuple[CheckResult, ...]:
    """Run every check whose result is not ``known``, or only the cheap ones; return all results in order.

    Ordinary trouble becomes ``unknown`` with the reason. Raises psycopg.OperationalError when the connection is lost.
    """
    results = {result.name: result for result in known}
    return tuple(results.get(c.name) or _run(c, context) for c in CHECKS if c.cheap or not cheap)


def _run(check: Check, context: CheckContext) -> CheckResult:
    try:
        answer = check.run(context)
    except psycopg.Error as error:
        if context.connection.closed:
            raise
        reason = error.diag.message_primary or str(error).strip() or type(error).__name__
        denied = isinstance(error, psycopg.errors.InsufficientPrivilege)
        answer = Answer("unknown", f"could not be looked at: {reason}", "grant what is missing" if denied else "")
    if answer.status != "pass":
        level = logging.DEBUG if answer.status == "skipped" else logging.INFO
        log.log(level, "pre-check %s: %s: %s", check.name, answer.status, answer.message)
    return CheckResult(check.name, answer.status, answer.message, answer.remedy)


def raise_if_failed(results: Sequence[CheckResult]) -> None:
    """Raise PreCheckFailed with every failing check and its remedy."""
    failed = [r for r in results if r.status == "fail"]
    if failed:
        raise PreCheckFailed(
            "nothing was changed; " + "; ".join(f"{r.name}: {r.message}" for r in failed),
            hint="\n    ".join(f"{r.name}: {r.remedy}" for r in failed if r.remedy) or None,
            data={"failed": [r.name for r in failed]},
        )
