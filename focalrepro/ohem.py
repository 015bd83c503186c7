"""Online hard example mining (section 5.1, Table 1d): choose the anchors to learn from, weigh them all alike.

Both choose by the cross entropy of each anchor, summed over its classes, and both return the sum of the cross
entropy over the chosen; like every loss here it is then divided by the number of positive anchors.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

from focalrepro.anchors import make_anchors
from focalrepro.config import RunConfig
from focalrepro.losses import signed_logits
from focalrepro.matching import BACKGROUND, IGNORED

# NMS is quadratic in its candidates; the hardest 16 per kept anchor leave enough after suppression.
CANDIDATES = 16


@lru_cache(maxsize=4)
def _anchor_boxes(geometry: tuple, device: torch.device) -> Tensor:
    return make_anchors(*geometry).boxes.to(device)


def _anchor_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each anchor [B, A], summed over classes; 0 on ignored ones."""
    x_t, _ = signed_logits(logits, labels, 0.5)
    return (F.softplus(-x_t).sum(-1)) * (labels != IGNORED)


def ohem(logits: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """Each image's ohem_batch anchors of highest loss, after NMS at ohem_nms among the anchors by their loss.

    With ohem_ratio r the batch has at most 1/(1+r) positives, and r negatives for each of them.
    """
    boxes = _anchor_boxes(
        (config.image_size, config.levels, config.anchor_size, config.anchor_scales, config.anchor_ratios),
        logits.device,
    )
    losses = _anchor_losses(logits, labels)
    total = losses.new_zeros(())
    for loss, label in zip(losses, labels, strict=True):
        hardest = loss.detach().topk(min(CANDIDATES * config.ohem_batch, len(loss))).indices
        kept = hardest[nms(boxes[hardest], loss.detach()[hardest].float(), config.ohem_nms)]  # hardest first
        kept = kept[label[kept] != IGNORED]
        if config.ohem_ratio:
            positive = kept[label[kept] >= 0][: max(1, round(config.ohem_batch / (1 + config.ohem_ratio)))]
            negatives = round(config.ohem_ratio * max(1, len(positive)))
            kept = torch.cat([positive, kept[label[kept] == BACKGROUND][:negatives]])
        total = total + loss[kept[: config.ohem_batch]].sum()
    return total


def hard_negatives(logits: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """SSD's variant: every positive anchor, and for each of them the ohem_ratio (3 if 0) hardest negatives."""
    ratio = config.ohem_ratio or 3.0
    losses = _anchor_losses(logits, labels)
    total = (losses * (labels >= 0)).sum()
    for loss, label in zip(losses, labels, strict=True):
        negatives = loss * (label == BACKGROUND)
        wanted = round(ratio * max(1, int((label >= 0).sum())))
        total = total + negatives.topk(min(wanted, len(negatives))).values.sum()
    return total
