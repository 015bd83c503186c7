"""Rows with their intervals, panel beside panel: an ablation beside the paper's table, and differences."""

from collections.abc import Mapping, Sequence
from functools import partial
from textwrap import fill
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from focalrepro.evidence.claims import SEEDS
from focalrepro.show.style import BLUE, BROWN, DARK, GREEN, GREY, ORANGE, PURPLE, label_points, panels, styled
from focalrepro.show.tables import ap_digits, number, signed

Look = Mapping[str, Any]  # of a Line2D
ALSO: Look = {"color": GREY, "marker": "o", "markersize": 4.5, "markerfacecolor": "none", "linestyle": "none"}

DISC: Look = {"color": DARK, "marker": "o", "markersize": 7, "linestyle": "none"}
THICK: Look = {"color": DARK, "linewidth": 3}
ABSENT: Mapping[str, Look] = {"no mark: the paper has no such number": {"linestyle": "none"}}


@styled
def dots(
    columns: Mapping[str, pd.DataFrame],
    xlabels: Sequence[str],
    title: str = "",
    zero: bool = False,
    marks: Mapping[str, Look] = MappingProxyType({}),
) -> Figure:
    """A number for each row with its interval, a panel for each column, every panel with an axis of its own.

    columns: by the panel's title, frames of the same index, the rows' names, with value, low, high (NaN: no
    interval), text and filled: whether the mark is a disc or a ring; perhaps also, a second number, and
    thick: whether the interval's line is. xlabels: of the panels. zero: with a line at 0. marks: what the
    legend explains, with its look.
    """
    names, number = list(next(iter(columns.values())).index), len(columns)
    # No wider than the texts need: a page shows it some 850 pixels wide, a phone 370.
    width = 0.6 + 0.065 * max(map(len, names), default=0) + 2.1 * number
    wrapped = ("\n".join(fill(line, 32) for line in text.split("\n")) for text in xlabels)
    settings = ({"title": name, "xlabel": text} for name, text in zip(columns, wrapped, strict=True))
    height = 1.4 + 0.33 * len(names) + 0.25 * len(marks) / (1 + (number > 2))
    figure, row = panels(*settings, size=(width, height), sharey=True)
    y, own = np.arange(len(names)), iter((BLUE, GREEN, PURPLE, BROWN))
    colours = [ORANGE if name.lower().startswith("paper") else next(own) for name in columns]
    row[0].set(yticks=y, yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    for axes, frame, colour in zip(row, columns.values(), colours, strict=True):
        low, high = (frame[side].fillna(frame["value"]) for side in ("low", "high"))
        bars = [(frame["value"] - low).clip(lower=0), (high - frame["value"]).clip(lower=0)]
        look = {"color": colour, "capsize": 3 * bool(frame["low"].notna().any())}
        look["elinewidth"] = np.where(frame.get("thick", False), THICK["linewidth"], 1.4) * np.ones(len(y))
        axes.errorbar(frame["value"], y, xerr=bars, fmt="o", markersize=7, markerfacecolor="white", **look)
        filled = frame["filled"].to_numpy(bool)
        axes.plot(frame["value"][filled], y[filled], "o", color=colour, markersize=7, zorder=3)
        if "also" in frame:
            axes.plot(frame["also"], y + 0.27, zorder=1, **ALSO)
        label_points(axes, high, y, list(frame["text"].where(frame["value"].notna(), "")))
        for at in y[frame["value"].isna() & (axes is row[0]) & (not zero)]:
            axes.text(0.5, at, "not run", transform=axes.get_yaxis_transform(), va="center", color=GREY)
        if zero:
            axes.axvline(0, color=GREY, linewidth=1)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.2)
        left, right = axes.get_xlim()
        axes.set_xlim(left, right + 0.15 * (right - left))  # the texts stand right of the marks
    if marks:
        handles = [Line2D([], [], label=label, **look) for label, look in marks.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=1 + (number > 2))
    figure.suptitle(fill(title, int(11 * width)), fontsize=12)
    return figure


def ablation(frame: pd.DataFrame, title: str, best: Sequence[bool] | None = None) -> Figure:
    """AP of each row with its 95 % interval, beside it the paper's; frame: of `tables.table`.

    best: of `tables.best_rows`, which are filled; None where the rows have too few seeds to be judged. Of the
    paper the best alone is, whose AP is at .05: where the threshold cuts anything off, ours at .05 stands
    below each row's mark. A row that diverged, or that has no runs, says so.
    """
    judged = f"(under {SEEDS} seeds: none filled)"
    judged = judged if best is None else "(filled: the best, or not clearly worse than it)"
    if "dataset" in frame and frame["dataset"].nunique() > 1:
        judged = judged.replace("best", "best on its data")
    ours, lost = frame.set_index("row"), (frame["diverged"] > 0).to_numpy()
    ours = ours.assign(value=ours["AP"], filled=False if best is None else best)
    text = partial(number, digits=ap_digits(*ours["value"]))
    ours["text"] = ours["value"].map(text).mask(lost, "diverged")
    columns, labels, marks = {"This reproduction": ours}, [f"AP in %, no threshold\n{judged}"], {}
    if frame["paper_AP"].notna().any():
        theirs = ours.assign(value=ours["paper_AP"], low=np.nan, high=np.nan)
        theirs["text"] = theirs["value"].map("{:.1f}".format)
        columns["Paper (COCO minival)"] = theirs.assign(filled=theirs["value"] == theirs["value"].max())
        labels.append("AP in %, at scores ≥ .05\n(filled: the best)")
        marks = ABSENT if theirs["value"].isna().any() else {}
        if ((frame["AP_at_05"] - frame["AP"]).abs() > 0.01).any():
            ours["also"] = ours["AP_at_05"].mask(lost)
            marks = {"this reproduction at scores ≥ .05, as the paper": ALSO, **marks}
    return dots(columns, labels, title, marks=marks)


def forest(gaps: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """Differences with their 95 % intervals, by panel; gaps: frames of what is less what, with value, low and
    high (NaN: no interval), and perhaps `judged` (else all are) and `thick`: whose interval is an adjusted
    one. Filled where the interval of what is judged leaves out 0."""
    columns = {name: gap.copy() for name, gap in gaps.items()}
    marks = {"clearly above or below 0; the paper has no intervals": DISC}
    marks["not clear, or not judged yet"] = {**DISC, "markerfacecolor": "white"}
    for name, gap in columns.items():
        fine = (gap["high"] - gap["low"]).median() < 1  # then a difference of .1 is a large one
        gap["text"] = gap["value"].map(partial(signed, digits=1 + bool(fine)))
        clear = gap["low"].isna() | (gap["low"] > 0) | (gap["high"] < 0)
        gap["filled"] = clear & gap.get("judged", True)
        if np.any(gap.get("thick", False)):
            marks["an interval adjusted for the primary claims (Holm)"] = THICK
        if name.startswith("paper") and gap["value"].isna().any():
            marks |= ABSENT
    return dots(columns, ["AP, difference"] * len(columns), title, zero=True, marks=marks)
