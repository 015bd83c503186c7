"""Figures of what runs keep besides AP: where their loss lies (Figure 4), how far to trust their scores, their speed."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from focalrepro import cost
from focalrepro.figures_style import BLUE, DARK, GREY, LINES, ORANGE, shades, styled

Records = Sequence[Mapping[str, Any]]


@styled
def loss_distribution(record: Mapping[str, Any]) -> Figure:
    """The paper's Figure 4 from one run: share of the loss carried by the easiest share of the windows, per γ."""
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.9), sharey=True)
    kept = record["loss_distribution"]
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
    shown = {label: r[0]["calibration"] for label, r in rows.items() if r and r[0].get("calibration")}
    left.plot([0, 1], [0, 1], color=DARK, linewidth=1, linestyle=":", label="perfect")
    for i, ((label, found), colour) in enumerate(zip(shown.items(), shades(len(shown)), strict=False)):
        count = np.array(found["count"])
        style = {"color": colour, "linestyle": LINES[i % len(LINES)], "marker": "o", "markersize": 4}
        filled = count >= 20  # a share of fewer detections is noise
        score, share = np.array(found["score"])[filled], np.array(found["right"])[filled]
        errors = [r["calibration"]["error"] or 0 for r in rows[label] if r.get("calibration")]
        left.plot(score, share, label=f"{label} (error {np.mean(errors):.3f})", **style)
        right.plot((np.arange(len(count)) + 0.5) / len(count), np.maximum(count, 0.5), label=label, **style)
    left.set(xlabel="score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    left.set_title("Reliability of the scores")
    left.legend(loc="upper left", bbox_to_anchor=(0, -0.16))
    right.set(xlabel="score", ylabel="detections", yscale="log", xlim=(0, 1))
    right.set_title("How many detections have that score")
    if not shown:
        right.set_yscale("linear")  # a log axis without data has no ticks to draw
        right.text(0.5, 0.5, "no runs yet", transform=right.transAxes, ha="center", va="center", color=GREY)
    return figure


@styled
def speed(frame: pd.DataFrame) -> Figure:
    """A dot for each run's training and inference speed, by loss, with the median as a bar; frame: `cost.speeds`."""
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 2.6), sharey=True)
    for axes, quantity in zip(panels, cost.QUANTITIES, strict=True):
        for at, (loss, colour) in enumerate(((cost.CE, BLUE), (cost.FL, ORANGE))):
            values = frame.loc[frame["loss"] == loss, quantity].dropna().to_numpy(float)
            if len(values):
                heights = at + np.linspace(
                    -0.18, 0.18, len(values)
                )  # runs in their order, so that none is hidden
                axes.plot(values, heights, "o", color=colour, markersize=5, alpha=0.7, linestyle="none")
                axes.vlines(np.median(values), at - 0.32, at + 0.32, color=colour, linewidth=2.5)
        if frame[quantity].isna().all():
            text = "no run has a record of it"
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
            axes.set_xticks([])
        else:
            axes.set_xlim(0, 1.15 * frame[quantity].max())
        axes.set(xlabel=quantity, ylim=(1.6, -0.6))
        axes.set_yticks([0, 1], [cost.CE, cost.FL])
        axes.grid(axis="y", visible=False)
    return figure
