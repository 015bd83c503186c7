"""Figures of results: rows beside the paper's, planes, sweeps, speed, differences, training curves.

They draw what `evidence` computed, and compute nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullFormatter

from focalrepro.evidence.difference import Evidence, Records
from focalrepro.evidence.tables import table, ties
from focalrepro.show.style import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    LINES,
    ORANGE,
    PURPLE,
    RED,
    label_points,
    lines,
    panels,
    points,
    rows_of,
    styled,
)
from focalrepro.study.paper import TABLES

PAPER, OURS = "Paper (COCO minival)", "This reproduction"


@styled
def ablation(frame: pd.DataFrame, title: str) -> Figure:
    """AP of each row with its 95 % interval, and beside it the paper's AP on an axis of its own.

    frame: of `tables.table`. The best row of each side is filled, a diverged one is a cross, and a row
    without runs says so.
    """
    has_paper = bool(frame["paper_AP"].notna().any())
    sides = [{"xlabel": "AP, % (filled: the best)", "title": OURS if has_paper else title}]
    sides += [{"xlabel": "AP, %: mind the other scale", "title": PAPER}] if has_paper else []
    size = (8.6 if has_paper else 6.0, 1.5 + 0.36 * len(frame))
    figure, (ours, *theirs) = panels(*sides, size=size, sharey=True)
    y = rows_of(ours, list(frame["row"]))
    diverged = frame["diverged"] > 0
    _filled(ours, frame["AP"].where(~diverged), y, BLUE, frame["low"], frame["high"])
    if diverged.any():
        points(ours, frame["AP"].where(diverged), y, fmt="X", color=RED, label="diverged")
        ours.legend(loc="best")
    for at in y[frame["AP"].isna()]:
        place = {"transform": ours.get_yaxis_transform(), "ha": "center", "va": "center"}
        ours.text(0.5, at, "not run", color=GREY, **place)
    for axes in theirs:
        _filled(axes, frame["paper_AP"], y, ORANGE)
        figure.suptitle(title, fontsize=12)
    return figure


def _filled(
    axes: Axes, values: pd.Series, y: np.ndarray, colour: str, low: Any = None, high: Any = None
) -> None:
    """Rings with the value above them; the best one is filled."""
    points(axes, values, y, low, high, color=colour, markerfacecolor="white")
    points(axes, values.where(values == values.max()), y, color=colour)
    for value, at in zip(values, y, strict=True):
        if not np.isnan(value):
            axes.annotate(
                f"{value:.1f}", (value, at), (0, 6), textcoords="offset points", ha="center", fontsize=9
            )
    axes.margins(x=0.1)


@styled
def forest(gaps: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """Differences between rows with their 95 % intervals, a panel for each source on an axis of its own.

    gaps: by the panel's name, frames of the same index (what is less what) with effect, low, high; low and
    high are NaN for the paper's. Filled where the interval leaves out 0.
    """
    names = list(next(iter(gaps.values())).index)
    sides = [{"title": name, "xlabel": "AP, difference"} for name in gaps]
    size = (4.2 + 2.6 * len(gaps), 1.4 + 0.4 * len(names))
    figure, row = panels(*sides, size=size, sharey=True)
    y = rows_of(row[0], names)
    for axes, frame, colour in zip(row, gaps.values(), (DARK, BLUE, ORANGE, GREEN), strict=False):
        axes.axvline(0, color=GREY, linewidth=1)
        known = frame["low"].notna()
        clear = ~known | (frame["low"] > 0) | (frame["high"] < 0)
        low, high = frame["low"].fillna(frame["effect"]), frame["high"].fillna(frame["effect"])
        points(axes, frame["effect"], y, low, high, color=colour, markerfacecolor="white")
        points(axes, frame["effect"].where(clear), y, color=colour)
        for value, top, at in zip(frame["effect"], high, y, strict=True):
            if not np.isnan(value):
                text = f"{value:+.1f}".replace("-", "−")
                place = {"textcoords": "offset points", "va": "center", "fontsize": 9}
                axes.annotate(text, (top, at), (7, 0), **place)
        axes.margins(x=0.22)
    figure.suptitle(title, fontsize=12)
    return figure


GREEK = {"alpha": "α", "beta": "β", "gamma": "γ"}
MARK = 0.2  # of a cell's height below its top, clear of the text


def plane(
    axes: Axes,
    values: pd.DataFrame,
    texts: np.ndarray,
    label: str,
    theirs: Sequence[tuple[float, float]] = (),
    best: pd.DataFrame | None = None,
) -> None:
    """A plane of two settings as a heat map, with a text in each cell; axes.set has its names.

    theirs: (column, row) of the paper's choice, drawn as rings. best: bool, of cells with a dot: the best of
    each column, and those that are not clearly worse.
    """
    known = values.to_numpy()[~values.isna().to_numpy()]
    bottom, top = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    names = (axes.get_xlabel(), axes.get_ylabel())
    limits = {"vmin": bottom, "vmax": max(top, bottom + 1e-3)}
    sns.heatmap(values, cmap="viridis", ax=axes, linewidths=0.5, cbar_kws={"label": label}, **limits)
    axes.grid(visible=False)
    axes.set_facecolor("#ececec")
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        dark = value < bottom + 0.65 * (top - bottom)  # NaN is not
        look = {"ha": "center", "va": "center", "fontsize": 9, "color": "white" if dark else DARK}
        axes.text(column + 0.5, row + 0.62, str(texts[row, column]), zorder=4, **look)
    columns, rows = list(values.columns), list(values.index)
    marked = [(x, y) for x in columns for y in rows if best is not None and bool(best.loc[y, x])]
    theirs = [(x, y) for x, y in theirs if x in columns and y in rows]
    ring = {"markersize": 10, "markerfacecolor": "none", "markeredgewidth": 1.8, "color": "white"}
    ring["path_effects"] = [withStroke(linewidth=3.6, foreground=DARK)]
    dot = {"markersize": 6, "color": RED, "markeredgecolor": "white", "markeredgewidth": 0.8}
    for at, look, text in (
        (marked, dot, f"best {names[1]} for each {names[0]}, or not clearly worse"),
        (theirs, ring, "the paper's"),
    ):
        if at:
            where = np.array([(columns.index(x) + 0.5, rows.index(y) + MARK) for x, y in at])
            axes.plot(*where.T, "o", linestyle="none", label=text, **look)
    axes.set_xticklabels([f"{v:g}" for v in columns])
    axes.set_yticklabels([f"{v:g}" for v in rows], rotation=0)
    axes.set(xlabel=names[0], ylabel=names[1])


@styled
def heatmaps(
    frame: pd.DataFrame, x: str, y: str, best: pd.DataFrame, theirs: Sequence = (), title: str = ""
) -> Figure:
    """AP over the plane of two settings; where AP at .05 is another number, it stands beside AP.

    frame: of `tables.table` for the ablation "grid" or "plane"; best: of `tables.ties`. A diverged cell says
    so, one without runs is "–".
    """
    both = bool(frame["agnostic_AP"].notna().any())  # as from version 3 on
    columns = (
        {"AP": "without a threshold", "AP_at_05": "at the paper's threshold, .05"} if both else {"AP": ""}
    )
    names = {"xlabel": GREEK[x], "ylabel": GREEK[y]}
    grids = {column: frame.pivot(index=y, columns=x, values=column) for column in columns}
    shape = grids["AP"].shape
    size = ((2.4 + 0.75 * shape[1]) * len(columns), 1.8 + 0.52 * shape[0])
    figure, row = panels(*({"title": text, **names} for text in columns.values()), size=size)
    diverged = frame.pivot(index=y, columns=x, values="diverged") > 0
    for axes, (column, values) in zip(row, grids.items(), strict=True):
        texts = values.map(lambda v: "–" if np.isnan(v) else f"{v:.1f}").where(~diverged, "div.")
        plane(axes, values, texts.to_numpy(), "AP, %", theirs, best if column == "AP" else None)
    handles, labels = row[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    figure.suptitle(title, fontsize=12)
    return figure


@styled
def training_curves(runs: Mapping[str, Records], title: str = "") -> Figure:
    """Classification and box loss against the step, one line per label: its first seed.

    runs: records by label, as `Evidence.rows` gives them; labels without records are left out. The
    classification losses of two labels are different functions, so compare their courses, not their heights.
    """
    left = {"title": "Classification loss", "xlabel": "step", "ylabel": "loss per positive anchor"}
    figure, row = panels(
        left, {"title": "Box loss (smooth L1)", "xlabel": "step"}, size=(9.2, 3.8), sharex=True
    )
    shown = {
        k + " (diverged)" * records[0].diverged: records[0].history for k, records in runs.items() if records
    }
    for axes, name in zip(row, ("class_loss", "box_loss"), strict=True):
        short = max((len(h["step"]) for h in shown.values()), default=0) < 10
        look = {"marker": "o", "markersize": 4} if short else {}
        lines(axes, {label: (h["step"], h[name]) for label, h in shown.items()}, **look)
    row[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(shown) > 1:  # losses of different size; a single curve reads better on a linear axis
        row[0].set_yscale("log")
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside right upper")
    figure.suptitle(title, fontsize=12)
    return figure


COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
MARKERS = "os^v"
APART = 0.03  # of a factor of e; so that intervals at the same setting lie beside each other


def _against(
    axes: Axes, frame: pd.DataFrame, x: str, by: Sequence[str], apart: float = 0.0, ticks: Sequence = ()
) -> dict[str, str]:
    """AP with its interval against the column x on a log axis, a line for each name in `by`; their colours.

    Ticks stand at every value of x, unless they are given.
    """
    names = pd.Series(list(by), index=frame.index)
    colours = {name: COLOURS[i % 4] for i, name in enumerate(names.unique())}
    known = frame[frame["AP"].notna() & frame[x].notna()]
    for i, (name, colour) in enumerate(colours.items()):
        rows = known[names[known.index] == name].sort_values(x)
        bars = [(rows["AP"] - rows["low"]).clip(lower=0), (rows["high"] - rows["AP"]).clip(lower=0)]
        at = rows[x].to_numpy(float) * np.exp(apart * (2 * i - len(colours) + 1))
        look = {"marker": MARKERS[i % 4], "linestyle": LINES[i % 4], "color": colour}
        axes.errorbar(at, rows["AP"], yerr=bars, markersize=6, capsize=3, elinewidth=1.2, label=name, **look)
        lost = (rows["diverged"] > 0).to_numpy()
        axes.plot(at[lost], rows["AP"][lost], "X", color=RED, markersize=11, linestyle="none", zorder=5)
    if (known["diverged"] > 0).any():
        axes.plot([], [], "X", color=RED, markersize=10, linestyle="none", label="diverged")
    axes.set_xscale("log")
    settings = ticks if len(ticks) else np.unique(frame[x].dropna().to_numpy(float))
    axes.set_xticks(settings, [f"{v:,.0f}" if v >= 10 else f"{v:g}" for v in settings])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    if colours:
        axes.legend(loc="best")
    return colours


@styled
def sweep(frame: pd.DataFrame, x: str, label: str, title: str = "") -> Figure:
    """AP with its 95 % interval against the column x, which must be positive, on a log axis.

    frame: of `tables.table` for an ablation whose row labels begin with the line's name and a comma ("CE,
    …"). A diverged run is a red cross at its AP of 0. Ticks stand at every setting of the ablation.
    """
    figure, (axes,) = panels({"xlabel": label, "ylabel": "AP, %", "title": title}, size=(6.4, 4.0))
    _against(axes, frame, x, frame["row"].str.split(",").str[0], APART)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    return figure


@styled
def speed_accuracy(frame: pd.DataFrame, title: str = "") -> Figure:
    """AP with its 95 % interval against milliseconds an image, a line per detector; beside it Table 1e.

    frame: of `tables.table` for the ablation "1e". A point's text is the size of its images, the shorter side
    in the paper. Rows that have no time are counted below the axis. Equal steps are equal factors; the panels
    share no axis: data, resolution and machine differ.
    """
    missing = int((frame["AP"].isna() | frame["inference_ms"].isna()).sum())
    note = f"\n(without a time: {missing} of {len(frame)} rows)" if missing else ""
    figure, (ours, theirs) = panels(
        {"xlabel": f"ms an image{note}", "ylabel": "AP, %", "title": OURS},
        {"xlabel": "ms an image (Nvidia M40)", "ylabel": "AP, %", "title": "Paper (Table 1e, COCO test-dev)"},
        size=(9.6, 4.4),
    )
    paper = pd.DataFrame([{"row": r.label, "AP": r.AP, "ms": r.ms, **r.fields} for r in TABLES["1e"]])
    paper = paper.assign(low=paper["AP"], high=paper["AP"], diverged=0)
    one_stage = (frame["detector"] == "retinanet").map({True: "RetinaNet, ", False: "two stages, "})
    known = frame.dropna(subset=["AP", "inference_ms"])
    for axes, rows, x, by, size, text in (
        (ours, known, "inference_ms", (one_stage + frame["backbone"])[known.index], "image_size", "{:.0f}²"),
        (theirs, paper, "ms", "RetinaNet, ResNet-" + paper["depth"].astype(str), "scale", "{:.0f}"),
    ):
        ticks = np.geomspace(rows[x].min(), rows[x].max(), 5).round(1) if len(rows) else []
        colours = _against(axes, rows, x, by, ticks=ticks)
        axes.margins(x=0.14, y=0.12)
        names, at = list(rows[size].map(text.format)), rows[[x, "AP"]].to_numpy(float).T
        label_points(axes, *at, names, [colours[name] for name in by])
    figure.suptitle(title, fontsize=12)
    return figure


@styled
def reach(frame: pd.DataFrame) -> Figure:
    """The share of the objects that each set of anchors reaches; frame: of
    `anchor_statistics.reach_of_rows`."""
    setting = {"xlabel": "training objects with such an anchor, %", "title": "Objects reached"}
    figure, (axes,) = panels(setting, size=(7.6, 3.6))
    y = rows_of(axes, list(frame["row"]))
    axes.hlines(y, frame["reach_50"], frame["reach_40"], color=GREY, linewidth=1.4)
    for column, iou, face in (("reach_50", ".5", BLUE), ("reach_40", ".4", "white")):
        points(axes, frame[column], y, markerfacecolor=face, label=f"IoU ≥ {iou}")
    axes.legend(loc="best")
    return figure


PLANES = {"grid": ("gamma", "alpha"), "plane": ("gamma", "beta")}
SWEEPS = {
    "prior": ("prior", "π, the initial foreground probability (0.5: no prior)"),
    "data": ("images", "training images"),
    "budget": ("steps", "training steps, each schedule planned to its own end"),
}


def figure_of(e: Evidence, name: str, title: str = "") -> Figure:
    """The figure of an ablation: planes as heat maps, sweeps as lines, speed as points, else rows with
    intervals."""
    frame = table(e, name)
    if name in PLANES:
        theirs = [(r.fields["gamma"], r.fields["alpha"]) for r in TABLES["1b"]] if name == "grid" else []
        return heatmaps(frame, *PLANES[name], ties(e, name, *PLANES[name]), theirs, title)
    if name == "1e":
        return speed_accuracy(frame, title)
    return sweep(frame, *SWEEPS[name], title) if name in SWEEPS else ablation(frame, title)
