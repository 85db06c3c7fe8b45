"""B7: backup and verify, against pg_dump and pg_restore by hand.

Three tables with their indexes and foreign keys, at the default size about 1 GB. What is compared, each time into a new
database on the same server, with a job per core:

- *by hand*: ``pg_dump -Fd -j``, ``createdb``, ``pg_restore -j``, as PostgreSQL's documentation of pg_dump has it, with
  our compression (gzip 1). It compares nothing: that the dump could be restored is all it shows.
- *ours*: what the stage ``backup`` runs, ``take_backup`` and ``restore_to_scratch``: snapshot, dump, manifest with
  sha256, every file read again, restore, and the row counts and checksums of both sides; once without the last, which
  the product does not offer: here they are patched away.

Beside them, in one round and without a goal:

- *by hand* with pg_dump's default compression (gzip 6), and with pg_restore's sessions not waiting for the disk at
  commit, as those of ours do not.
- *ours to object storage*: the same, without checksums, where the backup's folder is behind fsspec and not local: the
  dump goes through a temporary folder, is sent file by file, and is fetched again for the restore. The storage is this
  machine's disk, so a network comes on top.

Every contender's first copy is compared with the source, all rows, after its time was taken.
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest import mock
from uuid import uuid4

from psycopg import sql
from upath import UPath

from benchmarks.bench import Bench
from benchmarks.commands import NO_WAIT, Contender
from benchmarks.measure import Figure, Goal, Result, noise, ratio, stopwatch, take_turns
from schema_change.core.backup import dump, programs
from schema_change.core.backup.checksums import TableChecksum, checksums, differences
from schema_change.core.backup.files import remove
from schema_change.core.backup.restore import restore_tables
from schema_change.core.backup.scratch import drop_scratch, restore_to_scratch, scratch_name
from schema_change.core.database import Target
from schema_change.core.names import Table

#: Seconds, the copy that was made, and the folder of the dump.
Done = tuple[float, Target, UPath]
Held = tuple[TableChecksum, ...]
_Patch = tuple[str, object]
_GZIP_6, _NO_WAIT, _REMOTE = "by hand, gzip 6", "by hand, no wait at commit", "ours to object storage"
_AS_IT_IS: Mapping[str, str] = {}
#: The size of the smaller database for the memory, of the rows of the others.
_SMALL = 8
_NO_CHECKSUMS: tuple[_Patch, ...] = (
    ("schema_change.core.backup.dump.checksums", ()),
    ("schema_change.core.backup.load.checksums", ()),
)
_NOT_LOCAL: _Patch = ("schema_change.core.backup.files.is_local", False)
_TABLES = tuple(Table("public", name) for name in ("customer", "item", "orders"))
_NOTES = [
    (
        "ours without checksums is ours with them patched away: the product has no such option; what a user gets is"
        " ours with checksums"
    ),
    (
        "our pg_restore does not wait for the disk at commit (synchronous_commit = off), by hand it does, except where"
        " it says so"
    ),
    (
        "peak memory: of the worker's process and of its largest child, over backup, verify and restore of tables, with"
        " an eighth and a quarter of the rows"
    ),
]
_TABLES_SQL = """
CREATE TABLE public.customer (
    id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL, city text, since timestamptz NOT NULL, about text
);
INSERT INTO public.customer
SELECT
    g, 'customer ' || g, md5(g::text) || '@example.org', 'city ' || g % 977,
    '2020-01-01'::timestamptz + g * '1 min'::interval, repeat(md5((g * 3)::text) || ' ', 8)
FROM generate_series(1, {rows} / 5) AS g;
CREATE TABLE public.orders (
    id bigint PRIMARY KEY, customer_id bigint NOT NULL, at timestamptz NOT NULL, status text NOT NULL,
    total numeric(12, 2) NOT NULL, rating double precision, note text
);
INSERT INTO public.orders
SELECT
    g, 1 + g % ({rows} / 5), '2024-01-01'::timestamptz + g * '7 s'::interval, (ARRAY['new', 'paid', 'sent'])[1 + g % 3],
    (g * 31 % 1000000) / 100.0, CASE WHEN g % 4 > 0 THEN sin(g) END,
    md5((g * 7)::text) || repeat(' words that every row has', 8) || md5((g * 13)::text) || md5((g * 17)::text)
