"""Names beside points, placed so that they cover neither each other nor the points."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from focalrepro.figures_style import DARK

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
