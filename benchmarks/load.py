"""An application at work on a table: an open loop at a fixed rate, its latencies, its stalls, its writes checked.

PostgreSQL's own pgbench sends the statements: eight clients, prepared statements, arrivals that are fixed beforehand
(``--rate``: a Poisson process from a fixed seed). A latency is counted from the intended start, so what waited behind
a stalled statement counts as well (coordinated omission is corrected). It is a process of its own, written in C.

What is written is a function of the client and of how many writes came before it: the log of acknowledged transactions
tells what every row must hold in the end. Each client has its own range of keys. The first second does not count:
each client prepares its statements then, for which pgbench waits with all of them.

Behind a long stall many transactions are late: ``Load.settle`` waits until they have all begun, which happens outside
of what is measured, so that none is missing in the log.

Stalls come from the server: ``pg_locks.waitstart`` says since when a session waits for a lock, and a session of its own
looks every 5 ms. A wait counts until the first look that does not see it any more, so that it may look longer by one
look, never shorter; one that is over between two looks is missed, which makes the median look worse, not better. The
load's sessions never wait for each other's rows or table locks, so what they do wait for is the contender's.
"""

from __future__ import annotations

import math
import re
import signal
import subprocess
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.measure import Goal, percentile
from schema_change.core.database import Connection, Target

CLIENTS = 8
_SEED = "4"
_LOOK_S = 0.005
_SETTLE_S = 15.0
_LATE_S = 0.05  # what a transaction may be late by when no others wait
_STOP_S = 60.0
#: Of the longest stall, in ms: one attempt of ours.
STALL = Goal(100)
_STEP = 15_485_863  # a prime: a client's updates walk over all of its keys before one comes again

#: Of the table that is changed; the load reads and writes ``id``, ``value`` and ``note`` of it.
TABLE = """
CREATE TABLE app (
    id bigint PRIMARY KEY, value bigint NOT NULL, note text, amount integer, station integer NOT NULL,
    place text, remark text
);
INSERT INTO app SELECT g, -g, 'as it was', g % 100000, g % 1000,
    'P' || g % 1000, md5(g::text) FROM generate_series(1, {rows}) AS g;
VACUUM (FREEZE, ANALYZE) app;
"""

#: The kinds of transactions: how many of ten, and what they do. Only writes count on (``:u``, ``:i``).
_OWN = f"(:rows / {CLIENTS})"  # rows of each client
_SCRIPTS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "read": (6, (r"\set id random(1, :rows)", "SELECT value, note FROM app WHERE id = :id;")),
    "update": (
        3,
        (
            r"\set u :u + 1",
            rf"\set id :client_id * {_OWN} + (:u * {_STEP}) % {_OWN} + 1",
            "UPDATE app SET value = :u, note = 'updated' WHERE id = :id;",
        ),
    ),
    "insert": (
        1,
        (
            r"\set i :i + 1",
            r"\set id 1000000000 + :client_id * 100000000 + :i",
            "INSERT INTO app (id, value, note, amount, station) VALUES (:id, :i, 'inserted', 7, :i % 1000);",
        ),
    ),
}
_KINDS = tuple(_SCRIPTS)

#: One line for each look: when it was over, and who was seen to wait.
_WAITS = f"""
SELECT
    extract(epoch FROM clock_timestamp()),
    string_agg(concat_ws(',', l.pid, extract(epoch FROM l.waitstart), l.locktype), ';')
FROM pg_locks AS l
WHERE NOT l.granted AND l.waitstart IS NOT NULL AND l.locktype IN ('relation', 'transactionid', 'tuple', 'virtualxid')
    AND l.pid IN (SELECT a.pid FROM pg_stat_activity AS a WHERE a.application_name = 'load')
\\watch i={_LOOK_S}
"""

#: The last acknowledged write of each key, and when it should have begun.
_WRITTEN = f"""
CREATE TEMPORARY TABLE written AS
SELECT DISTINCT ON (id) id, n AS value, kind, began
FROM (
    SELECT
        CASE kind
            WHEN 'update' THEN client * own + (n * {_STEP}) %% own + 1
            ELSE 1000000000 + client * 100000000 + n
        END AS id, n, kind, began
    FROM acknowledged, (SELECT %(rows)s::bigint / {CLIENTS} AS own) AS rows_of_each
) AS a
ORDER BY id, n DESC
"""