FROM generate_series(1, {rows} / 2) AS g;
CREATE TABLE public.item (
    id bigint PRIMARY KEY, order_id bigint NOT NULL, product text NOT NULL, amount integer NOT NULL, attributes jsonb
);
INSERT INTO public.item
SELECT g, 1 + g % ({rows} / 2), 'product ' || md5((g % 4999)::text), g % 9,
    jsonb_build_object('colour', g % 17, 'size', g % 5, 'label', md5((g * 11)::text), 'made', 'somewhere ' || g % 99)
FROM generate_series(1, {rows} - {rows} / 2 - {rows} / 5) AS g;
CREATE UNIQUE INDEX ON public.customer (email);
CREATE INDEX ON public.orders (customer_id, at);
CREATE INDEX ON public.item (order_id);
CREATE INDEX ON public.item (product);
ALTER TABLE public.orders ADD FOREIGN KEY (customer_id) REFERENCES public.customer;
ALTER TABLE public.item ADD FOREIGN KEY (order_id) REFERENCES public.orders;
"""


def run(bench: Bench) -> Result:
    """Measure all; raises AssertionError when a copy differs."""
    source, size = _filled(bench, "b7", bench.rows)
    stored, remote = UPath(bench.folder / "backup"), UPath(f"file://{bench.folder}/objects", auto_mkdir=True)
    held = _held(source)
    contenders: dict[str, Callable[[], Done]] = {
        "by hand": lambda: _by_hand(bench, source),
        "by hand again": lambda: _by_hand(bench, source),
        "ours": lambda: _ours(source, stored, _NO_CHECKSUMS),
        "ours with checksums": lambda: _ours(source, stored),
    }
    guests: dict[str, Callable[[], Done]] = {
        _GZIP_6: lambda: _by_hand(bench, source, level="6"),
        _NO_WAIT: lambda: _by_hand(bench, source, restoring=NO_WAIT),
        _REMOTE: lambda: _ours(source, remote, (*_NO_CHECKSUMS, _NOT_LOCAL)),
    }
    turns = {name: _turn(source, held, way) for name, way in (contenders | guests).items()}
    seconds = take_turns(turns, bench.rounds, only=dict.fromkeys(guests, 1), between=bench.checkpoint, say=bench.say)
    small, large = (_peak(bench, _filled(bench, f"b7_{n}", n * bench.rows // _SMALL)[0]) for n in (1, 2))
    bench.say(f"peak memory in MB: {small}, with twice the rows {large}")
    cost = tuple(whole - 1 for whole in ratio(seconds, "ours with checksums", "ours"))
    return Result(
        "B7",
        "Backup and verify",
        [
            Figure("ours, without checksums, to by hand", ratio(seconds, "ours", "by hand"), Goal(1.1), peer=True),
            Figure("what the checksums of both sides cost, to ours without", cost, Goal(0.5)),
            Figure("ours with checksums, to by hand", ratio(seconds, "ours with checksums", "by hand"), peer=True),
            *(
                Figure(f"ours, without checksums, to {name}", ratio(seconds, "ours", name), peer=True)
                for name in (_GZIP_6, _NO_WAIT)
            ),
            Figure("ours to object storage, to by hand", ratio(seconds, _REMOTE, "by hand"), peer=True),
            noise(seconds, "by hand", "by hand again"),
            *(
                Figure(
                    f"peak memory of the {who}, with twice the rows", (large[who] / small[who],), Goal(1.1), exact=True
                )
                for who in small
            ),
        ],
        seconds,
        bench.setting(
            rows=bench.rows, bytes=size, jobs=programs.jobs(), compression="gzip 1", peak_memory_mb=[small, large]
        ),
        _NOTES,
    )


def _filled(bench: Bench, name: str, rows: int) -> tuple[Target, int]:
    target = bench.database(name)
    with target.connect("bench") as session:
        session.execute("SET maintenance_work_mem = '256MB'")
        session.execute(_TABLES_SQL.replace("{rows}", str(rows)).encode())
        session.execute("VACUUM ANALYZE")
        found = session.execute("SELECT pg_database_size(current_database())").fetchone()
    return target, int(found[0]) if found else 0


def _turn(source: Target, held: Held, way: Callable[[], Done]) -> Contender:
    """Return a contender that leaves nothing behind and whose first copy is compared with the source."""
    turns = itertools.count()

    def turn() -> float:
        seconds, copy, folder = way()
        if not next(turns):
            _check(held, copy)
        remove(folder)
        with source.connect("bench") as session:
            session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(copy.database)))
        return seconds

    return turn


def _by_hand(bench: Bench, source: Target, *, level: str = "1", restoring: Mapping[str, str] = _AS_IT_IS) -> Done:
    """Dump and restore with PostgreSQL's own tools."""
    tool, folder, copy = bench.server.installation.tool, bench.folder / "by_hand", f"{source.database}_by_hand"
    jobs = f"-j{programs.jobs()}"
    with source.client_environment() as environment, stopwatch() as seconds:
        dump = [tool("pg_dump"), "-Fd", jobs, f"-Z{level}", "-f", str(folder), source.database]
        programs.run(dump, environment)
        programs.run([tool("createdb"), "-T", "template0", copy], environment)
        programs.run([tool("pg_restore"), jobs, "-d", copy, str(folder)], {**environment, **restoring})
    return seconds(), source.with_database(copy), UPath(folder)


