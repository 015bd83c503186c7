"""Figures by class: AP against how often the class occurs in training, for two losses."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from scipy import stats

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
    _names(left, x, frame[["one", "other"]].max(axis=1), _named(frame["gain"]))
    _names(right, x, frame["gain"], _named(frame["gain"]))
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


PLACES = (
    ((5, 3), "left", "bottom"),
    ((5, -3), "left", "top"),
    ((-5, 3), "right", "bottom"),
    ((-5, -3), "right", "top"),
    ((0, 9), "center", "bottom"),
    ((0, -9), "center", "top"),
)  # of a name beside its mark: offset in points and alignment


def _names(axes: Axes, x: pd.Series, y: pd.Series, names: list[str]) -> None:
    """Writes each name in the first of PLACES where it covers no mark and no other name; the limits must stand."""
    axes.figure.draw_without_rendering()  # the layout, which the places of the texts depend on
    renderer = axes.figure.canvas.get_renderer()
    marks = axes.transData.transform(np.column_stack([x, y]))
    taken = [Bbox.from_extents(*(mark - 4), *(mark + 4)) for mark in marks]
    for name in names:
        for offset, across, up in PLACES:
            text = axes.annotate(
                name,
                (x[name], y[name]),
                offset,
                textcoords="offset points",
                fontsize=9,
                color=DARK,
                ha=across,
                va=up,
            )
            box = text.get_window_extent(renderer)
            if not any(box.overlaps(other) for other in taken) or offset == PLACES[-1][0]:
                taken.append(box)
                break
            text.remove()
