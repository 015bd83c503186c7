"""Figures of the loss itself: value, gradient, and how α and γ share the work. No data is needed."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from focalrepro.config import RunConfig
from focalrepro.progress import HEADLESS
from focalrepro.show.figures_results import plane
from focalrepro.show.style import DARK, lines, panels, styled
from focalrepro.study import paper
from focalrepro.training.criteria import get_loss
from focalrepro.training.dials import Dials

# The losses of the paper's Figure 1, and of its Figures 5 and 6 with the hinge that section 3 tried, as
# changes of a config; α is left out, as there.
GAMMAS: dict[str, dict[str, object]] = {"γ = 0 (cross entropy)": {"gamma": 0.0}}
GAMMAS |= {f"γ = {gamma:g}": {"gamma": gamma} for gamma in (0.5, 1.0, 2.0, 5.0)}
VARIANTS: dict[str, dict[str, object]] = {
    "cross entropy": {"gamma": 0.0},
    "FL, γ = 2": {"gamma": 2.0},
    "FL*, γ = 2, β = 1": {"loss": "focal_star", "gamma": 2.0, "beta": 1.0},
    "FL*, γ = 4, β = 0": {"loss": "focal_star", "gamma": 4.0, "beta": 0.0},
    "hinge on $p_t$": {"loss": "hinge"},
}

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _as_trained(x_t: torch.Tensor, changes: Mapping[str, object]) -> tuple[np.ndarray, np.ndarray]:
    """A criterion's value and derivative at each x_t [N], by the function that a training calls."""
    x, config = x_t.clone().requires_grad_(), RunConfig().replace(alpha=1.0, **changes)
    loss, dials = get_loss(config.loss), Dials.of(config)
    label = torch.zeros(1, 1, dtype=torch.long)  # one anchor of class 0, so x_t is its logit
    losses = torch.stack([loss(v.view(1, 1, 1), label, dials) for v in x])
    (slope,) = torch.autograd.grad(losses.sum(), x)
    return losses.detach().numpy(), slope.numpy()


@styled
def loss_curves() -> Figure:
    """The paper's Figure 1: FL(p_t) = -(1 - p_t)^γ log p_t against p_t."""
    label = "$p_t$, the probability given to the true class"
    settings = {"xlabel": label, "ylabel": "loss", "xlim": (0, 1), "ylim": (0, 5)}
    figure, (axes,) = panels({"title": "Focal loss against $p_t$", **settings}, size=(6.4, 4.2))
    p_t = torch.linspace(0.005, 0.999, 500, dtype=torch.float64)
    axes.axvspan(0.6, 1, color="#f1f1f1", zorder=0)
    axes.text(0.8, 4.35, "well classified", ha="center", color=DARK, fontsize=9)
    lines(axes, {name: (p_t, _as_trained(torch.logit(p_t), loss)[0]) for name, loss in GAMMAS.items()})
    axes.legend(loc="upper left", bbox_to_anchor=(0.19, 0.98))
    return figure


def slider() -> Figure | None:
    """Loss and gradient against x_t with sliders for γ and α, where a notebook is watched; else the paper's
    Figure 1."""
    if HEADLESS in os.environ:
        return loss_curves()
    from ipywidgets import interact  # of use in JupyterLab alone

    @interact(gamma=(0.0, 5.0, 0.05), alpha=(0.05, 0.95, 0.05))
    def draw(gamma: float = 2.0, alpha: float = 0.25) -> Figure:
        figure = gradient_curves({f"γ = {gamma:g}": {"gamma": gamma}, "cross entropy": {"gamma": 0.0}})
        figure.suptitle(f"objects × {alpha:g}, background × {1 - alpha:g}", fontsize=11)
        return figure


@styled
def gradient_curves(losses: Mapping[str, Mapping[str, object]] = GAMMAS) -> Figure:
    """Loss and size of its gradient against x_t = ±x, the logit signed so that right is positive: the
    appendix's Figures 5 and 6. losses: changes of a config, as GAMMAS or VARIANTS."""
    of_loss = {"xlabel": "$x_t$", "ylabel": "loss", "title": "Loss", "ylim": (0, 5), "xlim": (-6, 6)}
    of_slope = {"xlabel": "$x_t$", "ylabel": "$-dL/dx_t$", "title": "Size of the gradient"}
    figure, (left, right) = panels(of_loss, of_slope, size=(9.2, 3.8), sharex=True)
    x_t = torch.linspace(-6, 6, 241, dtype=torch.float64)
    drawn = {name: _as_trained(x_t, loss) for name, loss in losses.items()}
    lines(left, {name: (x_t, value) for name, (value, _) in drawn.items()})
    lines(right, {name: (x_t, -slope) for name, (_, slope) in drawn.items()})
    for axes in (left, right):
        axes.axvline(0, color=DARK, linewidth=0.8)
    left.text(0.15, 4.7, "correct side →", fontsize=9, color=DARK)
    right.legend(loc="upper right")
    return figure


@styled
def weight_map(gammas: Sequence[float], alphas: Sequence[float]) -> Figure:
    """How many times a hard object weighs as much as an easy background patch, over γ and α.

    Hard: the detector gives it a probability of .1; easy: one of .01. Ringed: the paper's best α of a γ.
    """
    p_background, p_object = 0.01, 0.1
    gamma, alpha = np.asarray(gammas)[None, :], np.asarray(alphas)[:, None]
    ratio = alpha * (1 - p_object) ** gamma / ((1 - alpha) * p_background**gamma)
    title = f"Weight of an object at p = {p_object:g} ÷ weight of background at p = {p_background:g}"
    figure, (axes,) = panels({"title": title, "xlabel": "γ", "ylabel": "α"}, size=(7.6, 4.2))
    values = pd.DataFrame(np.log10(ratio), index=list(alphas), columns=list(gammas))
    theirs = [(r.fields["gamma"], r.fields["alpha"]) for r in paper.TABLES["1b"]]
    plane(axes, values, np.vectorize(_short)(ratio), "log₁₀ of the ratio", theirs)
    return figure


def _short(value: float) -> str:
    """Two digits of it: 0.33, 27, 2,700, 6.6·10⁸."""
    if value < 1e4:
        return f"{float(f'{value:.2g}'):,g}"
    digits, power = f"{value:.1e}".split("e+")
    return f"{digits}·10{power.lstrip('0').translate(RAISED)}"
