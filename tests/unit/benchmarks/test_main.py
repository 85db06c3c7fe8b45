"""What a run of the benchmark keeps, with works that measure nothing."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import __main__ as program
from benchmarks.bench import Bench
from benchmarks.measure import Figure, Result

Run = Callable[..., int]


def _one(_bench: Bench) -> Result:
    return Result("B1", "one", [Figure("f", (1.0, 2.0))], {})


def _two(_bench: Bench) -> list[Result]:
    return [Result(key, "two", [Figure("f", (1.0, 2.0))], {}) for key in ("B2", "B3")]


def _fails(_bench: Bench) -> Result:
    raise RuntimeError("no disk left")


@contextmanager
def _started(rows: int, rounds: int) -> Iterator[Bench]:
    yield cast("Bench", (rows, rounds))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    def start(
        works: dict[str, program.Work],
        *arguments: str,
        started: Callable[[int, int], AbstractContextManager[Bench]] = _started,
    ) -> int:
        monkeypatch.setattr(program, "works", lambda: works)
        monkeypatch.setattr(program, "started", started)
        monkeypatch.setattr(program, "RESULTS", tmp_path / "results")
        monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: str(tmp_path / "elsewhere"))
        return program.main(arguments)

    before = signal.getsignal(signal.SIGTERM)
    yield start
    signal.signal(signal.SIGTERM, before)


def _kept(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "latest.json").read_text("utf-8"))
    return found


def test_every_module_of_a_work_is_found_in_the_order_of_its_keys() -> None:
    works = program.works()
    assert list(works)[:3] == ["B1", "B2", "B3"]
    assert works["B1"] is works["B2"]
    assert list(works)[10:] == ["B11", "W1", "W2", "W3", "W4"]


def test_the_warehouse_is_measured_when_it_is_named(run: Run, tmp_path: Path) -> None:
    assert run({"B1": _one, "W1": _fails}) == 0
    assert list(_kept(tmp_path / "results")) == ["B1"]


def test_works_keep_what_they_gave_and_how_long_they_took(run: Run, tmp_path: Path) -> None:
    assert run({"B1": _one, "B2": _two, "B3": _two}) == 0
    kept = _kept(tmp_path / "results")
    assert list(kept) == ["B1", "B2", "B3"]
    assert kept["B3"]["measured_with"] == "B2"
    assert all("seconds" in work for work in kept.values())


def test_a_work_that_fails_loses_its_key_while_the_others_go_on(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run({"B1": _one, "B2": _two, "B3": _two})
    assert run({"B1": _fails, "B2": _two, "B3": _two}) == 1
    assert list(_kept(tmp_path / "results")) == ["B2", "B3"]
    assert "no disk left" in capsys.readouterr().err
    assert "[B1](#b1)" not in (tmp_path / "results" / "README.md").read_text("utf-8")


def test_only_default_sizes_are_kept_among_the_results(run: Run, tmp_path: Path) -> None:
    run({"B1": _one}, "--rows", "1000")
    assert list(_kept(tmp_path / "elsewhere")) == ["B1"]
    assert not (tmp_path / "results").exists()


def test_sigterm_lets_everything_be_cleaned_up(run: Run) -> None:
    gone: list[str] = []

    @contextmanager
    def started(_rows: int, _rounds: int) -> Iterator[Bench]:
        try:
            yield cast("Bench", None)
        finally:
            gone.append("server")

    def killed(_bench: Bench) -> Result:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError

    with pytest.raises(SystemExit) as ended:
        run({"B1": killed}, started=started)
    assert ended.value.code == 128 + signal.SIGTERM
    assert gone == ["server"]
