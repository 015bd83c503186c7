"""Boxes as (x1, y1, x2, y2) and as offsets from an anchor: R-CNN's parametrisation, with unit weights."""

import math

import torch
from torch import Tensor

# A box may grow to at most 1000/16 of its anchor: exp() of an untrained output must not overflow (Detectron).
MAX_LOG_SCALE = math.log(1000.0 / 16)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4], x1 y1 x2 y2 in the same unit: [...] in [0, 1]; 0 for boxes
    without area (the padding)."""
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    intersection = overlap[..., 0] * overlap[..., 1]
    union = area(a) + area(b) - intersection
    return torch.where(intersection > 0, intersection / union.clamp(min=1e-9), 0.0)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """`iou` of every pair: [..., A, M] of a [A, 4] and b [..., M, 4]."""
    return iou(a.unsqueeze(-2), b.unsqueeze(-3))


def outside(boxes: Tensor, pictures: Tensor) -> Tensor:
    """Whether centres of boxes [A, 4] lie on the padding around the pictures [B, 4] of B frames: [B, A]."""
    centre, pictures = (boxes[:, :2] + boxes[:, 2:]) / 2, pictures.unsqueeze(1)
    return ((centre < pictures[..., :2]) | (centre >= pictures[..., 2:])).any(-1)


def share_on(boxes: Tensor, pictures: Tensor | None) -> Tensor:
    """On which share of the pictures [N, 4] the centre of each box [A, 4] lies: [A]; without pictures, 1."""
    if pictures is None:
        return torch.ones(len(boxes))
    shapes, counts = pictures.unique(dim=0, return_counts=True)  # letterboxed images share a few
    off = sum(n * outside(boxes, shape[None])[0].float() for shape, n in zip(shapes, counts, strict=True))
    return 1 - off / len(pictures)


def area(boxes: Tensor) -> Tensor:
    """Area of boxes [..., 4] in square units: [...]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Offsets (tx, ty, tw, th) that turn the anchors [..., 4] into the boxes [..., 4]."""
    anchor_size = anchors[..., 2:] - anchors[..., :2]
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-3)
    shift = ((boxes[..., :2] + boxes[..., 2:]) - (anchors[..., :2] + anchors[..., 2:])) / 2 / anchor_size
    return torch.cat([shift, (size / anchor_size).log()], dim=-1)


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode`: boxes [..., 4] from offsets and anchors [..., 4]; not clipped to the image."""
    anchor_size = anchors[..., 2:] - anchors[..., :2]
    center = (anchors[..., :2] + anchors[..., 2:]) / 2 + offsets[..., :2] * anchor_size
    half = offsets[..., 2:].clamp(max=MAX_LOG_SCALE).exp() * anchor_size / 2
    return torch.cat([center - half, center + half], dim=-1)
