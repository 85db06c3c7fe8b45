"""Checks against the journal: versions, checksums, drift, ownership."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from schema_change.core.catalog.read import read_catalog
from schema_change.core.changes.load import load_changes
from schema_change.core.changes.spec import RegistryVersion
from schema_change.core.database import Connection
from schema_change.core.journal import registry
from schema_change.core.journal.journal import Journal
from schema_change.core.model import Plan
from schema_change.core.names import Table
from tests.integration.prechecks.conftest import PLAN, Ask, T, change, options

V1_TO_V2 = change(registry=RegistryVersion("t", "v1", "v2"))


def run(connection: Connection, version: str, plan: Plan = PLAN, **columns: Any) -> Journal:
    """Record a run of a change."""
    registry.install(connection)
    journal = Journal(connection, uuid.uuid4())
    defaults: dict[str, Any] = {
        "change_version": version,
        "change_name": "add_extra",
        "description": "",
        "checksum": f"sum-{version}",
        "parent_checksum": None,
        "checksum_algorithm": "sha256-v1",
        "files_sha256": "",
        "conn_id": "target",
        "requested_by": "",
        "requested_from": "",
        "options": Jsonb({}),
        "change": Jsonb({}),
        "catalog_before": Jsonb({}),
    }
    journal.record_plan(plan, **{**defaults, **columns})
    return journal


def applied(
    connection: Connection, version: str, plan: Plan = PLAN, *, keep_catalog: bool = True, **columns: Any
) -> Journal:
    """Record a run that was applied to the database as it is now."""
    journal = run(connection, version, plan, **columns)
    catalog = read_catalog(connection).restricted(plan.scope)
    journal.set_fingerprint_after(catalog.fingerprint, catalog.to_json() if keep_catalog else None)
    journal.set_status("applied")
    return journal


def register(connection: Connection, version: str) -> None:
    registry.install(connection)
    connection.execute("INSERT INTO schema_change.schema_registry (table_name, version) VALUES ('t', %s)", [version])


def test_registry_version(ask: Ask, connection: Connection) -> None:
    register(connection, "v0")
    register(connection, "v1")
    assert ask("registry_version").status == "skipped"
    assert ask("registry_version", change=V1_TO_V2).status == "pass"
    register(connection, "v3")
    found = ask("registry_version", change=V1_TO_V2)
    assert (found.status, found.message) == ("fail", "t is at v3, but the change starts from v1")
    register(connection, "v2")
    assert ask("registry_version", change=V1_TO_V2).message == "t is at v2 already"


def test_registry_version_of_a_table_nobody_registered(ask: Ask, connection: Connection) -> None:
    assert ask("registry_version", change=V1_TO_V2, options=options(dry_run=True)).status == "warn"
    assert ask("registry_version", change=V1_TO_V2).status == "fail"
    registry.install(connection)
    found = ask("registry_version", change=V1_TO_V2)
    assert found.status == "fail"
    statement = found.remedy.removeprefix("if the table is at that version: ").split(";")[0]
    connection.execute(statement)
    assert ask("registry_version", change=V1_TO_V2).status == "pass"


def test_registry_version_of_a_new_table(ask: Ask, connection: Connection) -> None:
    new = change(registry=RegistryVersion("t", None, "v1"))
    assert ask("registry_version", change=new).status == "pass"
    register(connection, "v7")
    found = ask("registry_version", change=new)
    assert (found.status, found.message) == ("fail", "t is at v7, but the change starts from a table without version")


def test_checksum_chain(ask: Ask, connection: Connection) -> None:
    second = change(version="20240209000000", parent_checksum="sum-20240208143002")
    assert ask("checksum_chain").status == "pass"
    assert ask("checksum_chain", change=second).status == "fail"
    applied(connection, "20240208143002")
    assert ask("checksum_chain", change=second).status == "pass"
    assert "was applied to this database already" in ask("checksum_chain").message
    edited = ask("checksum_chain", change=change(checksum="other"))
    assert (edited.status, "edited afterwards" in edited.message) == ("fail", True)
    after_edit = ask("checksum_chain", change=change(version="20240209000000", parent_checksum="other"))
    assert after_edit.status == "fail"


def test_checksum_chain_names_the_change(ask: Ask, connection: Connection, tmp_path: Path) -> None:
    def write(folder: str, text: str) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "change.yaml").write_text(
            f"description: {text}\nconn_id: target\n"
            "operations:\n  - create_index: {table: public.t, columns: [v], name: t_v}\n",
            encoding="utf-8",
        )

    for number, text in (("001", "one"), ("002", "two"), ("003", "three")):
        write(f"{number}_{text}", text)
    first, second, third = load_changes(tmp_path).changes
    assert ask("checksum_chain", change=third).message == "001_one, which comes before it, is not applied here"
    applied(connection, "001", checksum=first.checksum)
    assert ask("checksum_chain", change=second).status == "pass"
    assert ask("checksum_chain", change=third).message == "002_two, which comes before it, is not applied here"
    applied(connection, "002", checksum=second.checksum)
    write("001_one", "edited")
    third = load_changes(tmp_path).changes[2]
    assert ask("checksum_chain", change=third).message == "001_one was edited after it was applied here"


def test_drift_of_our_table_fails_and_is_named(ask: Ask, connection: Connection) -> None:
    assert ask("drift").status == "pass"
    applied(connection, "1")
    assert ask("drift").status == "pass"
    connection.execute("ALTER TABLE t ALTER v TYPE varchar(5)")
    found = ask("drift")
    assert found.status == "fail"
    assert "public.t column v: type text → character varying(5) (since 1_add_extra)" in found.message
    connection.execute(found.remedy.split("as it is: ")[1])
    assert ask("drift").status == "pass"


def test_drift_elsewhere_warns(ask: Ask, connection: Connection) -> None:
    connection.execute("CREATE TABLE u (a integer)")
    u = Table("public", "u")
    applied(connection, "1", replace(PLAN, written=(u,), scope=(u,)))
    applied(connection, "2")
    connection.execute("ALTER TABLE u ADD COLUMN b integer")
    found = ask("drift")
    assert (found.status, "public.u column b: added" in found.message) == ("warn", True)


@pytest.mark.parametrize("keep_catalog", [True, False])
def test_what_a_later_run_changed_is_no_drift(ask: Ask, connection: Connection, keep_catalog: bool) -> None:
    applied(connection, "1", keep_catalog=keep_catalog)
    connection.execute("ALTER TABLE t ADD COLUMN b integer")
    applied(connection, "2", keep_catalog=keep_catalog)
    assert ask("drift").status == "pass"
    connection.execute("ALTER TABLE t DROP COLUMN b")
    assert ask("drift").status == "fail"


def test_drift_against_a_run_of_the_whole_database(ask: Ask, connection: Connection) -> None:
    applied(connection, "1", replace(PLAN, scope=()))
    connection.execute("CREATE TABLE u (a integer)")
    assert (ask("drift").status, "table public.u: added" in ask("drift").message) == ("warn", True)
    assert ask("drift", plan=replace(PLAN, scope=())).status == "fail"
    connection.execute("ALTER TABLE t ADD COLUMN b integer")
    assert "public.t column b: added" in ask("drift").message


def test_a_new_view_is_no_drift_of_its_table(ask: Ask, connection: Connection) -> None:
    applied(connection, "1")
    connection.execute("CREATE VIEW w AS SELECT id FROM t")
    assert ask("drift").status == "pass"


def test_ownership(ask: Ask, connection: Connection) -> None:
    assert ask("ownership").status == "pass"
    other = run(connection, "1")
    assert ask("ownership").status == "pass"
    other.claim((T,))
    found = ask("ownership")
    assert found.status == "fail"
    assert f"public.t is owned by run {other.run_id} of 1_add_extra" in found.message
    assert f"schema-change reconcile --run {other.run_id}" in found.remedy
    assert ask("ownership", run_id=other.run_id).status == "pass"
    other.release()
    assert ask("ownership").status == "pass"
