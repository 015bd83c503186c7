"""What a run minimises: a classification loss by its name, and the box loss.

A loss in a file of your own needs nothing of this: `own_loss.py`. To build one in, write a function of
(logits [B, A, K], labels [B, A], dials) that returns the sum over all anchors as a scalar in fp32, in this
file, and put it in LOSSES. Cross entropy and a little of 1 - p_t::

    def with_slope(logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
        x_t, weight = signed_logits(logits, labels, dials.alpha)
        return (weight * (F.softplus(-x_t) + dials.beta * (-x_t).sigmoid())).sum()


    LOSSES["with_slope"] = with_slope

`RunConfig(loss="with_slope", beta=0.5)` then trains with it. Three things to know:

- A run's id knows such a loss by its name and not by its body: a changed body wants a new name.
- On a GPU the numbers in dials are scalar tensors there, read by a captured CUDA graph: compute with them,
  and do not ask them (`if dials.gamma > 0`, `float(dials.alpha)`).
- Such a graph has fixed shapes and never waits. A loss that picks anchors (`x[mask]`, `nonzero`,
  `int(count)`) belongs in DATA_DEPENDENT, too, and is then run without one.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from focalrepro.config import RunConfig, did_you_mean
from focalrepro.detector import boxes as box_ops
from focalrepro.losses import IGNORED, at_least_fp32, focal_terms, is_class, signed_logits
from focalrepro.training import mining, own_loss
from focalrepro.training.dials import Dials
from focalrepro.training.focal_sum import detection_focal_loss


def focal(logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
    """Equation 5; α-balanced cross entropy (equation 3) at γ = 0."""
    return detection_focal_loss(logits, labels, dials.alpha, dials.gamma)


def focal_star(logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
    """FL* = -α_t log σ(γ x_t + β) / γ (appendix A); RunConfig asks for γ > 0."""
    x_t, weight = signed_logits(logits, labels, dials.alpha)
    return (weight * F.softplus(-(dials.gamma * x_t + dials.beta)) / dials.gamma).sum()


HINGE_MARGIN = 0.5


def hinge(logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
    """Hinge loss on p_t (section 5.1): α_t max(0, margin - p_t), so nothing once p_t is above the margin."""
    x_t, weight = signed_logits(logits, labels, dials.alpha)
    return (weight * (HINGE_MARGIN - x_t.sigmoid()).clamp(min=0)).sum()


def asymmetric(logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
    """-α_t (1 - p_t)^γ_t log p_t, where γ_t is gamma_object of an object's terms and gamma of all others.

    Ridnik et al. 2021 (arXiv 2009.14119), equation 4, with the α of focal loss and without the shift of their
    equation 5.
    """
    gamma = torch.where(is_class(labels, logits), dials.gamma_object, dials.gamma)
    return focal_terms(logits, labels, dials.alpha, gamma).sum()


def poly1(logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
    """FL + ε α_t (1 - p_t)^(γ + 1): the first coefficient of the loss as a series in 1 - p_t, moved by ε.

    Leng et al. 2022 (arXiv 2204.12511), section 6 for focal loss.
    """
    x_t, weight = signed_logits(logits, labels, dials.alpha)
    log_miss = -F.softplus(x_t)
    focal = (dials.gamma * log_miss).exp() * F.softplus(-x_t)
    return (weight * (focal + dials.epsilon * ((dials.gamma + 1) * log_miss).exp())).sum()


GHM_BINS = 30
GHM_MEMORY = 0.75  # of the steps before, as the authors' code has it
LANES = 256  # that count apart: most terms share a region, and a GPU adds to one place one after another


def ghm(logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
    """GHM-C: the cross entropy of each term divided by how many terms have a gradient like its own.

    Li et al. 2019 (arXiv 1811.05181), equations 8 to 10, with 30 unit regions: with g = 1 - p_t, the mean
    over the regions that are not empty of the mean cross entropy in each. It is a mean by itself (MEANS).
    normalizer "moving" takes the moving average of each region's count, as they do; it begins at 0, as in
    the authors' code. Where no step keeps one, the batch's own counts.
    """
    x_t, _ = signed_logits(logits, labels, 0.5)
    kept = (labels != IGNORED).unsqueeze(-1).expand_as(x_t)
    # A logit that is NaN ends the training as diverged, and must not index anything before that.
    region = ((-x_t.detach()).sigmoid() * GHM_BINS).nan_to_num(0.0).long().clamp(max=GHM_BINS - 1)
    lane = torch.arange(region.numel(), device=region.device) % LANES * GHM_BINS
    counts = region.new_zeros(LANES * GHM_BINS)
    counts.index_add_(0, region.reshape(-1) + lane, kept.reshape(-1).long())
    count = counts.view(LANES, GHM_BINS).sum(0)
    shared = count.clamp(min=1).to(x_t.dtype)
    if dials.config.normalizer == "moving" and dials.average is not None:
        average = dials.average.mul_(GHM_MEMORY).add_(count, alpha=1 - GHM_MEMORY)
        shared = torch.where(count > 0, average, 1.0).to(x_t.dtype)
    weight = kept / shared[region]
    return (weight * F.softplus(-x_t)).sum() / (count > 0).sum()


def quality(logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
    """Quality focal loss: |y - p|^γ times the cross entropy with y. No α.

    y is the IoU of the predicted box at its object's class and 0 everywhere else. Li et al. 2020 (arXiv
    2006.04388), equation 3 (their β is γ here).
    """
    x = at_least_fp32(logits)
    target = torch.where(is_class(labels, logits), dials.quality.unsqueeze(-1), 0.0)
    cross_entropy = F.softplus(x) - target * x
    terms = (target - x.sigmoid()).abs().clamp(min=1e-12) ** dials.gamma * cross_entropy
    return (terms * (labels != IGNORED).unsqueeze(-1)).sum()


Loss = Callable[[Tensor, Tensor, Dials], Tensor]
BUILT_IN = (focal, focal_star, hinge, mining.ohem, mining.hard_negatives, asymmetric, poly1, ghm, quality)
LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in BUILT_IN}
# These pick anchors by their loss: how many operations that takes depends on the data.
DATA_DEPENDENT = {"ohem"}
MEANS = {"ghm"}  # returned as a mean, which nothing more divides
QUALITY = {"quality"}  # these read dials.quality, which a step makes for them


def get_loss(name: str) -> Loss:
    """The loss of that name, or the user's own as `own_loss` names it; ValueError lists those there are."""
    if own_loss.OWN.fullmatch(name):
        return own_loss.load(name)
    if name not in LOSSES:
        hint = did_you_mean(name, LOSSES)
        raise ValueError(f"RunConfig.loss is {name!r}; there are {', '.join(sorted(LOSSES))}{hint}")
    return LOSSES[name]


