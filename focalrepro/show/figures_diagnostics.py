"""Figures of what runs keep besides AP: where their loss lies (Figure 4), how far to trust their scores, each
class."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from focalrepro.evaluation.record import Record
from focalrepro.evidence.difference import Records
from focalrepro.evidence.per_class import Trend
from focalrepro.evidence.statistics import calibration_error, reliability_bins
from focalrepro.evidence.tables import mean
from focalrepro.show.style import BLUE, DARK, GREY, LINES, ORANGE, label_points, nothing, shades, styled


@styled
def loss_distribution(record: Record) -> Figure:
    """The paper's Figure 4 from one run: share of the loss carried by the easiest share of the windows, per
    γ."""
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.9), sharey=True)
    kept = record.loss_distribution
    for axes, kind in zip(panels, ("foreground", "background"), strict=True):
        curves = {k: v for k, v in kept[kind].items() if k != "windows"}
        for i, ((gamma, values), colour) in enumerate(zip(curves.items(), shades(len(curves)), strict=True)):
            axes.plot(
                kept["shares"], values, color=colour, linestyle=LINES[i % len(LINES)], label=f"γ = {gamma}"
            )
        axes.set(xlabel=f"share of the {kind} windows, easiest first", xlim=(0, 1), ylim=(0, 1))
        axes.set_title(f"{kind}: {kept[kind]['windows']:,} windows of {kept['images']} images")
    panels[0].set_ylabel("cumulative share of the loss")
    panels[0].legend(loc="upper left")
    return figure


@styled
def reliability(rows: Mapping[str, Records]) -> Figure:
    """Share of detections that are right (IoU .5) against their score, for the first seed of each row.

    The error in the legend is the mean over the row's seeds.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.9))
    shown = {label: bins for label, r in rows.items() if r and len(bins := reliability_bins(r[0]))}
    left.plot([0, 1], [0, 1], color=DARK, linewidth=1, linestyle=":", label="perfect")
    for i, ((label, bins), colour) in enumerate(zip(shown.items(), shades(len(shown)), strict=False)):
        style = {"color": colour, "linestyle": LINES[i % len(LINES)], "marker": "o", "markersize": 4}
        filled = bins[bins["count"] >= 20]  # a share of fewer detections is noise
        error = mean(calibration_error(r) for r in rows[label])
        left.plot(filled["score"], filled["right"], label=f"{label} (error {error:.3f})", **style)
        right.plot(bins["score"], bins["count"], label=label, **style)
    left.set(xlabel="score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    left.set_title("Reliability of the scores")
    left.legend(loc="upper left", bbox_to_anchor=(0, -0.16))
    right.set(xlabel="score", ylabel="detections", xlim=(0, 1))
    right.set_title("How many detections have that score")
    if shown:
        right.set_yscale("log")
    else:
        nothing(right)
    return figure


ALL_NAMED = 12  # classes; of more, only those of largest and smallest gain are named
EXTREMES = 4


@styled
def by_frequency(frame: pd.DataFrame, found: Trend, one: str, other: str) -> Figure:
    """AP of each class for both losses, and the gain of the other over the first, against the training
    objects.

    frame: of `per_class.compare`; found: its trend. Bars span the seeds, where there are several. The dashed
    line is Theil and Sen's: the median of the slopes between all pairs of classes, which outliers do not
    turn.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4.4), sharex=True)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("objects of the class in the training split")
    left.set(ylabel="AP of the class, %", title="AP by class")
    right.set(ylabel="difference in AP", title=f"{other} less {one}")
    if frame.empty:
        for axes in (left, right):
            nothing(axes, "nothing to show")
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
    """Five round numbers over the range: a log axis of less than a decade would get none, or powers of
    ten."""
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
