"""Which figure shows which ablation: planes as heat maps, sweeps as lines, speed as points, all else as rows with intervals."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from focalrepro import figures, figures_lines, figures_tradeoff
from focalrepro.plane import Records, best_shares
from focalrepro.study.paper import TABLES

PLANES = {"grid": ("gamma", "alpha"), "plane": ("gamma", "beta")}
SWEEPS = {
    "prior": ("prior", "π, the initial foreground probability (0.5: no prior)"),
    "data": ("images", "training images"),
    "budget": ("steps", "training steps, each schedule planned to its own end"),
}


def figure_of(
    name: str, frame: pd.DataFrame, title: str, found: Mapping[str, Records] | None = None
) -> Figure:
    """The figure of the ablation `name`; frame: of `results.table`.

    found: the records by row (`results.select`); with them the cells of a plane say how sure the best one is.
    """
    if name in PLANES:
        x, y = PLANES[name]
        theirs = [(r.fields["gamma"], r.fields["alpha"]) for r in TABLES["1b"]] if name == "grid" else []
        return figures.heatmap(frame, x, y, best_shares(found, name, x, y) if found else None, theirs)
    if name == "1e":
        return figures_tradeoff.speed_accuracy(frame, title)
    if name in SWEEPS:
        return figures_lines.sweep(frame, *SWEEPS[name], title)
    return figures.ablation(frame, title)
