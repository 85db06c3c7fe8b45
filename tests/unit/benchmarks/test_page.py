"""The page of the results, from made-up ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.measure import Figure, Goal, Result

RESULTS = [
    Result(
        "B1",
        "Fill a column",
        [
            Figure("speed against the limit", (0.97, 0.98, 0.96), Goal(0.95, at_least=True)),
            Figure("speed against the loop", (180.0, 200.0, 150.0), Goal(15, at_least=True)),
            Figure("A/A: the limit against itself", (1.0, 1.01, 1.02)),
            Figure("longest stall", (17.0, 18.0, 19.0), Goal(60), "ms", exact=True),
            Figure("speed against a peer", (0.5, 0.6, 0.7), peer=True, more_is_better=True),
            Figure("seconds against another peer", (1.1, 1.2, 1.3), peer=True),
            Figure("WAL against the limit", (1.4, 1.5, 1.6)),
            Figure("what nobody could measure", (math.nan,), Goal(1)),
        ],
        {"ours (s)": [8.0, 9.0, 10.0], "not run": [], "not measured twice (s)": [2, math.nan, 3]},
        {"cores": 2, "settings": {"shared_buffers": "2GB"}},
        ["Autovacuum is off | for everybody."],
    ),
    Result("B7", "Back up", [Figure("seconds against a dump", (1.3, 1.4, 1.5), Goal(1.1))], {}),
    Result("B11", "Plan", [Figure("seconds against a dump", (0.3, 0.4, 0.7), Goal(0.5))], {}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "latest.json").write_text(json.dumps({r.key: r.to_json() for r in RESULTS}), "utf-8")
    page.write(tmp_path)
    return tmp_path


def test_the_table_has_every_work_with_its_verdict_and_noise(folder: Path) -> None:
    lines = (folder / "README.md").read_text("utf-8").splitlines()
    row = next(line for line in lines if line.startswith("| [B1]"))
    assert "| 0.97 × | 0.965 … 0.975 | ≥ 0.95 | met | **undecided** | 1.01 × 1 … 1.01 |" in row
    assert "**missed**" in next(line for line in lines if line.startswith("| [B7]"))
    assert "**undecided**" in next(line for line in lines if line.startswith("| [B11]"))


def test_what_is_behind_is_said_even_when_its_goal_is_met(folder: Path) -> None:
    text = (folder / "README.md").read_text("utf-8")
    listed = text.split("## What misses")[1].split("<a id")[0]
    assert "- B1, speed against the limit: 0.97 × 0.965 … 0.975, goal ≥ 0.95: met, 3.0 % behind" in listed
    assert "- B7, seconds against a dump: 1.4 × 1.35 … 1.45, goal ≤ 1.1: **missed**, 40.0 % behind" in listed
    assert "- B11, seconds against a dump: 0.4 × 0.35 … 0.55, goal ≤ 0.5: **undecided**\n" in listed
    assert "- B1, speed against a peer: 0.6 × 0.55 … 0.65: 40.0 % behind" in listed
    assert "- B1, seconds against another peer: 1.2 × 1.15 … 1.25: 20.0 % behind" in listed
    assert "- B1, what nobody could measure: – × – … –, goal ≤ 1: **undecided**\n" in listed
    assert "loop" not in listed
    assert "stall" not in listed
    assert "WAL" not in listed


def test_each_work_has_its_plot_raw_medians_setting_and_notes(folder: Path) -> None:
    section = (folder / "README.md").read_text("utf-8").split("## B1: Fill a column")[1].split("<a id")[0]
    assert "![B1](B1.svg)" in section
    assert "| ours (s) | 9 | 8, 9, 10 |" in section
    assert "not run" not in section
    assert "- Autovacuum is off | for everybody." in section
    assert "Setting: cores 2; settings: shared_buffers 2GB." in section
    for key in ("B1", "B7", "B11"):
        assert "ratio (bar: value; box: middle half; whiskers" in (folder / f"{key}.svg").read_text("utf-8")
    assert "| longest stall (worst seen) | 19 ms | 17 … 19 | 17 … 19 | ≤ 60 | met |" in section
    assert "| not measured twice (s) | 2.5 | 2, –, 3 |" in section


def test_a_bar_is_coloured_by_its_verdict_and_the_goal_is_written_at_its_line(folder: Path) -> None:
    assert "#2e7d32" in (folder / "B1.svg").read_text("utf-8")
    missed = (folder / "B7.svg").read_text("utf-8")
    assert "#c62828" in missed
    assert "≤ 1.1" in missed


def test_times_have_a_panel_of_their_own(folder: Path) -> None:
    drawing = (folder / "B1.svg").read_text("utf-8")
    assert "longest stall" in drawing
    assert "milliseconds (bar: value" in drawing
    assert "milliseconds" not in (folder / "B7.svg").read_text("utf-8")


def test_the_plot_of_a_work_that_has_no_result_any_more_is_removed(folder: Path) -> None:
    results = json.loads((folder / "latest.json").read_text("utf-8"))
    del results["B7"]
    (folder / "latest.json").write_text(json.dumps(results), "utf-8")
    page.write(folder)
    assert sorted(file.name for file in folder.glob("*.svg")) == ["B1.svg", "B11.svg"]


def test_how_long_it_took_is_said(tmp_path: Path) -> None:
    result = RESULTS[1].to_json()
    works = {"B1": {**result, "seconds": 90.4}, "B2": {**result, "seconds": 0, "measured_with": "B1"}}
    (tmp_path / "latest.json").write_text(json.dumps(works), "utf-8")
    page.write(tmp_path)
    text = (tmp_path / "README.md").read_text("utf-8")
    assert "Measuring took 1.5 minutes in all." in text
    assert "Took 90 s." in text
    assert "Measured in the rounds of B1." in text


def test_the_same_results_give_the_same_bytes(folder: Path) -> None:
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    page.write(folder)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
