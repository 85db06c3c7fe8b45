"""What is recovered is no drift: the snapshots that runs left behind are told of it."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, fingerprint_of
from schema_change.core.database import Connection
from schema_change.core.names import Table
from schema_change.core.recipes.dependents import shown


def accept(connection: Connection, live: Catalog, table: Table) -> None:
    """Put a table, and those its foreign keys refer to, as they are now into the snapshots of landed runs."""
    relation = live.get(table)
    parents = {c.references for c in relation.constraints if c.references} if relation else set()
    now = live.to_json()
    owned = f" owned by {shown(table)}."
    sequences = {name: text for name, text in now["objects"].items() if owned in text.partition("\n")[0]}
    for run_id, scope, snapshot in connection.execute(sqlfiles.block("queries/retention", "snapshots")).fetchall():
        tables = {Table(**t) for t in scope}
        ours = {str(t) for t in {table, *parents} if (t in tables or not tables) and str(t) in now}
        if not ours:
            continue
        merged = {**snapshot, **{name: now[name] for name in ours}}
        if not tables:
            merged["objects"] = {**merged["objects"], **sequences}
        connection.execute(
            sqlfiles.block("queries/retention", "set_snapshot"),
            {"run_id": run_id, "catalog": Jsonb(merged), "fingerprint": fingerprint_of(merged)},
        )
