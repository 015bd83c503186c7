"""The bench's picture: cost curves on log-log axes, with the slope of each."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from focalrepro.bench.scaling import Curve
from focalrepro.show.style import BLUE, GREEN, GREY, LINES, ORANGE, PURPLE, styled

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)


@styled
def cost_curves(curves: list[Curve], machine: str) -> Figure:
    """Seconds against the work, a panel for each kind of work; a dotted line grows in proportion to it."""
    labels = list(dict.fromkeys(c.x_label for c in curves))
    figure, panels = plt.subplots(1, len(labels), figsize=(4.2 * len(labels), 3.8), squeeze=False)
    for axes, label in zip(panels[0], labels, strict=True):
        for i, curve in enumerate(c for c in curves if c.x_label == label):
            y = [s.median for s in curve.y]
            error = [[s.median - s.low for s in curve.y], [s.high - s.median for s in curve.y]]
            style = {"color": COLOURS[i], "linestyle": LINES[i], "marker": "o", "markersize": 4, "capsize": 3}
            axes.errorbar(curve.x, y, yerr=error, label=f"{curve.what}: slope {curve.exponent:.2f}", **style)
            axes.plot(curve.x, [y[-1] * x / curve.x[-1] for x in curve.x], ":", color=GREY, linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds")
        axes.minorticks_off()
        axes.set_xticks(curve.x, [f"{x:,.0f}" for x in curve.x])
        axes.legend(loc="upper left", fontsize=8)
    figure.suptitle(f"{machine}; dotted: in proportion to the work", fontsize=11)
    return figure
