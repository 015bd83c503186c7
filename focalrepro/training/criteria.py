"""What a run minimises: a classification loss by its name, and the box loss.

To add a loss of your own, write a function of (logits [B, A, K], labels [B, A], config) that returns the sum over
all anchors as a scalar in fp32, in this file, and put it in LOSSES. Cross entropy and a little of 1 - p_t::

    def with_slope(logits: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
        x_t, weight = signed_logits(logits, labels, config.alpha)
        return (weight * (F.softplus(-x_t) + config.beta * (-x_t).sigmoid())).sum()


    LOSSES["with_slope"] = with_slope

`RunConfig(loss="with_slope", beta=0.5)` then trains with it. Four things to know:

- A run's id knows the loss by its name and not by its body. Change the body and a stored record comes back as done:
  give the changed loss a new name, or remove the record.
- A campaign trains in spawned processes. They import this file and know nothing of a notebook's cells, so a loss
  that is put in LOSSES there serves `focalrepro.runs.run` alone, in that process.
- On a GPU config.alpha, config.gamma and config.beta are scalar tensors there, read by a captured CUDA graph: compute
  with them, and do not ask them (`if config.gamma > 0`, `float(config.alpha)`).
- Such a graph has fixed shapes and never waits. A loss that picks anchors (`x[mask]`, `nonzero`, `int(count)`)
  belongs in DATA_DEPENDENT, too, and is then run without one.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from focalrepro.config import RunConfig
from focalrepro.detector import boxes as box_ops
from focalrepro.losses import signed_logits
from focalrepro.training import mining as ohem
from focalrepro.training.focal_sum import detection_focal_loss


def focal(logits: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """Equation 5; α-balanced cross entropy (equation 3) at γ = 0."""
    return detection_focal_loss(logits, labels, config.alpha, config.gamma)


def focal_star(logits: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """FL* = -α_t log σ(γ x_t + β) / γ (appendix A); RunConfig asks for γ > 0."""
    x_t, weight = signed_logits(logits, labels, config.alpha)
    return (weight * F.softplus(-(config.gamma * x_t + config.beta)) / config.gamma).sum()


HINGE_MARGIN = 0.5


def hinge(logits: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """Hinge loss on p_t (section 3): α_t max(0, margin - p_t), so nothing once p_t is above the margin."""
    x_t, weight = signed_logits(logits, labels, config.alpha)
    return (weight * (HINGE_MARGIN - x_t.sigmoid()).clamp(min=0)).sum()


LOSSES: dict[str, Callable[[Tensor, Tensor, RunConfig], Tensor]] = {
    "focal": focal,
    "focal_star": focal_star,
    "hinge": hinge,
    "ohem": ohem.ohem,
    "hard_negatives": ohem.hard_negatives,
}
# These pick anchors by their loss: how many operations that takes depends on the data.
DATA_DEPENDENT = {"ohem", "hard_negatives"}


def get_loss(name: str) -> Callable[[Tensor, Tensor, RunConfig], Tensor]:
    """The loss of that name; ValueError lists the names that there are."""
    if name not in LOSSES:
        raise ValueError(f"RunConfig.loss is {name!r}; there are {', '.join(sorted(LOSSES))}")
    return LOSSES[name]


def box_loss(offsets: Tensor, anchors: Tensor, targets: Tensor, positive: Tensor, beta: float) -> Tensor:
    """Smooth L1 between predicted and true offsets, summed over the positive anchors: a scalar in fp32.

    offsets [B, A, 4], anchors [A, 4], targets [B, A, 4] boxes, positive [B, A]; beta is where L1 begins.
    """
    if (
        offsets.device.type == "cpu"
    ):  # pick the one anchor in a thousand; a GPU would have to wait for its count
        image, anchor = positive.nonzero(as_tuple=True)
        return smooth_l1(
            offsets[image, anchor].float() - box_ops.encode(targets[image, anchor], anchors[anchor]), beta
        ).sum()
    return dense_box_loss(offsets, anchors, targets, positive, beta)


def dense_box_loss(
    offsets: Tensor, anchors: Tensor, targets: Tensor, positive: Tensor, beta: float
) -> Tensor:
    """`box_loss` without a shape that depends on the data: every anchor is computed, most count nothing."""
    difference = offsets.float() - box_ops.encode(targets, anchors)
    return torch.where(positive.unsqueeze(-1), smooth_l1(difference, beta), 0.0).sum()


def smooth_l1(difference: Tensor, beta: float) -> Tensor:
    """Elementwise smooth L1: x²/2β below β, |x| - β/2 above."""
    size = difference.abs()
    return torch.where(size < beta, size * size / (2 * beta), size - beta / 2)