def _ours(source: Target, folder: UPath, changed: Sequence[_Patch] = ()) -> Done:
    """Take a backup and verify it as the stage does, with parts of it changed."""
    run_id = uuid4()
    with ExitStack() as stack:
        for part, value in changed:
            stack.enter_context(mock.patch(part, return_value=value))
        with stopwatch() as seconds:
            dump.take_backup(source, _TABLES, folder, everything=False, run_id=run_id, note=_quiet)
            copy = restore_to_scratch(folder, source, scratch_name(run_id), _quiet)
    return seconds(), copy, folder


def _held(target: Target) -> Held:
    with target.connect("bench") as session:
        return checksums(session, _TABLES)


def _check(held: Held, copy: Target) -> None:
    """Raise AssertionError unless the copy holds the same rows."""
    if unequal := differences(held, _held(copy)):
        raise AssertionError(f"{copy.database} differs from its source: {unequal}")


def _quiet(_line: str) -> None:
    """Say nothing."""


def _peak(bench: Bench, source: Target) -> dict[str, int]:
    """Return the peak memory, in MB, of a process that backs up, verifies and restores, and of its largest child."""
    folder = bench.folder / f"peak_{source.database}"
    found = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(dict(source.parameters)), str(folder)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    return {who: int(mb) for who, mb in json.loads(found.stdout).items()}


def _measure_peak(parameters: str, folder: str) -> None:
    target, run_id = Target("bench", json.loads(parameters)), uuid4()
    dump.take_backup(target, _TABLES, UPath(folder), everything=False, run_id=run_id, note=_quiet)
    copy = restore_to_scratch(UPath(folder), target, scratch_name(run_id), _quiet)
    # One row of each is another one, so that each is loaded again.
    with copy.connect("bench") as session:
        session.execute("DELETE FROM public.item WHERE id = 1; UPDATE public.orders SET note = '' WHERE id = 1")
        session.execute("UPDATE public.customer SET city = '' WHERE id = 1")
    restore_tables(copy, UPath(folder), note=_quiet)
    _check(_held(target), copy)
    drop_scratch(target, copy.database)
    remove(UPath(folder))
    # Not ru_maxrss of the process itself: that begins with the size of the one that started it.
    own = int(Path("/proc/self/status").read_text("utf-8").split("VmHWM:")[1].split()[0])
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"worker": own // 1024, "largest child": children // 1024}))


if __name__ == "__main__":
    _measure_peak(*sys.argv[1:])
