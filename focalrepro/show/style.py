"""One look for every figure: white ground, light grid, a colour-blind palette, text that is legible in
print."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

P = ParamSpec("P")

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = sns.color_palette("colorblind").as_hex()
DARK = "#333333"
LINES = ("-", "--", "-.", (0, (1, 1.2)))  # so that neighbouring curves differ without colour, too

STYLE: dict[str, Any] = sns.axes_style("whitegrid") | {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e4e4",
    "legend.fontsize": 9,
    "legend.framealpha": 0.9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.8,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Gives a figure function the common style, and takes its figure out of pyplot's list of open ones.

    Otherwise Jupyter would show it twice, as the cell's value and as an open figure, and a report that draws
    many would keep all of them in memory.
    """

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
        plt.close(figure)
        return figure

    return wrapper


def shades(count: int) -> list[tuple[float, ...]]:
    """Colours for `count` ordered values, dark to light; the palest part of the scale is left out."""
    return [tuple(c) for c in plt.get_cmap("viridis")(np.linspace(0, 0.85, max(count, 1)))]


def nothing(axes: Axes, text: str = "no runs yet") -> None:
    """Says in the middle of axes, without ticks, that there is nothing to draw."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set(xticks=[], yticks=[])


def panels(*settings: dict[str, Any], size: tuple[float, float], **more: Any) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side, one for each dict of what `Axes.set` takes; more: of plt.subplots."""
    figure, row = plt.subplots(1, len(settings), figsize=size, squeeze=False, **more)
    for axes, chosen in zip(row[0], settings, strict=True):
        axes.set(**chosen)
    return figure, list(row[0])


def lines(axes: Axes, curves: Mapping[str, tuple[Any, Any]], **look: Any) -> None:
    """Curves (x, y) by their names, from dark to light, so that neighbours differ without colour, too."""
    for i, ((name, (x, y)), colour) in enumerate(zip(curves.items(), shades(len(curves)), strict=False)):
        axes.plot(x, y, label=name, **({"color": colour, "linestyle": LINES[i % len(LINES)]} | look))


def points(axes: Axes, values: Any, y: Any, low: Any = None, high: Any = None, **look: Any) -> None:
    """Values from left to right at the heights y, with their intervals where there are some; NaN draws
    nothing."""
    known = ~np.isnan(np.asarray(values, float))
    values, y = np.asarray(values, float)[known], np.asarray(y, float)[known]
    bars = None
    if low is not None:
        low, high = (np.asarray(side, float)[known] for side in (low, high))
        bars = [(values - low).clip(min=0), (high - values).clip(min=0)]
    look = {"fmt": "o", "color": BLUE, "markersize": 7, "capsize": 3, "elinewidth": 1.4} | look
    axes.errorbar(values, y, xerr=bars, **look)
    axes.grid(axis="y", visible=False)


def rows_of(axes: Axes, names: Sequence[str]) -> np.ndarray:
    """Names down the left side, the first one on top; their heights."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    return np.arange(len(names))


# ---- names beside points, placed so that they cover neither each other nor the points

PLACES = (
    ((5, 3), "left", "bottom"),
    ((5, -3), "left", "top"),
    ((-5, 3), "right", "bottom"),
    ((-5, -3), "right", "top"),
    ((0, 9), "center", "bottom"),
    ((0, -9), "center", "top"),
)  # offset in points and alignment, tried in this order
HALF = 4  # pixels of a mark to each side


def label_points(
    axes: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str], colours: Sequence[str] | None = None
) -> None:
    """Writes each name beside its point, in the first of PLACES that is free; "" writes none.

    Call it when limits and scales of the axes stand.
    """
    axes.figure.draw_without_rendering()  # the layout, which the places of the texts depend on
    renderer = axes.figure.canvas.get_renderer()
    marks = axes.transData.transform(np.column_stack([x, y]))
    taken = [Bbox.from_extents(*(mark - HALF), *(mark + HALF)) for mark in marks]
    for i, name in enumerate(names):
        for offset, across, up in PLACES if name else ():
            text = axes.annotate(
                name,
                (x[i], y[i]),
                offset,
                textcoords="offset points",
                fontsize=9,
                color=colours[i] if colours else DARK,
                ha=across,
                va=up,
                path_effects=[withStroke(linewidth=3, foreground="white")],
                zorder=5,
            )
            box = text.get_window_extent(renderer)
            if offset == PLACES[-1][0] or not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