#: Rows that hold something else than they must, or should not be there, and those that are missing.
_WRONG = """
SELECT
    count(*) FILTER (WHERE is_wrong OR NOT is_known) - count(*) FILTER (WHERE is_known)
    + %(rows)s + (SELECT count(*) FROM written WHERE kind = 'insert'),
    min(id) FILTER (WHERE is_wrong OR NOT is_known)
FROM (
    SELECT
        a.id, w.id IS NOT NULL OR a.id BETWEEN 1 AND %(rows)s AS is_known,
        a.value IS DISTINCT FROM coalesce(w.value, -a.id) OR a.note IS DISTINCT FROM CASE w.kind
            WHEN 'update' THEN 'updated' WHEN 'insert' THEN 'inserted' ELSE 'as it was'
        END AS is_wrong
    FROM app AS a LEFT JOIN written AS w ON a.id = w.id
) AS compared
"""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction of the load: when it ended (seconds of the epoch), from its intended start, and what it was."""

    ended: float
    latency_s: float
    client: int
    kind: str
    ok: bool
    lag_s: float

    @property
    def began(self) -> float:
        """Return when it should have begun."""
        return self.ended - self.latency_s


@dataclass(frozen=True, slots=True)
class Stall:
    """One wait of one session for a lock, until the first look that did not see it any more."""

    began: float
    seconds: float
    lock: str


@dataclass(frozen=True, slots=True)
class Window:
    """What the load saw between two moments. Seconds; rates per second."""

    transactions: Sequence[Transaction]
    stalls: Sequence[Stall]
    seconds: float

    def latency(self, part: float) -> float:
        """Return a percentile of the latencies; nan when nothing began in the window."""
        return percentile([t.latency_s for t in self.transactions], part) if self.transactions else math.nan

    @property
    def p99(self) -> float:
        """Return the latency that 99 of 100 transactions stay within."""
        return self.latency(0.99)

    @property
    def rate(self) -> float:
        """Return the transactions per second."""
        return len(self.transactions) / self.seconds

    @property
    def errors(self) -> int:
        """Return how many transactions failed."""
        return sum(not t.ok for t in self.transactions)

    @property
    def longest_stall(self) -> float:
        """Return the longest wait for a lock, 0 when there was none."""
        return max((s.seconds for s in self.stalls), default=0.0)

    @property
    def median_stall(self) -> float:
        """Return the median wait for a lock, 0 when there was none."""
        return percentile([s.seconds for s in self.stalls] or [0.0], 0.5)


@dataclass
class Load:
    """A load that runs, or ran: when it has ended, its windows can be asked for."""

    folder: Path
    transactions: list[Transaction] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)

    def between(self, began: float, ended: float) -> Window:
        """Return what began between two moments of ``time.time()``, or should have begun."""
        first, behind = (bisect_left(self.transactions, t, key=lambda each: each.began) for t in (began, ended))
        stalls = [s for s in self.stalls if began <= s.began < ended]
        return Window(self.transactions[first:behind], stalls, ended - began)

    def settle(self) -> None:
        """Wait until no transaction is late any more, but not for ever: one that cannot keep up is what is measured."""
        began = time.time()
        while time.time() < began + _SETTLE_S:
            last = self._last()
            if last and last.ended > began and last.lag_s < _LATE_S:
                return
            time.sleep(0.05)

    def _last(self) -> Transaction | None:
        """Return the transaction that was logged last, while the load runs."""
        for log in self.folder.glob("log.*"):
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - 4096))
                # What is written is cut anywhere: the first and the last line may be parts.
                lines = file.read().decode().split("\n")[1:-1]
            if lines:
                return _transaction(lines[-1])
        return None

    @property
    def look_p99(self) -> float:
        """Return the time between two looks that 99 of 100 stay within: what a stall may look longer by."""
        gaps = [after - before for before, after in pairwise(self.looks)]
        return percentile(gaps, 0.99) if gaps else math.nan

    def check(self, connection: Connection, rows: int) -> None:
        """Raise AssertionError when an acknowledged write is not in the table, or a row holds anything else.

        That no transaction failed is part of it: the application must not notice. The temporary table ``written``
        (id, value, kind, began) stays for further comparisons of that session.
        """
        failed = [t for t in self.transactions if not t.ok]
        assert not failed, f"{len(failed)} transactions of the load failed"
        counts: dict[tuple[int, str], int] = defaultdict(int)
        connection.execute("DROP TABLE IF EXISTS acknowledged, written")
        connection.execute(
            "CREATE TEMPORARY TABLE acknowledged (client bigint, kind text, n bigint, began double precision)"
        )
        with connection.cursor() as cursor, cursor.copy("COPY acknowledged FROM STDIN") as copy:
            for each in self.transactions:
                if each.kind != "read":
                    counts[each.client, each.kind] += 1
                    copy.write_row((each.client, each.kind, counts[each.client, each.kind], each.began))
        connection.execute(_WRITTEN.encode(), {"rows": rows})
        connection.execute("ANALYZE written")
        row = connection.execute(_WRONG.encode(), {"rows": rows}).fetchone()
        assert row is not None
        assert row[0] == 0, (
            f"{row[0]} rows do not hold what the application last wrote, such as the one with id {row[1]}"
        )


def capacity(bench: Bench, target: Target, rows: int, seconds: int = 4) -> float:
    """Return the transactions per second that the clients get when each sends its next as soon as it can."""
    process = subprocess.run(
        _pgbench(bench, target, rows, bench.folder, ["--time", str(seconds), "--no-vacuum"]),
        check=True,
        capture_output=True,
        text=True,
        cwd=bench.folder,
    )
    found = re.search(r"^tps = ([\d.]+)", process.stdout, re.MULTILINE)
    assert found, process.stdout + process.stderr
    return float(found[1])


@contextmanager
def running(bench: Bench, target: Target, rows: int, rate: float) -> Iterator[Load]:
    """Let the application work at that rate while the block runs; what it saw is in the load afterwards."""
    folder = bench.folder / f"load{time.monotonic_ns()}"
    folder.mkdir()
    load = Load(folder)
    options = ["--rate", f"{rate:.0f}", "--time", "3600", "--log", "--log-prefix", str(folder / "log")]
    with (folder / "pgbench").open("w") as said, _looking(bench, target, folder / "waits"):
        process = subprocess.Popen(
            _pgbench(bench, target, rows, folder, options), stdout=said, stderr=subprocess.STDOUT, cwd=folder
        )
        try:
            yield load
            load.settle()
            # What pgbench sets for the end of its time: each client ends its transaction, and the log is complete.
            process.send_signal(signal.SIGALRM)
            code = process.wait(_STOP_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    assert code == 0, (folder / "pgbench").read_text()
    found = [_transaction(line) for log in folder.glob("log.*") for line in log.read_text().splitlines()]
    load.transactions = sorted(found, key=lambda each: each.began)
    load.looks, load.stalls = _seen(folder / "waits")


def _pgbench(bench: Bench, target: Target, rows: int, folder: Path, options: Sequence[str]) -> list[str]:
    scripts: list[str] = []
    for kind, (weight, lines) in _SCRIPTS.items():
        file = folder / f"{kind}.sql"
        file.write_text("\n".join([*lines, ""]))
        scripts += ["--file", f"{file}@{weight}"]
    return [
        str(bench.server.installation.tool("pgbench")),
        *("--client", str(CLIENTS), "--protocol", "prepared", "--random-seed", _SEED, "--no-vacuum"),
        *("--define", f"rows={rows}", "--define", "u=0", "--define", "i=0"),
        *scripts,
        *options,
        _dsn(target, "load"),
    ]


@contextmanager
def _looking(bench: Bench, target: Target, output: Path) -> Iterator[None]:
    """Write down, every few milliseconds, which sessions of the load wait for a lock, and since when."""
    psql = [str(bench.server.installation.tool("psql")), "-XqAt", "-v", "ON_ERROR_STOP=1", _dsn(target, "looks")]
    with output.open("w") as written, subprocess.Popen(psql, stdin=subprocess.PIPE, stdout=written) as process:
        assert process.stdin
        process.stdin.write(_WAITS.encode())
        process.stdin.close()
        try:
            yield
            assert process.poll() is None, f"psql does not look any more (exit code {process.returncode})"
        finally:
            process.terminate()


def _dsn(target: Target, name: str) -> str:
    parameters: Mapping[str, object] = {**target.parameters, "application_name": name}
    return " ".join(f"{key}={value}" for key, value in parameters.items())


def _transaction(line: str) -> Transaction:
    """Read a line of pgbench's log: client, number, latency in µs or ``failed``, script, end in s and µs, lag in µs."""
    client, _, latency, script, seconds, micros, lag, *_ = line.split()
    ok = latency.isdigit()
    ended = int(seconds) + int(micros) / 1e6
    return Transaction(ended, int(latency) / 1e6 if ok else 0.0, int(client), _KINDS[int(script)], ok, int(lag) / 1e6)


def _seen(file: Path) -> tuple[list[float], list[Stall]]:
    """Return the times of the looks, and the waits, each until the first look that does not see it any more."""
    looks: list[float] = []
    stalls: list[Stall] = []
    waiting: set[str] = set()
    for line in file.read_text().splitlines():
        time_, bar, waits = line.partition("|")
        if not bar:
            continue  # psql says when it looks
        looks.append(float(time_))
        now = {wait for wait in waits.split(";") if wait}
        stalls += [_stall(wait, looks[-1]) for wait in waiting - now]
        waiting = now
    return looks, stalls + [_stall(wait, looks[-1]) for wait in waiting]


def _stall(wait: str, ended: float) -> Stall:
    _pid, began, lock = wait.split(",")
    return Stall(float(began), ended - float(began), lock)
