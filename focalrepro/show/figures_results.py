"""Figures of results: ablations beside the paper's numbers, the plane of two settings, training curves.

They draw what `evidence.tables` computed, and compute nothing. The other figures are in `figures_loss`
(the loss alone) and `figures_scenes` (images, anchors, detections).
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from focalrepro.evidence.difference import Evidence, Records
from focalrepro.evidence.tables import best_shares, table
from focalrepro.evidence.tables import time_to_ap as times
from focalrepro.show.figures_speed import speed_accuracy
from focalrepro.show.style import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    LINES,
    ORANGE,
    PURPLE,
    RED,
    errors,
    nothing,
    shades,
    styled,
)
from focalrepro.study.paper import TABLES
from focalrepro.study.study import Study


@styled
def ablation(frame: pd.DataFrame, title: str) -> Figure:
    """AP of each row with its 95 % interval, and beside it the paper's AP on an axis of its own.

    frame: of `tables.table`. The best row of each side is filled, a diverged one is a cross, and a row
    without runs says so.
    """
    has_paper = bool(frame["paper_AP"].notna().any())
    height = 1.5 + 0.36 * len(frame)
    figure, panels = plt.subplots(
        1, 2 if has_paper else 1, figsize=(8.6 if has_paper else 6.0, height), sharey=True, squeeze=False
    )
    y = np.arange(len(frame))
    ours = panels[0, 0]
    _ours(ours, frame, y)
    ours.set_yticks(y, frame["row"])
    ours.set_ylim(len(frame) - 0.4, -0.6)
    ours.set(xlabel="AP, % (filled: the best)", title="This reproduction" if has_paper else title)
    _room(ours, frame[["AP", "low", "high"]])
    if has_paper:
        theirs = panels[0, 1]
        _dots(theirs, frame["paper_AP"], y, ORANGE)
        theirs.set(xlabel="AP, %: mind the other scale", title="Paper (COCO minival)")
        _room(theirs, frame[["paper_AP"]])
        figure.suptitle(title, fontsize=12)
    return figure


def _ours(axes: Axes, frame: pd.DataFrame, y: np.ndarray) -> None:
    axes.errorbar(frame["AP"], y, xerr=errors(frame), fmt="none", ecolor=BLUE, elinewidth=1.4, capsize=3)
    diverged = (frame["diverged"] > 0).to_numpy()
    _dots(axes, frame["AP"].where(~diverged), y, BLUE)
    axes.plot(
        frame["AP"][diverged], y[diverged], "X", color=RED, markersize=8, linestyle="none", label="diverged"
    )
    for at in y[frame["AP"].isna()]:
        axes.text(
            0.5, at, "not run", transform=axes.get_yaxis_transform(), ha="center", va="center", color=GREY
        )
    if diverged.any():
        axes.legend(loc="best")


def _dots(axes: Axes, values: pd.Series, y: np.ndarray, colour: str) -> None:
    """Rings with the value beside them; the best one is filled."""
    best = (values == values.max()).to_numpy()
    for chosen, face in ((~best, "white"), (best, colour)):
        axes.plot(
            values[chosen], y[chosen], "o", color=colour, markerfacecolor=face, markersize=7, linestyle="none"
        )
    for value, at in zip(values, y, strict=True):
        if not np.isnan(value):
            axes.annotate(
                f"{value:.1f}", (value, at), (0, 6), textcoords="offset points", ha="center", fontsize=9
            )
    axes.grid(axis="y", visible=False)


def _room(axes: Axes, values: pd.DataFrame) -> None:
    """Limits that leave space beside the outermost values; AP starts at 0 where a row is near it."""
    low, high = np.nanmin(values.to_numpy(), initial=np.inf), np.nanmax(values.to_numpy(), initial=-np.inf)
    if not np.isfinite([low, high]).all():
        axes.set(xlim=(0, 1), xticks=[])
        return
    space = max(0.08 * (high - low), 0.15)
    axes.set_xlim(low - space, high + space)


@styled
def heatmap(
    frame: pd.DataFrame,
    x: str = "gamma",
    y: str = "alpha",
    shares: pd.DataFrame | None = None,
    theirs: Sequence[tuple[float, float]] = (),
) -> Figure:
    """AP over the plane of two settings, with the ridge: the best y for each x, as dots on a line.

    frame: of `tables.table` for the ablation "grid" or "plane". The best cell is outlined, a diverged one
    says so, one without runs is "–". shares: of `tables.best_shares`; then each cell says below its AP in how
    many resamples it is its column's best. theirs: (x, y) of the paper's choice, drawn as rings. A column in
    which nothing is detected has no dot.
    """
    ap = frame.pivot(index=y, columns=x, values="AP")
    diverged = frame.pivot(index=y, columns=x, values="diverged").reindex_like(ap) > 0
    texts = ap.map(lambda v: "–" if np.isnan(v) else f"{v:.1f}").where(~diverged, "div.")
    if shares is not None:
        below = shares.reindex_like(ap).map(lambda v: "" if np.isnan(v) else f"\n{v:.0%}")
        texts = texts + below
    cell = 0.52 if shares is None else 0.68  # inches
    figure, axes = plt.subplots(figsize=(2.4 + 0.75 * ap.shape[1], 1.6 + cell * ap.shape[0]))
    known = frame["AP"].dropna()
    bottom, top = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    sns.heatmap(
        ap,
        cmap="viridis",
        ax=axes,
        linewidths=0.5,
        cbar_kws={"label": "AP, %"},
        vmin=bottom,
        vmax=max(top, 1e-3),
    )
    axes.grid(visible=False)
    axes.set_facecolor("#ececec")
    for (row, column), value in np.ndenumerate(ap.to_numpy()):
        dark = not np.isnan(value) and value < bottom + 0.65 * (top - bottom)
        text = str(texts.iat[row, column])
        axes.text(
            column + 0.5,
            row + 0.62,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color="white" if dark else DARK,
            zorder=4,
        )
        if value == top:
            axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=RED, linewidth=2.5))
    _ridge(axes, ap, theirs)
    axes.set_xticklabels([f"{v:g}" for v in ap.columns])
    axes.set_yticklabels([f"{v:g}" for v in ap.index], rotation=0)
    axes.set(xlabel=GREEK[x], ylabel=GREEK[y], title=f"AP over {GREEK[x]} and {GREEK[y]}")
    return figure


GREEK = {"alpha": "α", "beta": "β", "gamma": "γ"}
RIDGE = 0.2  # of a cell's height below its top, clear of the text


def _ridge(axes: Axes, ap: pd.DataFrame, theirs: Sequence[tuple[float, float]]) -> None:
    """Dots and a line at the best row of each column; rings at the paper's (x, y)."""
    best = [(i, int(np.nanargmax(c))) for i, c in enumerate(ap.to_numpy().T) if np.nanmax(c, initial=0) > 0]
    handles = []
    if best:
        at = np.array(best) + [0.5, RIDGE]
        handles += axes.plot(
            *at.T, "-o", color=RED, linewidth=1.6, markersize=6, markeredgecolor="white", markeredgewidth=0.8,
            label=f"best {GREEK[ap.index.name]} for each {GREEK[ap.columns.name]}",
        )  # fmt: skip
    columns, rows = list(ap.columns), list(ap.index)
    rings = [(columns.index(a) + 0.5, rows.index(b) + RIDGE) for a, b in theirs if a in columns and b in rows]
    if rings:
        handles += axes.plot(
            *np.array(rings).T, "o", color="white", markerfacecolor="none", markersize=10,
            markeredgewidth=1.8, linestyle="none", label="the paper's",
            path_effects=[withStroke(linewidth=3.6, foreground=DARK)],
        )  # fmt: skip
    if handles:
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=2)


