"""Figures of what runs keep besides AP: where loss lies (Figure 4), how far to trust scores, each class."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from focalrepro.evaluation.record import PAPER_THRESHOLD, Record
from focalrepro.evidence.difference import Records
from focalrepro.evidence.statistics import calibration_error, reliability_bins
from focalrepro.evidence.tables import mean
from focalrepro.show.figures_rows import dots
from focalrepro.show.style import DARK, lines, panels, shades, styled
from focalrepro.show.tables import signed


@styled
def loss_distribution(record: Record) -> Figure:
    """The paper's Figure 4 from one run: the loss's share on the easiest share of the windows, per γ."""
    kept, kinds = record.loss_distribution, ("foreground", "background")
    figure, row = panels({}, {}, size=(9.2, 3.9), sharey=True)
    for axes, kind in zip(row, kinds, strict=True):
        lines(axes, {f"γ = {k}": (kept["shares"], v) for k, v in kept[kind].items() if k != "windows"})
        axes.set_title(f"{kind}: {kept[kind]['windows']:,} windows of {kept['images']} images")
        axes.set(xlabel=f"share of the {kind} windows, easiest first", xlim=(0, 1), ylim=(0, 1))
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
def thresholds(rows: Mapping[str, Records]) -> Figure | None:
    """AP, mean over the seeds, against the score below which detections are dropped; the paper's is dotted.

    None without records.
    """
    curves = {}
    for label, records in rows.items():
        if records:
            at = sorted(map(float, records[0].thresholds))
            values = [mean(r.thresholds.get(f"{x:g}", np.nan) for r in records) for x in at]
            curves[label] = ([at[0] / 2, *at], [mean(r.AP for r in records), *values])
    if not curves:
        return None
    names = {"xlabel": "detections below this score are dropped (leftmost: none)", "ylabel": "AP, %"}
    figure, (axes,) = panels({"title": "AP against the threshold", "xscale": "log", **names}, size=(6.8, 4.2))
    lines(axes, curves, marker="o", markersize=4)
    axes.axvline(PAPER_THRESHOLD, color=DARK, linewidth=1, linestyle=":", label="the paper's, .05")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


ERRORS = {
    "Miss": "objects missed",
    "Loc": "box not close",
    "Bkg": "background taken for an object",
    "Cls": "wrong class",
    "Both": "wrong class and box",
    "Dupe": "found twice",
}


@styled
def errors_by_kind(rows: Mapping[str, Records]) -> Figure | None:
    """TIDE: the AP50 that mending each kind of error would gain, mean over the seeds, a bar for each row.

    Bolya et al. 2020 (arXiv 2008.08115). None where no record has it.
    """
    kept = [r.tide | {"row": label} for label, records in rows.items() for r in records if r.tide]
    if not kept:
        return None
    figure, (axes,) = panels({"title": "Kinds of errors (TIDE)"}, size=(8.6, 3.9))
    frame = pd.DataFrame(kept).groupby("row", sort=False)[list(ERRORS)].mean().T.rename_axis(columns=None)
    frame.index = [text.replace(" ", "\n", 1) for text in ERRORS.values()]
    frame.plot.bar(ax=axes, width=0.8, rot=0, color=shades(frame.shape[1]))
    axes.set_ylabel("AP50 that mending it would gain")
    axes.grid(axis="x", visible=False)
    return figure


@styled
def by_frequency(frame: pd.DataFrame, one: str, other: str) -> Figure:
    """The gain of one loss over the other for each class, the rarest in training first, with a bar from the
    smallest to the largest of one seed; frame: of `per_class.by_class`. Filled: all seeds agree in sign."""
    names = [f"{name}, {objects:,}" for name, objects in frame["objects"].items()]
    side = frame.set_axis(names).rename(columns={"gain": "value", "least": "low", "most": "high"})
    side = side.assign(text=side["value"].map(signed), filled=(side["low"] > 0) | (side["high"] < 0))
    label = "AP, difference (bar: the seeds; filled: all agree in sign)"
    figure = dots({"": side}, [label], f"{other} less {one}", zero=True)
    figure.axes[0].set_ylabel("class, and its objects in training")
    return figure
