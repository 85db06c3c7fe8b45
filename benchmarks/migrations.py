"""The same hundred small changes, as each tool has them written: ours, sqitch's, alembic's and yoyo's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_TABLES = 20


@dataclass(frozen=True)
class Small:
    """A small change: as an operation of ours, as SQL there and back, and as a query that fails unless it is there."""

    name: str
    operation: dict[str, Any]
    deploy: str
    revert: str
    verify: str
    transactional: bool = True


def small_changes() -> list[Small]:
    """Return a hundred changes: for each of twenty tables, the table, a column, an index, a comment, a default."""
    return [change for number in range(_TABLES) for change in _of_table(f"t{number}")]


def _of_table(t: str) -> list[Small]:
    table = f"app.{t}"
    column = "column_name = '{}' AND table_schema = 'app' AND table_name = '" + t + "'"
    there = "SELECT 1/count(*) FROM information_schema.columns WHERE "
    return [
        Small(
            f"create_{t}",
            {
                "create_table": {
                    "table": table,
                    "columns": [{"name": "id", "type": "bigint"}, {"name": "name", "type": "text"}],
                    "primary_key": ["id"],
                }
            },
            f"CREATE TABLE {table} (id bigint NOT NULL, name text, PRIMARY KEY (id));",
            f"DROP TABLE {table};",
            f"SELECT id, name FROM {table} WHERE false;",
        ),
        Small(
            f"add_note_to_{t}",
            {"add_column": {"table": table, "column": {"name": "note", "type": "text"}}},
            f"ALTER TABLE {table} ADD COLUMN note text;",
            f"ALTER TABLE {table} DROP COLUMN note;",
            f"{there}{column.format('note')};",
        ),
        Small(
            f"index_{t}",
            {"create_index": {"table": table, "columns": ["name"], "name": f"{t}_name"}},
            f"CREATE INDEX CONCURRENTLY {t}_name ON {table} (name);",
            f"DROP INDEX CONCURRENTLY app.{t}_name;",
            f"SELECT 1/count(*) FROM pg_index WHERE indexrelid = 'app.{t}_name'::regclass AND indisvalid;",
            transactional=False,
        ),
        Small(
            f"comment_{t}",
            {"comment": {"table": table, "text": f"what {t} is for"}},
            f"COMMENT ON TABLE {table} IS 'what {t} is for';",
            f"COMMENT ON TABLE {table} IS NULL;",
            f"SELECT 1/length(obj_description('{table}'::regclass));",
        ),
        Small(
            f"default_{t}",
            {"set_default": {"table": table, "column": "name", "default": "'none'"}},
            f"ALTER TABLE {table} ALTER COLUMN name SET DEFAULT 'none';",
            f"ALTER TABLE {table} ALTER COLUMN name DROP DEFAULT;",
            f"{there}{column.format('name')} AND column_default IS NOT NULL;",
        ),
    ]


def write_ours(changes: Sequence[Small], root: Path) -> list[str]:
    """Write change folders; return their ids in order."""
    ids = []
    for number, change in enumerate(changes, start=1):
        ids.append(f"{number:03}_{change.name}")
        folder = root / "include" / "sql" / "changes" / ids[-1]
        folder.mkdir(parents=True)
        document = {"description": change.name.replace("_", " "), "conn_id": "app", "operations": [change.operation]}
        (folder / "change.yaml").write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    return ids


def write_sqitch(changes: Sequence[Small], root: Path) -> None:
    """Write a sqitch project: a plan, and deploy, revert and verify scripts."""
    (root / "sqitch.conf").write_text(
        "[core]\n\tengine = pg\n[user]\n\tname = bench\n\temail = bench@example.com\n", "utf-8"
    )
    plan = ["%syntax-version=1.0.0", "%project=app", ""]
    for number, change in enumerate(changes):
        stamp = f"2024-01-01T{number // 60:02}:{number % 60:02}:00Z"
        plan.append(f"{change.name} {stamp} bench <bench@example.com> # {change.name}")
        for kind, text in (("deploy", change.deploy), ("revert", change.revert), ("verify", change.verify)):
            (root / kind).mkdir(exist_ok=True)
            end = "ROLLBACK" if kind == "verify" else "COMMIT"
            whole = f"BEGIN;\n{text}\n{end};\n" if change.transactional or kind == "verify" else f"{text}\n"
            (root / kind / f"{change.name}.sql").write_text(whole, "utf-8")
    (root / "sqitch.plan").write_text("\n".join(plan) + "\n", "utf-8")


_ENV = """
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""


def write_alembic(changes: Sequence[Small], root: Path, url: str) -> None:
    """Write an alembic project: one revision per change, each in a transaction of its own as ours are."""
    (root / "versions").mkdir()
    (root / "alembic.ini").write_text(f"[alembic]\nscript_location = {root}\nsqlalchemy.url = {url}\n", "utf-8")
    (root / "env.py").write_text(_ENV, "utf-8")
    (root / "script.py.mako").write_text("", "utf-8")
    before: str | None = None
    for number, change in enumerate(changes, start=1):
        revision = f"{number:03}"
        lines = ["from alembic import op", f"revision = {revision!r}", f"down_revision = {before!r}"]
        for function, text in (("upgrade", change.deploy), ("downgrade", change.revert)):
            lines.append(f"def {function}():")
            if change.transactional:
                lines.append(f"    op.execute({text!r})")
            else:
                lines += ["    with op.get_context().autocommit_block():", f"        op.execute({text!r})"]
        (root / "versions" / f"{revision}_{change.name}.py").write_text("\n".join(lines) + "\n", "utf-8")
        before = revision


def write_yoyo(changes: Sequence[Small], root: Path) -> None:
    """Write yoyo migrations with their way back."""
    for number, change in enumerate(changes, start=1):
        head = "" if change.transactional else "-- transactional: false\n"
        before = f"-- depends: {number - 1:03}_{changes[number - 2].name}\n" if number > 1 else ""
        name = f"{number:03}_{change.name}"
        (root / f"{name}.sql").write_text(f"-- {change.name}\n{before}{head}\n{change.deploy}\n", "utf-8")
        (root / f"{name}.rollback.sql").write_text(f"{head}{change.revert}\n", "utf-8")