def box_loss(
    offsets: Tensor, anchors: Tensor, targets: Tensor, positive: Tensor, config: RunConfig
) -> Tensor:
    """Smooth L1 between predicted and true offsets, summed over the positive anchors: a scalar in fp32.

    offsets [B, A, 4], anchors [A, 4], targets [B, A, 4] boxes, positive [B, A].
    """
    if offsets.device.type == "cpu":  # one anchor in a thousand, for whose count a GPU would have to wait
        anchors = anchors.expand_as(targets)
        offsets, anchors, targets, positive = (t[positive] for t in (offsets, anchors, targets, positive))
    return dense_box_loss(offsets, anchors, targets, positive, config)


def dense_box_loss(
    offsets: Tensor, anchors: Tensor, targets: Tensor, positive: Tensor, config: RunConfig
) -> Tensor:
    """`box_loss` without a shape that depends on the data: every anchor is computed, most count nothing."""
    terms = smooth_l1(offsets.float() - box_ops.encode(targets, anchors), config.box_beta).sum(-1)
    return torch.where(positive, terms, 0.0).sum()


def smooth_l1(difference: Tensor, beta: float) -> Tensor:
    """Elementwise smooth L1: x²/2β below β, |x| - β/2 above."""
    size = difference.abs()
    return torch.where(size < beta, size * size / (2 * beta), size - beta / 2)


@torch.no_grad()
def box_quality(offsets: Tensor, anchors: Tensor, targets: Tensor, positive: Tensor) -> Tensor:
    """IoU [B, A] of each positive anchor's predicted box with its object, 0 elsewhere; see `box_loss`."""
    return torch.where(positive, box_ops.iou(box_ops.decode(offsets.float(), anchors), targets), 0.0)
