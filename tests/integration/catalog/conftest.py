"""A role and a database with one of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.postgres import Server
from schema_change.core.database import Connection

EVERYTHING = Path(__file__).with_name("everything.sql")


def load_everything(session: Connection) -> None:
    session.execute(EVERYTHING.read_bytes())


@pytest.fixture
def reader_role(server: Server) -> str:
    with server.target().connect("tests") as admin:
        admin.execute("DO $$ BEGIN CREATE ROLE catalog_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    return "catalog_reader"


@pytest.fixture
def everything(connection: Connection, reader_role: str) -> Connection:
    load_everything(connection)
    return connection
