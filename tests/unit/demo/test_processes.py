from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from demo import processes
from demo.processes import Process

# A component as Airflow's are: it starts a task in a process group of its own, and both would run for a minute.
COMPONENT = """
import subprocess, sys, time
task = "import time; time.sleep(60)"
subprocess.Popen([sys.executable, "-c", task], process_group=0, stdout=subprocess.DEVNULL)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def component() -> Iterator[Process]:
    with subprocess.Popen(
        [sys.executable, "-c", COMPONENT], start_new_session=True, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        process = Process.of("component", child.pid)
        yield process
        processes.kill([process])


def test_a_process_is_known_by_its_start_time(component: Process) -> None:
    assert component.running
    assert not dataclasses.replace(component, started=component.started - 60).running


def test_kill_takes_what_the_process_started(component: Process) -> None:
    assert len(processes.members([component])) == 2
    processes.kill([component])
    assert processes.members([component]) == []
    assert not component.running


def test_orphans_are_found(component: Process) -> None:
    os.kill(component.pid, 9)
    os.waitpid(component.pid, 0)
    assert not component.running
    assert len(processes.members([component])) == 1
    processes.kill([component])
    assert processes.members([component]) == []


def test_a_process_that_took_over_the_pid_is_left_alone(component: Process) -> None:
    earlier = dataclasses.replace(component, started=component.started - 60)
    processes.terminate([earlier], grace=0)
    assert component.running
    assert len(processes.members([component])) == 2


def test_terminate_does_not_wait_longer_than_it_must(component: Process) -> None:
    # The component ends at SIGTERM, its task does not hear of it and is killed when the grace is over.
    started = time.monotonic()
    processes.terminate([component], grace=0.3)
    assert processes.members([component]) == []
    assert time.monotonic() - started < 5
