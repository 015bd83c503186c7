"""Figures of the loss itself: value, gradient, and how α and γ share the work. No data is needed."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from focalrepro.config import RunConfig
from focalrepro.losses import sigmoid_focal_loss
from focalrepro.show.style import BLUE, DARK, GREEN, LINES, ORANGE, PURPLE, shades, styled
from focalrepro.study import paper
from focalrepro.training.criteria import LOSSES

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)  # of the paper's Figure 1


def _value_and_slope(x_t: torch.Tensor, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """FL(x_t) without α, and its derivative, by the package's own loss."""
    x = x_t.clone().requires_grad_()
    loss = sigmoid_focal_loss(x, torch.ones_like(x), alpha=-1, gamma=gamma)
    (slope,) = torch.autograd.grad(loss.sum(), x)
    return loss.detach().numpy(), slope.numpy()


def _name(gamma: float) -> str:
    return f"γ = {gamma:g} (cross entropy)" if gamma == 0 else f"γ = {gamma:g}"


@styled
def loss_curves(gammas: Sequence[float] = GAMMAS) -> Figure:
    """The paper's Figure 1: FL(p_t) = -(1 - p_t)^γ log p_t against p_t."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    p_t = torch.linspace(0.005, 0.999, 500, dtype=torch.float64)
    axes.axvspan(0.6, 1, color="#f1f1f1", zorder=0)
    axes.text(0.8, 4.35, "well classified", ha="center", color=DARK, fontsize=9)
    for i, (gamma, colour) in enumerate(zip(gammas, shades(len(gammas)), strict=True)):
        value, _ = _value_and_slope(torch.logit(p_t), gamma)
        axes.plot(p_t, value, color=colour, linestyle=LINES[i % len(LINES)], label=_name(gamma))
    axes.set(xlabel="p_t, the probability given to the true class", ylabel="loss", xlim=(0, 1), ylim=(0, 5))
    axes.set_title("Focal loss against p_t")
    axes.legend(loc="upper left", bbox_to_anchor=(0.19, 0.98))
    return figure


@styled
def gradient_curves(gammas: Sequence[float] = GAMMAS) -> Figure:
    """Loss and size of its gradient against x_t = ±x, the logit signed so that right is positive.

    The appendix's Figures 5 and 6 draw these for two settings.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.8), sharex=True)
    x_t = torch.linspace(-6, 6, 481, dtype=torch.float64)
    for i, (gamma, colour) in enumerate(zip(gammas, shades(len(gammas)), strict=True)):
        value, slope = _value_and_slope(x_t, gamma)
        line = {"color": colour, "linestyle": LINES[i % len(LINES)], "label": _name(gamma)}
        left.plot(x_t, value, **line)
        right.plot(x_t, -slope, **line)
    _loss_beside_gradient(left, right)
    right.legend()
    return figure


def _loss_beside_gradient(left: Axes, right: Axes) -> None:
    """Axes of a loss and of the size of its gradient, both against x_t."""
    left.set(xlabel="x_t", ylabel="loss", title="Loss", ylim=(0, 5), xlim=(-6, 6))
    right.set(xlabel="x_t", ylabel="-dL/dx_t", title="Size of the gradient")
    for axes in (left, right):
        axes.axvline(0, color=DARK, linewidth=0.8)
    left.text(0.15, 4.7, "correct side →", fontsize=9, color=DARK)


VARIANT_COLOURS = (DARK, BLUE, ORANGE, GREEN, PURPLE)
# The losses of Figures 5 and 6, and the hinge that section 3 tried; α is left out, as there.
VARIANTS: dict[str, dict[str, object]] = {
    "cross entropy": {"loss": "focal", "gamma": 0.0},
    "FL, γ = 2": {"loss": "focal", "gamma": 2.0},
    "FL*, γ = 2, β = 1": {"loss": "focal_star", "gamma": 2.0, "beta": 1.0},
    "FL*, γ = 4, β = 0": {"loss": "focal_star", "gamma": 4.0, "beta": 0.0},
    "hinge on p_t": {"loss": "hinge"},
}


def _as_trained(x_t: torch.Tensor, config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """A criterion's value and derivative at each x_t [N], by the function that a training calls."""
    x = x_t.clone().requires_grad_()
    label = torch.zeros(1, 1, dtype=torch.long)  # one anchor of class 0, so x_t is its logit
    losses = torch.stack([LOSSES[config.loss](v.view(1, 1, 1), label, config) for v in x])
    (slope,) = torch.autograd.grad(losses.sum(), x)
    return losses.detach().numpy(), slope.numpy()


@styled
def variant_curves() -> Figure:
    """The appendix's Figures 5 and 6: the losses of VARIANTS and the size of their gradients against x_t."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.0), sharex=True)
    x_t = torch.linspace(-6, 6, 241, dtype=torch.float64)
    for i, (name, changes) in enumerate(VARIANTS.items()):
        value, slope = _as_trained(x_t, RunConfig().replace(alpha=1.0, **changes))
        line = {"color": VARIANT_COLOURS[i], "linestyle": LINES[i % len(LINES)], "label": name}
        left.plot(x_t, value, **line)
        right.plot(x_t, -slope, **line)
    _loss_beside_gradient(left, right)
    left.legend(loc="upper right", bbox_to_anchor=(1.0, 0.92))
    return figure


@styled
def weight_map(
    gammas: Sequence[float], alphas: Sequence[float], p_background: float = 0.01, p_object: float = 0.1
) -> Figure:
    """How many times a hard object weighs as much as an easy background patch, over γ and α.

    p_background, p_object: the object probability that the detector gives to each. Outlined: the α that the
    paper found best for its γ (Table 1b).
    """
    gamma, alpha = np.asarray(gammas)[None, :], np.asarray(alphas)[:, None]
    ratio = alpha * (1 - p_object) ** gamma / ((1 - alpha) * p_background**gamma)
    cells = pd.DataFrame(
        np.log10(ratio), index=[f"{a:g}" for a in alphas], columns=[f"{g:g}" for g in gammas]
    )
    figure, axes = plt.subplots(figsize=(7.6, 4.2))
    texts = np.vectorize(_short)(ratio)
    sns.heatmap(
        cells, annot=texts, fmt="", cmap="viridis", ax=axes, annot_kws={"fontsize": 9}, linewidths=0.5,
        cbar_kws={"label": "log₁₀ of the ratio"},
    )  # fmt: skip
    for row in paper.TABLES["1b"]:
        at = (row.fields["gamma"], row.fields["alpha"])
        if at[0] in gammas and at[1] in alphas:
            corner = (list(gammas).index(at[0]), list(alphas).index(at[1]))
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.5))
    axes.set(xlabel="γ", ylabel="α")
    axes.tick_params(axis="y", rotation=0)
    axes.set_title(f"Weight of an object at p = {p_object:g} ÷ weight of background at p = {p_background:g}")
    return figure


def _short(value: float) -> str:
    """At most four characters or so: 0.33, 27, 4k, 1.2M."""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.2g}{name}" if value / unit < 100 else f"{value / unit:.0f}{name}"
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
