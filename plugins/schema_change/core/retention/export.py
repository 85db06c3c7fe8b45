"""Write kept data to a CSV file, on any fsspec storage, without having it in memory."""

from __future__ import annotations

from psycopg import sql
from upath import UPath

from schema_change.core import sqlfiles
from schema_change.core.backup.files import prepare
from schema_change.core.database import Target
from schema_change.core.errors import JournalError
from schema_change.core.journal.journal import Journal
from schema_change.core.retention.kept import find_kept


def export(target: Target, number: int, file: UPath, *, actor: str = "") -> int:
    """Write the kept rows with a header to a file; return how many. The time zone is UTC, dates are ISO.

    Raises ConfigurationError for an unknown id and JournalError when nothing is kept any more.
    """
    with target.connect("export") as connection:
        kept = find_kept(connection, number)
        if not kept.there:
            raise JournalError(f"{kept.what} was {kept.state}; there is nothing to export", hint="see its table")
        copy = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT WITH (FORMAT csv, HEADER, ENCODING 'UTF8')")
        prepare(file.parent)
        connection.execute("SET statement_timeout = 0")
        with connection.transaction():
            connection.execute(sqlfiles.block("queries/backup", "pin_formats"))
            with file.open("wb") as sink, connection.cursor() as cursor:
                with cursor.copy(copy.format(kept.kept.identifier)) as rows:
                    for chunk in rows:
                        sink.write(chunk)
                written = cursor.rowcount
            Journal(connection, kept.run_id, actor).event("exported", f"{kept.what}: {file}", tables=(kept.table,))
        return written
