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
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Work = Mapping[str, Any]

_COLOURS = {"met": "#2e7d32", "undecided": "#f9a825", "missed": "#c62828", None: "#78909c"}
_PANELS = {"×": "ratio", "ms": "milliseconds", "s": "seconds"}
_HEAD = """\
# Results of the benchmark

Written by `make bench`; [what the works are and how to read this](../../docs/benchmarks.md). A value is the median of
what was measured, mostly once per round; a ratio (×) is taken within one round. The value of a bound that must always
hold is the worst that was seen. The spread is the middle half of the values, from the first quartile to the third (of a
bound that must always hold, all of them): in the plots a box. The whiskers go from the lowest value to the highest. A/A
is the same thing done twice, which shows the machine's noise.
"""


def write(folder: Path) -> None:
    """Write the page and its plots beside ``latest.json`` in a folder."""
    works: dict[str, Work] = json.loads((folder / "latest.json").read_text("utf-8"))
    for plot in folder.glob("[BW]*.svg"):
        plot.unlink()
    for key, work in works.items():
        _plot(key, work, folder / f"{key}.svg")
    parts = [_HEAD, _time(works), _overview(works), _behind(works)]
    parts += [_section(key, work) for key, work in works.items()]
    (folder / "README.md").write_text("\n".join(parts), "utf-8")


def behind(figure: Mapping[str, Any]) -> str:
    """Return how far a ratio with a goal, or to a peer, is on the wrong side of 1, such as *5 % behind*; or nothing."""
    if figure["unit"] != "×" or figure["value"] is None or not (figure["goal"] or figure["peer"]):
        return ""
    off = (1 - figure["value"]) if figure["more_is_better"] else (figure["value"] - 1)
    return f"{off:.1%} behind".replace("%", " %") if off > 0 else ""


def _time(works: Mapping[str, Work]) -> str:
    return f"Measuring took {sum(work.get('seconds', 0) for work in works.values()) / 60:.1f} minutes in all.\n"


def _overview(works: Mapping[str, Work]) -> str:
    rows = []
    for key, work in works.items():
        noise = next((f for f in work["figures"] if f["name"].startswith("A/A")), None)
        rows.append(
            (
                f"[{key}](#{key.lower()})",
                work["title"],
                work["name"],
                _value(work),
                _spread(work),
                work["goal"] or "",
                _strong(work["met"]),
                _strong(work["all_met"]),
                f"{_value(noise)} {_spread(noise)}" if noise else "",
            )
        )
    head = ("", "work", "its first figure", "value", "spread", "goal", "verdict", "worst verdict of its goals", "A/A")
    return _table(head, rows)


def _behind(works: Mapping[str, Work]) -> str:
    lines = [
        f"- {key}, {figure['name']}: {_value(figure)} {_spread(figure)}{goal}: "
        + ", ".join(filter(None, (_strong(figure["met"]), behind(figure))))
        for key, work in works.items()
        for figure in work["figures"]
        for goal in [f", goal {figure['goal']}" if figure["goal"] else ""]
        if (goal and figure["met"] != "met") or behind(figure)
    ]
    return "\n".join(["## What misses its goal, or is behind what it is compared with\n", *(lines or ["Nothing."]), ""])


def _section(key: str, work: Work) -> str:
    figures = [
        (
            f["name"] + (" (worst seen)" if f["exact"] else ""),
            _value(f),
            _spread(f),
            f"{_number(f['lowest'])} … {_number(f['highest'])}",
            f["goal"] or "",
            ", ".join(filter(None, (_strong(f["met"]), behind(f)))),
        )
        for f in work["figures"]
    ]
    raw = [
        (name, f"{statistics.median(known):.4g}", ", ".join(_number(v, 4) for v in values))
        for name, values in work["raw"].items()
        if (known := [v for v in values if v is not None])
    ]
    return "\n".join(
        [
            f'<a id="{key.lower()}"></a>\n',
            f"## {key}: {work['title']}\n",
            f"![{key}]({key}.svg)\n",
            _table(("figure", "value", "spread", "lowest … highest", "goal", "verdict"), figures),
            *(f"- {note}" for note in work["notes"]),
            "",
            _table(("measured", "median", "each round"), raw),
            f"Setting: {'; '.join(_settings(work['setting']))}.\n",
            *_took(work),
        ]
    )


