"""Figures of what runs keep besides AP: where their loss lies (Figure 4), how far to trust their scores, each
class."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from focalrepro.evaluation.record import Record
from focalrepro.evidence.difference import Records
from focalrepro.evidence.statistics import calibration_error, reliability_bins
from focalrepro.evidence.tables import mean
from focalrepro.show.style import DARK, ORANGE, label_points, lines, panels, styled


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


@styled
def by_frequency(frame: pd.DataFrame, one: str, other: str) -> Figure:
    """The gain of one loss over the other for each class against its training objects, with a bar over the
    seeds; frame: of `per_class.by_class`. Of more than 12 classes the extremes alone have their name."""
    labels = {"xlabel": "objects of the class in the training split", "ylabel": "difference in AP"}
    figure, (axes,) = panels({"title": f"{other} less {one}", "xscale": "log", **labels}, size=(7.2, 4.4))
    x = frame["objects"].clip(lower=0.5)  # a class without training objects still has a place on the axis
    axes.axhline(0, color=DARK, linewidth=0.9)
    axes.vlines(x, frame["least"], frame["most"], color=ORANGE, linewidth=1.2, alpha=0.6)
    axes.plot(x, frame["gain"], "s", color=ORANGE, linestyle="none", markersize=5)
    axes.margins(x=0.12, y=0.15)
    if len(frame):
        ticks = np.unique(np.geomspace(x.min(), x.max(), 5).round(-1 if x.min() >= 100 else 0).clip(min=0.5))
        axes.set_xticks(ticks, [f"{v:,.0f}" if v >= 1 else f"{v:g}" for v in ticks], minor=False)
        axes.minorticks_off()
    order = frame["gain"].sort_values().index
    named = set(order) if len(order) <= 12 else {*order[:4], *order[-4:]}
    label_points(axes, x, frame["gain"], [name if name in named else "" for name in frame.index])
    return figure
