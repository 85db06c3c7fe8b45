from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from schema_change.core import sqlfiles
from schema_change.core.database import Connection, Target
from schema_change.core.journal import registry
from tests.integration.backfill.filling import Filling


@pytest.fixture
def filling(target: Target, connection: Connection) -> Iterator[Filling]:
    registry.install(connection)
    run_id = uuid4()
    texts = ("change_version", "change_name", "description", "checksum", "parent_checksum", "checksum_algorithm")
    connection.execute(
        sqlfiles.block("queries/journal", "insert_run"),
        dict.fromkeys((*texts, "files_sha256", "conn_id", "requested_by", "requested_from", "fingerprint_before"), "x")
        | {"run_id": run_id, "options": Jsonb({}), "change": Jsonb({}), "risk": "low", "plan": Jsonb({})}
        | {"catalog_before": Jsonb({})},
    )
    connection.execute(
        sqlfiles.block("queries/journal", "insert_steps"),
        {"run_id": run_id, "steps": Jsonb([{"phase": "backfill", "title": "fill"}] * 12)},
    )
    with target.connect("side") as side:
        prepared = Filling(target, connection, run_id, target.connect("work"), side)
        yield prepared
        prepared.work.close()
