"""Which figure shows which ablation: planes as heat maps, sweeps as lines, speed as points, all else as rows with intervals."""

import pandas as pd
from matplotlib.figure import Figure

from focalrepro import figures, figures_lines, figures_tradeoff

PLANES = {"grid": ("gamma", "alpha"), "plane": ("gamma", "beta")}
SWEEPS = {
    "prior": ("prior", "π, the initial foreground probability (0.5: no prior)"),
    "data": ("images", "training images"),
}


def figure_of(name: str, frame: pd.DataFrame, title: str) -> Figure:
    """The figure of the ablation `name`; frame: of `results.table`."""
    if name in PLANES:
        return figures.heatmap(frame, *PLANES[name])
    if name == "1e":
        return figures_tradeoff.speed_accuracy(frame, title)
    if name == "budget":
        return figures_lines.sweep(frame, "seconds", "seconds of training", title, ticks=False)
    if name in SWEEPS:
        return figures_lines.sweep(frame, *SWEEPS[name], title)
    return figures.ablation(frame, title)