def _took(work: Work) -> Iterator[str]:
    if "measured_with" in work:
        yield f"Measured in the rounds of {work['measured_with']}.\n"
    elif "seconds" in work:
        yield f"Took {work['seconds']:.0f} s.\n"


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
    return f"{_number(figure['value'])} {figure['unit']}"


def _spread(figure: Mapping[str, Any]) -> str:
    low, high = figure["spread"]
    return f"{_number(low)} … {_number(high)}"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _strong(verdict: str | None) -> str:
    return f"**{verdict}**" if verdict in ("missed", "undecided") else verdict or ""


def _plot(key: str, work: Work, file: Path) -> None:
    """Draw a panel of ratios, and one of milliseconds or seconds where there are any."""
    panels = {unit: [f for f in work["figures"] if f["unit"] == unit and f["value"] is not None] for unit in _PANELS}
    panels = {unit: figures for unit, figures in panels.items() if figures} or {"×": []}
    heights = [0.9 + 0.45 * max(len(figures), 1) for figures in panels.values()]
    with mpl.rc_context({"svg.hashsalt": "schema_change", "svg.fonttype": "none", "font.size": 9}):
        drawing = Figure(figsize=(8, sum(heights)), layout="constrained")
        all_axes = drawing.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
        all_axes[0].set_title(f"{key}: {work['title']}", fontsize=10, loc="left")
        for axes, (unit, figures) in zip(all_axes, panels.items(), strict=True):
            _panel(axes, unit, figures)
        drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def _panel(axes: Axes, unit: str, figures: Sequence[Mapping[str, Any]]) -> None:
    """Draw bars with box and whiskers; a goal is a line across its bar, among ratios 1 is dotted."""
    wide = _is_wide(figures)
    # A logarithmic scale has no 0: there the bars of ratios start at 1, those of times left of all that is drawn.
    start = 0.0 if not wide else 1.0 if unit == "×" else min(_drawn(figures)) / 2
    for place, figure in enumerate(figures):
        low, high = figure["spread"]
        axes.barh(place, figure["value"] - start, 0.6, left=start, color=_COLOURS[figure["met"]], alpha=0.85)
        axes.hlines(place, figure["lowest"], figure["highest"], color="black", linewidth=1)
        axes.plot([figure["lowest"], figure["highest"]], [place, place], "|", color="black", markersize=7)
        axes.barh(place, high - low, 0.26, left=low, facecolor="white", edgecolor="black", linewidth=0.8, zorder=3)
        if figure["goal"]:
            axes.vlines(_bound(figure), place - 0.42, place + 0.42, color="black", linewidth=2, zorder=4)
            axes.annotate(figure["goal"], (_bound(figure), place - 0.42), ha="center", va="bottom", fontsize=7)
    if unit == "×":
        axes.axvline(1, color="grey", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(figures)), [textwrap.fill(f["name"], 44) for f in figures])
    axes.invert_yaxis()
    if wide:
        axes.set_xscale("log")
        axes.margins(x=0.08)
    axes.set_xlabel(f"{_PANELS[unit]} (bar: value; box: middle half; whiskers: lowest and highest)")
    axes.spines[["top", "right"]].set_visible(False)


def _bound(figure: Mapping[str, Any]) -> float:
    return float(figure["goal"].split()[1])


def _drawn(figures: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return what a panel shows of its figures and that a logarithmic scale has."""
    values = [f[name] for f in figures for name in ("lowest", "value", "highest")]
    return [v for v in [*values, *(_bound(f) for f in figures if f["goal"])] if v > 0]


def _is_wide(figures: Sequence[Mapping[str, Any]]) -> bool:
    drawn = _drawn(figures)
    return bool(drawn) and max(drawn) > 20 * min(drawn) and all(f["lowest"] >= 0 for f in figures)
