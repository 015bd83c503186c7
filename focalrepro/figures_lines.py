"""Figures of a sweep: AP against one setting, a line for each loss."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from focalrepro.figures_style import BLUE, GREEN, GREY, LINES, ORANGE, PURPLE, RED, styled

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
MARKERS = "osD^"
APART = 0.03  # of a factor of e; so that intervals at the same setting lie beside each other


@styled
def sweep(frame: pd.DataFrame, x: str, label: str, title: str = "", ticks: bool = True) -> Figure:
    """AP with its 95 % interval against the column x, which must be positive, on a log axis.

    frame: of `results.table` for an ablation whose row labels begin with the line's name and a comma ("CE, …").
    A diverged run is a red cross at its AP of 0; settings without runs are left out, and are named below the axis
    by the ticks, which stand at every setting of the ablation; without `ticks`, for an x that is measured
    rather than set, they are the usual ones of a log axis.
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
            yerr=[(rows["AP"] - rows["low"]).clip(lower=0), (rows["high"] - rows["AP"]).clip(lower=0)],
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
        axes.text(0.5, 0.5, "no runs yet", transform=axes.transAxes, ha="center", va="center", color=GREY)
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
