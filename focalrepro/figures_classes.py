"""Figures by class: AP against how often the class occurs in training, for two losses."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from focalrepro.figures_labels import label_points
from focalrepro.figures_style import BLUE, DARK, GREY, ORANGE, styled
from focalrepro.per_class import Trend

ALL_NAMED = 12  # classes; of more, only those of largest and smallest gain are named
EXTREMES = 4


@styled
def by_frequency(frame: pd.DataFrame, found: Trend, one: str, other: str) -> Figure:
    """AP of each class for both losses, and the gain of the other over the first, against the training objects.

    frame: of `per_class.compare`; found: its trend. Bars span the seeds, where there are several. The dashed line
    is Theil and Sen's: the median of the slopes between all pairs of classes, which outliers do not turn.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4.4), sharex=True)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("objects of the class in the training split")
    left.set(ylabel="AP of the class, %", title="AP by class")
    right.set(ylabel="difference in AP", title=f"{other} less {one}")
    if frame.empty:
        for axes in (left, right):
            axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", color=GREY)
        return figure
    x = frame["objects"].clip(lower=0.5)  # a class without training objects still has a place on the axis
    left.vlines(x, frame["one"], frame["other"], color=GREY, linewidth=1)
    left.plot(x, frame["one"], "o", color=BLUE, markerfacecolor="white", linestyle="none", label=one)
    left.plot(x, frame["other"], "s", color=ORANGE, markersize=5, linestyle="none", label=other)
    left.legend(loc="best")
    right.axhline(0, color=DARK, linewidth=0.9)
    if (frame["seeds"] > 1).any():
        right.vlines(x, frame["least"], frame["most"], color=ORANGE, linewidth=1.2, alpha=0.6)
    right.plot(x, frame["gain"], "s", color=ORANGE, markersize=5, linestyle="none")
    if not np.isnan(found.correlation):
        slope, intercept, *_ = stats.theilslopes(frame["gain"], np.log(x))
        ends = np.array([x.min(), x.max()])
        label = f"trend; Spearman {found.correlation:+.2f} ({found.low:+.2f} … {found.high:+.2f})"
        right.plot(ends, intercept + slope * np.log(ends), "--", color=DARK, linewidth=1.3, label=label)
        right.legend(loc="best")
    right.margins(x=0.12, y=0.15)
    _ticks(right, x)
    higher, named = frame[["one", "other"]].max(axis=1), _named(frame["gain"])
    for axes, y in ((left, higher), (right, frame["gain"])):
        names = [name if name in named else "" for name in frame.index]
        label_points(axes, x.to_numpy(), y.to_numpy(), names)
    return figure


def _ticks(axes: Axes, x: pd.Series) -> None:
    """Five round numbers over the range: a log axis of less than a decade would get none, or powers of ten."""
    between = np.geomspace(x.min(), x.max(), 5)
    digits = 10 ** np.floor(np.log10(between) - 1)
    axes.minorticks_off()
    axes.set_xticks(np.unique(np.round(between / digits) * digits))
    axes.xaxis.set_major_formatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}")


def _named(gain: pd.Series) -> list[str]:
    """The classes that get their name."""
    if len(gain) <= ALL_NAMED:
        return list(gain.index)
    order = gain.sort_values().index
    return [*order[:EXTREMES], *order[-EXTREMES:]]
