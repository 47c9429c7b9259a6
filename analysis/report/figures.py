"""Figures as SVG for a page. They take their colours from the page's style sheet: light, dark and in print.

matplotlib draws with stand-in colours, which become CSS variables: `--c0` to `--c6` for series, `--grid`, and the text
colour of the page. Series differ by marker too. A figure is narrow, so that it can be read on a telephone; a page puts
several side by side.
"""

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

Array = NDArray[np.float64]

WIDTH = 4.6  # inches
INK, GRID = "#fe00aa", "#fe00bb"
SERIES = tuple(f"#fe000{i}" for i in range(7))
MARKERS = "os^DvPX"
CSS = {INK: "currentColor", GRID: "var(--grid)"} | {c: f"var(--c{i})" for i, c in enumerate(SERIES)}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Points of one name, and a curve with its bounds if there is one: x, middle, low, high."""

    name: str
    x: Array
    y: Array
    curve: tuple[Array, Array, Array, Array] | None = None


def to_svg(figure: Figure, label: str) -> str:
    """The figure as part of a page; a screen reader reads `label`."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None}, bbox_inches="tight")
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    head = re.search(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', text)
    assert head
    text = f'<svg role="img" aria-label="{html.escape(label)}" viewBox="{head[1]}">{text[head.end() :]}'
    text = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1; font-family: inherit", text)
    for stand_in, colour in CSS.items():
        text = text.replace(stand_in, colour)
    return text


def make_figure(height: float) -> tuple[Figure, Axes]:
    """An empty figure with one plot, `height` in inches."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        return figure, figure.subplots()


def draw_dots(rows: pl.DataFrame, groups: str, series: str, label: str, axis: str) -> str:
    """One row per group, one dot with its interval per series. `rows`: also mean, low, high, as shares."""
    names, kinds = (rows[c].unique(maintain_order=True).to_list() for c in (groups, series))
    figure, ax = make_figure(0.9 + 0.13 * len(names) * (len(kinds) + 1))
    with mpl.rc_context(STYLE):
        for k, kind in enumerate(kinds):
            part = rows.filter(pl.col(series) == kind)
            y = np.array([names.index(n) for n in part[groups]]) + (k - (len(kinds) - 1) / 2) * 0.8 / len(kinds)
            mean, bars = to_points(part)
            look: dict[str, Any] = {"fmt": MARKERS[k % 7], "color": SERIES[k % 7], "markersize": 4, "elinewidth": 1.2}
            ax.errorbar(mean, y, xerr=bars, label=escape_formula(kind), **look)
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.set_yticks(range(len(names)), [escape_formula(name) for name in names])
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlabel(axis)
        ax.grid(visible=False, axis="y")
        add_legend(ax, len(kinds))
    return to_svg(figure, label)


def to_points(rows: pl.DataFrame) -> tuple[Array, Array]:
    """Means [n] in points, and the lengths of their intervals [2, n] down and up; 0 if there is no interval."""
    mean, low, high = (
        100 * rows[c].cast(pl.Float64).fill_null(rows["mean"]).to_numpy() for c in ("mean", "low", "high")
    )
    return mean, np.maximum(np.stack([mean - low, high - mean]), 0)


def draw_curves(series: Sequence[Series], label: str, x_axis: str, chance: float | None) -> str:
    """Accuracies over x, on a logarithmic axis, with the fitted curves."""
    figure, ax = make_figure(3.2)
    with mpl.rc_context(STYLE):
        for k, one in enumerate(series):
            colour, name = SERIES[k % 7], escape_formula(one.name)
            ax.plot(one.x, 100 * one.y, MARKERS[k % 7], color=colour, markersize=3.5, alpha=0.8, label=name)
            if one.curve:
                x, middle, low, high = one.curve
                ax.plot(x, 100 * middle, color=colour, linewidth=1.5)
                ax.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
        if chance is not None:
            ax.axhline(100 * chance, color=INK, linewidth=0.8, linestyle=":")
        ax.set_xscale("log")
        ax.set_xlim(*choose_limits(np.concatenate([one.x for one in series])))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(0, 100)
        ax.set_xlabel(x_axis)
        ax.set_ylabel("closed-book accuracy after training, %")
        add_legend(ax, len(series))
    return to_svg(figure, label)


def choose_limits(x: Array) -> tuple[float, float]:
    """Bounds of a logarithmic axis: at least a decade and a half, so that it contains a power of ten."""
    low, high = np.log10(x.min()) - 0.1, np.log10(x.max()) + 0.1
    missing = max(1.5 - (high - low), 0.0) / 2
    return float(10 ** (low - missing)), float(10 ** (high + missing))


def escape_formula(name: str) -> str:
    """A name that matplotlib does not read as a formula."""
    return name.replace("$", r"\$")


def add_legend(ax: Axes, n: int) -> None:
    """Adds a legend above the plot, in rows that fit."""
    if n > 1:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(n, 3), handletextpad=0.3, columnspacing=1.2)


def write_style(palette: Mapping[str, str]) -> str:
    """CSS declarations of colours by variable name."""
    return " ".join(f"--{name}: {colour};" for name, colour in palette.items())


# The colours of Okabe and Ito, which differ for readers with any colour vision; lighter on a dark ground.
LIGHT = dict(
    zip(
        (*(f"c{i}" for i in range(7)), "grid"),
        ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#333333", "#e3e3e3"),
        strict=True,
    )
)
DARK = LIGHT | {"c0": "#4fa8e0", "c1": "#f08a4b", "c2": "#2fc79b", "c4": "#e6b93d", "c6": "#cccccc", "grid": "#3a3f47"}
