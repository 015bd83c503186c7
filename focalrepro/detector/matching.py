"""Which anchor learns which object (section 4): object at IoU >= 0.5, background below 0.4, ignored between.

A match is one small integer per anchor: the object's index in the image's list of boxes, or BACKGROUND or
IGNORED. Boxes and labels follow from it by a gather, so the match of a whole dataset fits in memory and is
computed once: geometry does not change during training.
"""

import numpy as np
import torch
from torch import Tensor

from focalrepro.detector import boxes as box_ops
from focalrepro.losses import BACKGROUND, IGNORED

PAIRS_AT_ONCE = 2**24  # of an anchor and an object: bounds the memory that matching a batch takes


def match(
    anchors: Tensor,
    boxes: Tensor,
    valid: Tensor,
    pos_iou: float = 0.5,
    neg_iou: float = 0.4,
    best_iou: float = 0.4,
    pictures: Tensor | None = None,
) -> Tensor:
    """Matches anchors [A, 4] to the boxes [B, M, 4] of B images; valid [B, M] is False on padding.

    As in the authors' code, though not in the paper, an object's best anchors are positive even below
    pos_iou, unless their IoU is below best_iou (or 0: an object that no anchor touches has none). Such an
    anchor goes to the object that it is best for; in the authors' code it goes to the object that it overlaps
    most. An anchor whose centre lies on the padding around its picture (pictures [B, 4]) is ignored: it is
    nobody's, and easier than any background. Returns: int16 [B, A], an index into M, BACKGROUND or IGNORED.
    """
    iou = box_ops.pairwise_iou(anchors, boxes).masked_fill(~valid.unsqueeze(-2), -1.0)  # [B, A, M]
    if pictures is not None:
        padding = box_ops.outside(anchors, pictures)
        iou = iou.masked_fill(padding.unsqueeze(-1), -1.0)
    value, index = iou.max(dim=-1)
    result = torch.full_like(index, IGNORED)
    result[value < neg_iou if pictures is None else (value < neg_iou) & ~padding] = BACKGROUND
    result = torch.where(value >= pos_iou, index, result)
    best = iou.max(dim=1, keepdim=True).values  # [B, 1, M]: how well each object is covered at all
    forced = (iou == best) & (best >= best_iou) & (best > 0) & valid.unsqueeze(-2)
    own = torch.where(forced, iou, -1.0).max(dim=-1)
    return torch.where(own.values >= 0, own.indices, result).to(torch.int16)


def match_dataset(
    anchors: Tensor,
    boxes: np.ndarray,
    labels: np.ndarray,
    device: torch.device,
    pictures: np.ndarray | None = None,
    *thresholds: float,
    out: Tensor | None = None,
) -> Tensor:
    """Matches of a dataset's images: int16 [N, A], or `out`, of another whole type, filled with them.

    boxes [N, M, 4] in the frame's pixels, labels [N, M] with -1 for padding; pictures as in DetectionData;
    thresholds: pos_iou, neg_iou and best_iou of `match`. Images with equally many boxes go together, so that
    padding costs next to nothing.
    """
    count = (labels >= 0).sum(1)
    order = np.argsort(count, kind="stable")
    anchors = anchors.to(device)
    shape = len(boxes), len(anchors)
    result = torch.empty(shape, dtype=torch.int16, device=device) if out is None else out
    chunk, start = 256 if device.type == "cuda" else 8, 0
    while start < len(order):
        rows = order[start : start + chunk]
        most = max(int(count[rows].max()), 1)
        rows = rows[: max(1, PAIRS_AT_ONCE // (len(anchors) * most))]
        start += len(rows)
        batch = torch.from_numpy(boxes[rows, :most]).to(device)
        valid = torch.from_numpy(labels[rows, :most] >= 0).to(device)
        shown = None if pictures is None else torch.from_numpy(pictures[rows]).to(device)
        found = match(anchors, batch, valid, *thresholds, pictures=shown)
        result[torch.from_numpy(rows).to(device)] = found.to(result.dtype)
    return result
