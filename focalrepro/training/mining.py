"""Online hard example mining (section 5.1, Table 1d): choose the anchors to learn from, weigh them all alike.

Both choose by the cross entropy of each anchor, summed over its classes, and both return the sum of the cross
entropy over the chosen; like every loss here it is then divided by the number of positive anchors: all of the
batch's, also those that were not chosen.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, nms

from focalrepro.config import RunConfig
from focalrepro.losses import BACKGROUND, IGNORED, signed_logits
from focalrepro.training.batches import config_anchors
from focalrepro.training.dials import Dials

# A GPU's NMS is quadratic in its candidates: it sees this many of the hardest for each anchor of the batch.
CANDIDATES = 16
# With a ratio, positives decide how large the batch is. They are among the hardest, so fewer candidates do.
CANDIDATES_WITH_RATIO = 4


@lru_cache(maxsize=4)
def _anchor_boxes(config: RunConfig, device: torch.device) -> Tensor:
    return config_anchors(config).boxes.to(device)


@lru_cache(maxsize=1)  # a tensor is the same key only where it is the same object
def _overlapping(boxes: Tensor, overlap: float) -> list[np.ndarray]:
    """Of each anchor the indices of those that it suppresses, by overlaps as torchvision's NMS has them."""
    near = []
    for some in boxes.split(256):  # all pairs at once would take gigabytes
        near += [row.nonzero()[0] for row in (box_iou(some, boxes).double() > overlap).numpy()]
    return near


def _anchor_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each anchor [B, A], summed over classes; 0 on ignored ones."""
    x_t, _ = signed_logits(logits, labels, 0.5)
    return F.softplus(-x_t).sum(-1) * (labels != IGNORED)


def ohem(logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
    """Each image's ohem_batch anchors of highest loss, after NMS at ohem_nms among the anchors by their loss.

    With ohem_ratio r the batch has at most 1/(1+r) positives, and r negatives for each of them; where none is
    left it still has r negatives. These positives are the ones that survive NMS, while `step` divides the sum
    by all positives: the loss is then smaller than one divided by its own. normalizer "picked" mends that.
    """
    config = dials.config
    boxes = _anchor_boxes(config, logits.device)
    losses = _anchor_losses(logits, labels)
    total, picked = losses.new_zeros(()), 0
    for loss, label in zip(losses, labels, strict=True):
        chosen = choose(loss.detach(), label, boxes, config)
        total = total + loss[chosen].sum()
        picked += len(chosen)
    if config.normalizer == "picked":  # so that a step's division by the positives makes it a mean
        return total * (labels >= 0).sum().clamp(min=1) / max(picked, 1)
    return total


def choose(loss: Tensor, label: Tensor, boxes: Tensor, config: RunConfig) -> Tensor:
    """Indices of one image's chosen anchors, from loss [A], label [A] and boxes [A, 4].

    NMS is greedy, so what it keeps of the hardest candidates does not depend on the easier ones: it begins
    with few candidates and takes more only where these do not fill the batch.
    """
    candidates = CANDIDATES_WITH_RATIO if config.ohem_ratio else CANDIDATES
    most = min(candidates * config.ohem_batch, len(loss))
    order = loss.topk(most).indices
    count = min(2 * config.ohem_batch, most)
    while True:
        hardest = order[:count]
        if boxes.is_cuda:
            kept = hardest[nms(boxes[hardest], loss[hardest].float(), config.ohem_nms)]  # hardest first
        else:
            kept = _survivors(hardest, boxes, config.ohem_nms)
        chosen, full = _batch(kept[label[kept] != IGNORED], label, config)
        if full or count == most:
            return chosen
        count = min(2 * count, most)


def _survivors(hardest: Tensor, boxes: Tensor, overlap: float) -> Tensor:
    """Those of the anchors `hardest`, hardest first, that NMS keeps.

    On a CPU torchvision's computes overlaps anew at each step, which took up to two thirds of it; but anchors
    stay where they are.
    """
    near, kept = _overlapping(boxes, overlap), []
    gone = np.zeros(len(near), dtype=bool)
    for anchor in hardest.tolist():
        if not gone[anchor]:
            kept.append(anchor)
            gone[near[anchor]] = True
    return torch.tensor(kept)


def _batch(kept: Tensor, label: Tensor, config: RunConfig) -> tuple[Tensor, bool]:
    """The first anchors of `kept` that make up the batch, and whether more candidates could not change it."""
    size, ratio = config.ohem_batch, config.ohem_ratio
    if not ratio:
        return kept[:size], len(kept) >= size
    most = max(1, round(size / (1 + ratio)))
    positive = kept[label[kept] >= 0][:most]
    wanted = round(ratio * max(1, len(positive)))
    negative = kept[label[kept] == BACKGROUND][:wanted]
    full = len(positive) == most and len(negative) == wanted
    return torch.cat([positive, negative])[:size], full


def hard_negatives(logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
    """SSD's variant: every positive anchor, and for each of them the ohem_ratio (3 if 0) hardest negatives.

    An image without positives keeps ohem_ratio negatives, as one with a single positive does. Sorted ranks in
    place of a count for each image: nothing waits for a GPU.
    """
    ratio = dials.config.ohem_ratio or 3.0
    losses, positive = _anchor_losses(logits, labels), labels >= 0
    wanted = (ratio * positive.sum(1, keepdim=True).clamp(min=1)).round()
    negatives = (losses * (labels == BACKGROUND)).sort(dim=1, descending=True).values
    kept = torch.arange(negatives.shape[1], device=negatives.device) < wanted
    total = (losses * positive).sum() + (negatives * kept).sum()
    if dials.config.normalizer == "picked":
        return total * positive.sum().clamp(min=1) / (positive.sum() + wanted.sum())
    return total
