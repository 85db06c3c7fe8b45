"""The checks together: a quiet database passes, nothing is written, failing ones stop the run."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Connection, Target
from schema_change.core.errors import PreCheckFailed
from schema_change.core.journal import registry
from schema_change.core.prechecks import CHECKS, CheckContext, raise_if_failed, run_checks


def test_a_quiet_database_passes(context: CheckContext) -> None:
    before = read_catalog(context.connection).fingerprint
    results = run_checks(context)
    assert {r.name: (r.status, r.message) for r in results if r.status not in ("pass", "skipped")} == {}
    assert [r.name for r in results] == [c.name for c in CHECKS]
    raise_if_failed(results)
    assert read_catalog(context.connection).fingerprint == before
    assert not registry.is_installed(context.connection)


def test_the_cheap_ones_alone(context: CheckContext) -> None:
    names = {r.name for r in run_checks(context, cheap=True)}
    assert {"writable", "privileges", "drift", "lint", "storage"} <= names
    assert not {"data_fit", "long_transactions", "window"} & names


def test_failures_are_raised_together_with_their_remedies(context: CheckContext) -> None:
    unreachable = replace(context.change, extensions=("no_such_extension",), parent_checksum="never applied")
    with pytest.raises(PreCheckFailed) as caught:
        raise_if_failed(run_checks(replace(context, change=unreachable)))
    assert "extensions: not available" in caught.value.message
    assert "checksum_chain: the change before it" in caught.value.message
    assert caught.value.hint is not None
    assert caught.value.hint.count("\n") == 1


def test_trouble_in_a_check_is_unknown_with_the_reason(context: CheckContext, connection: Connection) -> None:
    registry.install(connection)
    connection.execute("ALTER TABLE schema_change.owner RENAME TO owner_of_old")
    results = {r.name: r for r in run_checks(context)}
    assert results["ownership"].status == "unknown"
    assert "schema_change.owner" in results["ownership"].message
    assert results["data_fit"].status == "skipped"


def test_a_lost_connection_is_raised(context: CheckContext, connection: Connection) -> None:
    connection.execute("SELECT pg_terminate_backend(%s)", [context.connection.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        run_checks(context)


def test_an_ordinary_role_sees_what_it_may(context: CheckContext, connection: Connection, target: Target) -> None:
    connection.execute(
        "DO $$ BEGIN CREATE ROLE precheck_plain LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    plain = Target("target", {**target.parameters, "user": "precheck_plain"})
    with plain.connect("test", read_only=True) as session:
        results = {r.name: r for r in run_checks(replace(context, target=plain, connection=session))}
    assert results["disk_space"].status == "unknown"
    assert "could not be looked at" in results["disk_space"].message
    assert results["long_transactions"].status == "unknown"
    assert "pg_monitor" in results["long_transactions"].remedy
    assert results["privileges"].status == "fail"
    assert results["scratch"].status == "fail"
    assert "CREATEDB" in results["scratch"].remedy
