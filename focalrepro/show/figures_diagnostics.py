"""Figures of what runs keep besides AP: where their loss lies (Figure 4), how far to trust their scores, each
class."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from focalrepro.evidence.difference import Records
from focalrepro.evidence.statistics import calibration_error, reliability_bins
from focalrepro.evidence.tables import mean
from focalrepro.show.style import BLUE, DARK, GREY, ORANGE, label_points, lines, panels, styled
from focalrepro.study.records import Record


@styled
def loss_distribution(record: Record) -> Figure:
    """The paper's Figure 4 from one run: share of the loss carried by the easiest share of the windows, per
    γ."""
    kept, kinds = record.loss_distribution, ("foreground", "background")
    settings = (
        {
            "title": f"{kind}: {kept[kind]['windows']:,} windows of {kept['images']} images",
            "xlabel": f"share of the {kind} windows, easiest first",
        }
        for kind in kinds
    )
    figure, row = panels(*settings, size=(9.2, 3.9), sharey=True)
    for axes, kind in zip(row, kinds, strict=True):
        lines(axes, {f"γ = {k}": (kept["shares"], v) for k, v in kept[kind].items() if k != "windows"})
        axes.set(xlim=(0, 1), ylim=(0, 1))
    row[0].set_ylabel("cumulative share of the loss")
    row[0].legend(loc="upper left")
    return figure


@styled
def reliability(rows: Mapping[str, Records]) -> Figure:
    """Share of detections that are right (IoU .5) against their score, for the first seed of each row.

    The error in the legend is the mean over the row's seeds. Rows without records are left out.
    """
    left = {"title": "Reliability of the scores", "ylabel": "share that is right", "ylim": (0, 1)}
    right = {"title": "How many detections have that score", "ylabel": "detections", "yscale": "log"}
    both = {"xlabel": "score", "xlim": (0, 1)}
    figure, row = panels(left | both, right | both, size=(9.2, 3.9))
    row[0].plot([0, 1], [0, 1], color=DARK, linewidth=1, linestyle=":", label="perfect")
    bins = {
        f"{label} (error {mean(calibration_error(r) for r in records):.3f})": of
        for label, records in rows.items()
        if records and len(of := reliability_bins(records[0]))
    }
    look, filled = {"marker": "o", "markersize": 4}, {k: b[b["count"] >= 20] for k, b in bins.items()}
    lines(row[0], {k: (b["score"], b["right"]) for k, b in filled.items()}, **look)  # of fewer: noise
    lines(row[1], {k: (b["score"], b["count"]) for k, b in bins.items()}, **look)
    row[0].legend(loc="upper left", bbox_to_anchor=(0, -0.16))
    return figure


ALL_NAMED = 12  # classes; of more, only those of largest and smallest gain are named
EXTREMES = 4


@styled
def by_frequency(frame: pd.DataFrame, one: str, other: str) -> Figure:
    """AP of each class for both losses, and the gain of the other over the first, against the training
    objects; frame: of `per_class.by_class`. Bars span the seeds, where there are several."""
    both = {"xlabel": "objects of the class in the training split", "xscale": "log"}
    figure, (left, right) = panels(
        {"ylabel": "AP of the class, %", "title": "AP by class", **both},
        {"ylabel": "difference in AP", "title": f"{other} less {one}", **both},
        size=(10.4, 4.4),
        sharex=True,
    )
    x = frame["objects"].clip(lower=0.5)  # a class without training objects still has a place on the axis
    left.vlines(x, frame["one"], frame["other"], color=GREY, linewidth=1)
    look = {"linestyle": "none", "markersize": 5}
    left.plot(x, frame["one"], "o", color=BLUE, markerfacecolor="white", label=one, **look)
    left.plot(x, frame["other"], "s", color=ORANGE, label=other, **look)
    left.legend(loc="best")
    right.axhline(0, color=DARK, linewidth=0.9)
    right.vlines(x, frame["least"], frame["most"], color=ORANGE, linewidth=1.2, alpha=0.6)
    right.plot(x, frame["gain"], "s", color=ORANGE, **look)
    right.margins(x=0.12, y=0.15)
    if len(frame):
        _ticks(right, x)
    named = _named(frame["gain"])
    for axes, y in ((left, frame[["one", "other"]].max(axis=1)), (right, frame["gain"])):
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
