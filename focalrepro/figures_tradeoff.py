"""AP against the time of an image, as in the paper's Figure 2; and AP against the objects that anchors reach."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from focalrepro.figures_labels import label_points
from focalrepro.figures_style import BLUE, DARK, GREEN, GREY, LINES, ORANGE, PURPLE, shades, styled
from focalrepro.study.paper import TABLES

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
MARKERS = "os^v"


@styled
def speed_accuracy(frame: pd.DataFrame, title: str = "") -> Figure:
    """AP with its 95 % interval against milliseconds an image, a line per backbone; beside it Table 1e.

    frame: of `results.table` for the ablation "1e". A point's text is the size of its images, the shorter side in
    the paper; the two-stage detector is a dark diamond. Rows that have no time are counted below the axis. Times
    are on a log axis, so that equal steps are equal factors; the panels share no axis: data, resolution and
    machine differ.
    """
    figure, (ours, theirs) = plt.subplots(1, 2, figsize=(9.6, 4.4))
    known = frame.dropna(subset=["AP", "inference_ms"])
    known = known.assign(text=known["image_size"].map("{:.0f}²".format))
    one_stage = known[known["detector"] == "retinanet"]
    names = list(frame["backbone"].unique())
    for i, name in enumerate(names):
        rows = one_stage[one_stage["backbone"] == name].sort_values("image_size")
        if len(rows):
            _line(ours, rows, i, f"RetinaNet, {name}")
    two_stage = known[known["detector"] == "faster_rcnn"]
    if len(two_stage):
        look = {"marker": "D", "color": DARK, "linestyle": "none", "markersize": 9, "zorder": 4}
        _points(ours, two_stage, label="Faster R-CNN FPN (two stages)", **look)
    missing = len(frame) - len(known)
    note = f"\n(without a time: {missing} of {len(frame)} rows)" if missing else ""
    ours.set(xlabel=f"ms an image{note}", ylabel="AP, %", title="This reproduction")
    if len(known):
        _factors(ours)
        ours.margins(x=0.14, y=0.12)
        ours.legend(loc="best")
        colour = {name: COLOURS[i % 4] for i, name in enumerate(names)}
        colours = [
            DARK if row.detector == "faster_rcnn" else colour[row.backbone] for row in known.itertuples()
        ]
        label_points(ours, *known[["inference_ms", "AP"]].to_numpy(float).T, list(known["text"]), colours)
    else:
        ours.text(0.5, 0.5, "no runs yet", transform=ours.transAxes, ha="center", va="center", color=GREY)
        ours.set(xticks=[], yticks=[])
    depths = (50, 101)
    for i, depth in enumerate(depths):
        rows = [r for r in TABLES["1e"] if r.fields["depth"] == depth]
        values = {"AP": [r.AP for r in rows], "inference_ms": [r.ms for r in rows]}
        _line(theirs, pd.DataFrame(values), i, f"RetinaNet, ResNet-{depth}")
    _factors(theirs)
    theirs.margins(x=0.14, y=0.1)
    every = TABLES["1e"]
    label_points(
        theirs,
        np.array([r.ms for r in every], float),
        np.array([r.AP for r in every], float),
        [str(r.fields["scale"]) for r in every],
        [COLOURS[depths.index(r.fields["depth"])] for r in every],
    )
    theirs.set(xlabel="ms an image (Nvidia M40)", ylabel="AP, %", title="Paper (Table 1e, COCO test-dev)")
    theirs.legend(loc="lower right")
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _factors(axes: Axes) -> None:
    """A log axis with plain numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _line(axes: Axes, rows: pd.DataFrame, number: int, label: str) -> None:
    look = {"color": COLOURS[number % 4], "marker": MARKERS[number % 4], "linestyle": LINES[number % 4]}
    _points(axes, rows, label=label, markersize=6, **look)


def _points(axes: Axes, rows: pd.DataFrame, **look: Any) -> None:
    """Points with intervals, where there are some."""
    errors = None
    if "low" in rows:
        errors = [(rows["AP"] - rows["low"]).clip(lower=0), (rows["high"] - rows["AP"]).clip(lower=0)]
    axes.errorbar(rows["inference_ms"], rows["AP"], yerr=errors, capsize=3, elinewidth=1.2, **look)


@styled
def reach(frame: pd.DataFrame) -> Figure:
    """The share of the objects that each set of anchors reaches, and AP against it, here and in the paper.

    frame: of `reach.measure`. The lower panels share the horizontal axis and no vertical one.
    """
    figure, panels = plt.subplot_mosaic([["left", "left"], ["ours", "theirs"]], figsize=(8.6, 7.6))
    left, ours, theirs = (panels[name] for name in ("left", "ours", "theirs"))
    y = np.arange(len(frame))
    left.hlines(y, frame["reach_50"], frame["reach_40"], color=GREY, linewidth=1.4)
    for column, iou, face in (("reach_50", ".5", BLUE), ("reach_40", ".4", "white")):
        left.plot(frame[column], y, "o", color=BLUE, markerfacecolor=face, markersize=7, label=f"IoU ≥ {iou}")
    left.set_yticks(y, frame["row"])
    left.set_ylim(len(frame) - 0.4, -0.6)
    left.grid(axis="y", visible=False)
    left.set(xlabel="training objects with such an anchor, %", title="Objects reached")
    left.legend(loc="best")
    errors = [(frame["AP"] - frame["low"]).clip(lower=0), (frame["high"] - frame["AP"]).clip(lower=0)]
    _against_reach(ours, frame, "AP", errors)
    ours.set(title="AP here")
    _against_reach(theirs, frame, "paper_AP", None)
    theirs.set(title="AP in the paper (COCO minival)")
    handles, labels = theirs.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _against_reach(axes: Axes, frame: pd.DataFrame, column: str, errors: Sequence[pd.Series] | None) -> None:
    for i, (row, colour) in enumerate(zip(frame.to_dict("records"), shades(len(frame)), strict=True)):
        if np.isnan(row[column]):
            continue
        error = None if errors is None else [[e.iloc[i]] for e in errors]
        axes.errorbar(
            row["reach_50"], row[column], yerr=error, fmt="osD^v<>"[i % 7], color=colour, markersize=7,
            capsize=3, elinewidth=1.2, label=row["row"],
        )  # fmt: skip
    if frame[column].isna().all():
        axes.text(0.5, 0.5, "no runs yet", transform=axes.transAxes, ha="center", va="center", color=GREY)
        axes.set(yticks=[])
    axes.set(xlabel="objects reached at IoU ≥ .5 here, %", ylabel="AP, %")
