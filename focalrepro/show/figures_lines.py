"""AP against a setting on a log axis, a line for each name."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from focalrepro.show.style import COLOURS, LINES, RED, panels, styled


def against(
    axes: Axes,
    frame: pd.DataFrame,
    x: str,
    apart: float = 0.0,
    ticks: Sequence = (),
    colours: Mapping[str, str] | None = None,
) -> Mapping[str, str]:
    """AP with its interval against the column x on a log axis, a line for each name in `by`; their colours.

    apart: of a factor of e, so that intervals at the same setting lie beside each other. Ticks stand at every
    value of x, unless they are given. colours: of all lines, also of those that another panel has.
    """
    if colours is None:
        colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(frame["by"].unique())}
    known, drawn = frame.dropna(subset=["AP", x]), [name for name in colours if name in set(frame["by"])]
    for i, name in enumerate(colours):
        if name not in drawn:
            continue
        rows = known[known["by"] == name].sort_values(x)
        bars = [(rows["AP"] - rows["low"]).clip(lower=0), (rows["high"] - rows["AP"]).clip(lower=0)]
        at = rows[x].to_numpy(float) * np.exp(apart * (2 * drawn.index(name) - len(drawn) + 1))
        look = {"marker": "os^vDP"[i % 6], "linestyle": LINES[i % len(LINES)], "color": colours[name]}
        axes.errorbar(at, rows["AP"], yerr=bars, markersize=6, capsize=3, elinewidth=1.2, label=name, **look)
        lost = (rows["diverged"] > 0).to_numpy()
        axes.plot(at[lost], rows["AP"][lost], "X", color=RED, markersize=11, linestyle="none", zorder=5)
    if (known["diverged"] > 0).any():
        axes.plot([], [], "X", color=RED, markersize=10, linestyle="none", label="diverged")
    axes.set_xscale("log")
    settings = ticks if len(ticks) else np.unique(frame[x].dropna().to_numpy(float))
    axes.set_xticks(settings, [f"{v:,.0f}" if v >= 10 else f"{v:g}" for v in settings])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    if colours:
        axes.legend(loc="best")
    return colours


@styled
def sweep(frame: pd.DataFrame, x: str, label: str, title: str = "", by: str = "") -> Figure:
    """AP with its 95 % interval against the column x, which must be positive, on a log axis.

    frame: of `tables.table`. by: the column with the lines' names; without it row labels begin with the
    line's name and a comma ("CE, …"). A diverged run is a red cross at its AP of 0.
    """
    figure, (axes,) = panels({"xlabel": label, "ylabel": "AP, %", "title": title}, size=(6.4, 4.0))
    names = frame[by] if by else frame["row"].str.split(",").str[0]
    wide = np.log(frame[x].max() / frame[x].min())
    against(axes, frame.assign(by=names), x, apart=0.005 * wide)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    return figure
