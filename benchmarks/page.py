"""Write the page of the results: ``results/README.md`` from ``latest.json``, with a plot of each work beside it.

The same results give the same bytes: nothing in the files says when or where they were made.
"""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

Work = Mapping[str, Any]

_COLOURS = {"met": "#2e7d32", "undecided": "#f9a825", "missed": "#c62828", None: "#78909c"}
_HEAD = """\
# Results of the benchmark

Written by `make bench`; [what the works are and how to read this](../../docs/benchmarks.md). Every value is a median of
ratios taken within one round, its spread the middle half of the rounds, beside an A/A run: the same thing done twice,
which shows the machine's noise.
"""


def write(folder: Path) -> None:
    """Write the page and its plots beside ``latest.json`` in a folder."""
    works: dict[str, Work] = json.loads((folder / "latest.json").read_text("utf-8"))
    for key, work in works.items():
        _plot(key, work, folder / f"{key}.svg")
    parts = [_HEAD, _overview(works), _behind(works), *(_section(key, work) for key, work in works.items())]
    (folder / "README.md").write_text("\n".join(parts), "utf-8")


def behind(figure: Mapping[str, Any]) -> str:
    """Return how far a ratio with a goal is on the wrong side of 1, such as *5 % behind*; empty when it is not."""
    if figure["goal"] is None or figure["unit"] != "×":
        return ""
    off = (1 - figure["value"]) if _at_least(figure) else (figure["value"] - 1)
    return f"{off:.1%} behind".replace("%", " %") if off > 0 else ""


def _at_least(figure: Mapping[str, Any]) -> bool:
    return str(figure["goal"]).startswith("≥")


def _overview(works: Mapping[str, Work]) -> str:
    rows = []
    for key, work in works.items():
        first, noise = work["figures"][0], next((f for f in work["figures"] if f["name"].startswith("A/A")), None)
        rows.append(
            (
                f"[{key}](#{key.lower()})",
                work["title"],
                first["name"],
                _value(first),
                _spread(first),
                first["goal"] or "",
                _strong(work["met"]),
                f"{_value(noise)} {_spread(noise)}" if noise else "",
            )
        )
    return _table(("", "work", "its value", "median", "spread", "goal", "verdict of all its goals", "A/A"), rows)


def _behind(works: Mapping[str, Work]) -> str:
    lines = [
        f"- {key}, {figure['name']}: {_value(figure)} {_spread(figure)}, goal {figure['goal']}: "
        + ", ".join(filter(None, (_strong(figure["met"]), behind(figure))))
        for key, work in works.items()
        for figure in work["figures"]
        if figure["goal"] and (figure["met"] != "met" or behind(figure))
    ]
    return "\n".join(["## What misses its goal, or is behind what it is compared with\n", *(lines or ["Nothing."]), ""])


def _section(key: str, work: Work) -> str:
    figures = [
        (f["name"], _value(f), _spread(f), f["goal"] or "", ", ".join(filter(None, (_strong(f["met"]), behind(f)))))
        for f in work["figures"]
    ]
    raw = [
        (name, f"{statistics.median(values):.4g}", ", ".join(f"{v:.4g}" for v in values))
        for name, values in work["raw"].items()
        if values
    ]
    return "\n".join(
        [
            f'<a id="{key.lower()}"></a>\n',
            f"## {key}: {work['title']}\n",
            f"![{key}]({key}.svg)\n",
            _table(("figure", "median", "spread", "goal", "verdict"), figures),
            *(f"- {note}" for note in work["notes"]),
            "",
            _table(("measured", "median", "each round"), raw),
            f"Setting: {'; '.join(_settings(work['setting']))}.\n",
        ]
    )


def _settings(setting: Mapping[str, Any]) -> Iterator[str]:
    for name, value in setting.items():
        if isinstance(value, Mapping):
            yield f"{name}: {', '.join(_settings(value))}"
        else:
            yield f"{name} {value}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def _value(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.3g} {figure['unit']}"


def _spread(figure: Mapping[str, Any]) -> str:
    low, high = figure["spread"]
    return f"{low:.3g} … {high:.3g}"


def _strong(verdict: str | None) -> str:
    return f"**{verdict}**" if verdict in ("missed", "undecided") else verdict or ""


def _plot(key: str, work: Work, file: Path) -> None:
    """Draw the ratios as bars with their spread; a goal is a line across its bar, 1 is dotted."""
    figures = [f for f in work["figures"] if f["unit"] == "×"]
    # Where ratios differ by orders of magnitude the bars start at 1: a logarithmic scale has no 0.
    start = 1 if _is_wide(figures) else 0
    with mpl.rc_context({"svg.hashsalt": "schema_change", "svg.fonttype": "none", "font.size": 9}):
        drawing = Figure(figsize=(8, 0.9 + 0.45 * max(len(figures), 1)), layout="constrained")
        axes = drawing.subplots()
        axes.set_title(f"{key}: {work['title']}", fontsize=10, loc="left")
        for place, figure in enumerate(figures):
            value, (low, high) = figure["value"], figure["spread"]
            axes.barh(place, value - start, 0.6, left=start, color=_COLOURS[figure["met"]], alpha=0.85)
            axes.errorbar(value, place, xerr=[[max(value - low, 0)], [max(high - value, 0)]], color="black", capsize=3)
            if figure["goal"]:
                axes.vlines(_bound(figure), place - 0.42, place + 0.42, color="black", linewidth=2)
                axes.annotate(figure["goal"], (_bound(figure), place - 0.42), ha="center", va="bottom", fontsize=7)
        axes.axvline(1, color="grey", linestyle=":", linewidth=1)
        axes.set_yticks(range(len(figures)), [textwrap.fill(f["name"], 44) for f in figures])
        axes.invert_yaxis()
        if start:
            axes.set_xscale("log")
            axes.margins(x=0.08)
        axes.set_xlabel("ratio, median and middle half of the rounds (×)")
        axes.spines[["top", "right"]].set_visible(False)
        drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def _bound(figure: Mapping[str, Any]) -> float:
    return float(figure["goal"].split()[1])


def _is_wide(figures: Sequence[Mapping[str, Any]]) -> bool:
    values = [f["value"] for f in figures if f["value"] > 0] + [_bound(f) for f in figures if f["goal"]]
    return bool(values) and max(values) > 20 * min(values)
