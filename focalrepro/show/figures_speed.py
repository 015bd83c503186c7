"""AP against the time of an image, as in the paper's Figure 2; and the objects that anchors reach."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from focalrepro.show.style import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    LINES,
    ORANGE,
    PURPLE,
    errors,
    label_points,
    nothing,
    styled,
)
from focalrepro.study.paper import TABLES

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
MARKERS = "os^v"


@styled
def speed_accuracy(frame: pd.DataFrame, title: str = "") -> Figure:
    """AP with its 95 % interval against milliseconds an image, a line per backbone; beside it Table 1e.

    frame: of `tables.table` for the ablation "1e". A point's text is the size of its images, the shorter side
    in the paper; the two-stage detector is a dark diamond. Rows that have no time are counted below the axis.
    Times are on a log axis, so that equal steps are equal factors; the panels share no axis: data, resolution
    and machine differ.
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
        nothing(ours)
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
    bars = errors(rows) if "low" in rows else None
    axes.errorbar(rows["inference_ms"], rows["AP"], yerr=bars, capsize=3, elinewidth=1.2, **look)


@styled
def reach(frame: pd.DataFrame) -> Figure:
    """The share of the objects that each set of anchors reaches; frame: of
    `anchor_statistics.reach_of_rows`."""
    figure, axes = plt.subplots(figsize=(7.6, 3.6))
    y = np.arange(len(frame))
    axes.hlines(y, frame["reach_50"], frame["reach_40"], color=GREY, linewidth=1.4)
    for column, iou, face in (("reach_50", ".5", BLUE), ("reach_40", ".4", "white")):
        axes.plot(frame[column], y, "o", color=BLUE, markerfacecolor=face, markersize=7, label=f"IoU ≥ {iou}")
    axes.set_yticks(y, frame["row"])
    axes.set_ylim(len(frame) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="training objects with such an anchor, %", title="Objects reached")
    axes.legend(loc="best")
    return figure