@styled
def training_curves(runs: Mapping[str, Records], title: str = "") -> Figure:
    """Classification and box loss against the step, one line per label: its first seed.

    runs: records by label, as `Evidence.rows` gives them; labels without records are left out. The
    classification losses of two labels are different functions, so compare their courses, not their heights.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.8), sharex=True)
    shown = {label: found[0] for label, found in runs.items() if found}
    for i, ((label, record), colour) in enumerate(zip(shown.items(), shades(len(shown)), strict=False)):
        history = record.history
        text = label + (" (diverged)" if record.diverged else "")
        line = {"color": colour, "linestyle": LINES[i % len(LINES)], "label": text}
        marker = "o" if len(history["step"]) < 10 else None
        for axes, name in zip(panels, ("class_loss", "box_loss"), strict=True):
            axes.plot(history["step"], history[name], marker=marker, markersize=4, **line)
    panels[0].set(title="Classification loss", xlabel="step", ylabel="loss per positive anchor")
    if len(shown) > 1:  # losses of different size; a single curve reads better on a linear axis
        panels[0].set_yscale("log")
    panels[1].set(title="Box loss (smooth L1)", xlabel="step")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(shown) > 1:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    for axes in panels if not shown else ():
        nothing(axes)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
MARKERS = "osD^"
APART = 0.03  # of a factor of e; so that intervals at the same setting lie beside each other


@styled
def sweep(frame: pd.DataFrame, x: str, label: str, title: str = "", ticks: bool = True) -> Figure:
    """AP with its 95 % interval against the column x, which must be positive, on a log axis.

    frame: of `tables.table` for an ablation whose row labels begin with the line's name and a comma ("CE,
    …"). A diverged run is a red cross at its AP of 0; settings without runs are left out, and are named below
    the axis by the ticks, which stand at every setting of the ablation; without `ticks`, for an x that is
    measured rather than set, they are the usual ones of a log axis.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    names = frame["row"].str.split(",").str[0]
    diverged = frame["diverged"] > 0
    for i, name in enumerate(names.unique()):
        rows = frame[(names == name) & frame["AP"].notna() & frame[x].notna()].sort_values(x)
        at = rows[x].to_numpy(float) * np.exp(APART * (2 * i - names.nunique() + 1))
        axes.errorbar(
            at,
            rows["AP"],
            yerr=errors(rows),
            color=COLOURS[i % len(COLOURS)],
            linestyle=LINES[i % len(LINES)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=6,
            capsize=3,
            elinewidth=1.2,
            label=name,
        )
        crossed = diverged.loc[rows.index].to_numpy()
        axes.plot(at[crossed], rows["AP"][crossed], "X", color=RED, markersize=11, linestyle="none", zorder=5)
    if diverged.any():
        axes.plot([], [], "X", color=RED, markersize=10, linestyle="none", label="diverged")
    if ticks:
        _axis(axes, frame[x].dropna().to_numpy(float))
    else:
        axes.set_xscale("log")
    axes.set(xlabel=label, ylabel="AP, %", title=title)
    if frame["AP"].isna().all():
        nothing(axes)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.legend(loc="best")
    return figure


def _axis(axes: Axes, values: np.ndarray) -> None:
    """A log axis whose ticks are the settings themselves."""
    axes.set_xscale("log")
    axes.minorticks_off()
    settings = np.unique(values)
    if len(settings):
        axes.set_xticks(settings, [f"{v:,.0f}" if v >= 10 else f"{v:g}" for v in settings])
        axes.set_xlim(settings[0] / 1.4, settings[-1] * 1.4)


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
        x, y = PLANES[name]
        theirs = [(r.fields["gamma"], r.fields["alpha"]) for r in TABLES["1b"]] if name == "grid" else []
        return heatmap(frame, x, y, best_shares(e, name, x, y), theirs)
    if name == "1e":
        return speed_accuracy(frame, title)
    return sweep(frame, *SWEEPS[name], title) if name in SWEEPS else ablation(frame, title)


def time_to_ap(study: Study) -> Figure:
    """AP against the seconds of a training that was planned for so long; a line for each recipe and loss."""
    frame = times(study)
    return sweep(frame, "seconds", "seconds of training, start-up excluded", "AP against time", ticks=False)
