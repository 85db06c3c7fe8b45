"""Processes of ours: known by pid and start time, ended with everything they started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Process:
    """A process that leads a session of its own. The start time tells it from a later one with the same pid."""

    name: str
    pid: int
    started: float

    @classmethod
    def of(cls, name: str, pid: int) -> Process:
        """Describe a process that was just started."""
        return cls(name, pid, psutil.Process(pid).create_time())

    @property
    def running(self) -> bool:
        """Tell whether it is alive and still the one we started; a zombie is not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


def members(processes: Iterable[Process]) -> list[int]:
    """Return the pids of the processes' sessions: them, and all they started, orphans too.

    A task moves to a process group of its own, but stays in the session. The number of a session is not given to
    a new process while the session has members; so a live process of that number which is not ours means that
    ours, and all of its session, is gone.
    """
    sessions = {p.pid for p in processes if p.running or not psutil.pid_exists(p.pid) or _zombie(p.pid)}
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) in sessions and not _zombie(pid):
                found.append(pid)
    return found


def terminate(processes: Iterable[Process], grace: float) -> None:
    """Ask with SIGTERM, wait up to ``grace`` seconds, then kill what is left."""
    known = list(processes)
    for process in known:
        if process.running:
            _send(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while members(known) and time.monotonic() < deadline:
        reap(known)
        time.sleep(0.1)
    kill(known)


def kill(processes: Iterable[Process]) -> None:
    """Kill the processes and all they started, at once, and wait until they are gone."""
    known = list(processes)
    deadline = time.monotonic() + 10
    while (pids := members(known)) and time.monotonic() < deadline:
        for pid in pids:
            _send(pid, signal.SIGKILL)
        reap(known)
        time.sleep(0.05)
    reap(known)


def reap(processes: Iterable[Process]) -> None:
    """Collect the exit status of those that are children of this process."""
    for process in processes:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of loopback."""
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
