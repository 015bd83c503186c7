"""One look for every figure: light grid (`style.mplstyle`), a colour-blind palette, text legible in print."""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib import rc_params_from_file
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from focalrepro.files import write_atomic

P = ParamSpec("P")

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = sns.color_palette("colorblind").as_hex()
DARK = "#333333"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BROWN, SKY)
LINES = ("-", "--", "-.", (0, (1, 1.2)))  # so that neighbouring curves differ without colour, too

STYLE: dict[str, Any] = sns.axes_style("whitegrid") | rc_params_from_file(
    Path(__file__).with_suffix(".mplstyle"), use_default_template=False
)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Gives a figure function the common style, and takes its figure out of pyplot's list of open ones: else
    Jupyter would show it twice, and a report would keep all of its figures in memory."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
        plt.close(figure)
        return figure

    return wrapper


def save_png(figure: Figure, path: Path) -> None:
    """Writes a figure, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, bbox_inches="tight")
    write_atomic(path, content.getvalue())


def shades(count: int) -> list[tuple[float, ...]]:
    """Colours for `count` ordered values, dark to light; the palest part of the scale is left out."""
    return [tuple(c) for c in plt.get_cmap("viridis")(np.linspace(0, 0.85, max(count, 1)))]


def panels(
    *settings: dict[str, Any], size: tuple[float, float], rows: int = 1, **more: Any
) -> tuple[Figure, list[Axes]]:
    """Axes side by side, in so many rows, one for each dict of `Axes.set`; more: of plt.subplots."""
    figure, grid = plt.subplots(rows, len(settings) // rows, figsize=size, squeeze=False, **more)
    for axes, chosen in zip(grid.flat, settings, strict=True):
        axes.set(**chosen)
    return figure, list(grid.flat)


def lines(axes: Axes, curves: Mapping[str, tuple[Any, Any]], **look: Any) -> None:
    """Curves (x, y) by their names, from dark to light, so that neighbours differ without colour, too."""
    for i, ((name, (x, y)), colour) in enumerate(zip(curves.items(), shades(len(curves)), strict=False)):
        axes.plot(x, y, label=name, **({"color": colour, "linestyle": LINES[i % len(LINES)]} | look))


def label_points(
    axes: Axes, x: Any, y: Any, names: Sequence[str], colour: str = DARK, aside: tuple[int, int] = (7, 0)
) -> None:
    """Writes each name beside its point, so many points away; "" writes none."""
    look = {"textcoords": "offset points", "fontsize": 9, "va": "center", "zorder": 5}
    look["path_effects"] = [withStroke(linewidth=3, foreground="white")]
    look |= {"color": colour, "ha": "left" if aside[0] > 0 else "right"}
    for name, at in zip(names, zip(x, y, strict=True), strict=True):
        if name:
            axes.annotate(name, at, aside, **look)
