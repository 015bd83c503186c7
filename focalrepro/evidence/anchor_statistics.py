"""How rare objects are among anchors, and which a set of anchors can learn at all (Table 1c), on a
dataset."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector import boxes as box_ops
from focalrepro.detector.anchors import anchor_shapes
from focalrepro.detector.matching import BACKGROUND, IGNORED, match_dataset
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.tables import table
from focalrepro.losses import focal_terms
from focalrepro.study.ablations import get_ablation
from focalrepro.training.batches import config_anchors


@dataclass(frozen=True, eq=False)
class Imbalance:
    """Counts over the first `images` images of a split.

    levels: one row per pyramid level, per image: anchors, positive, ignored, background; side is the smallest
    anchor's in pixels. best_iou [objects]: each object's IoU with its best anchor. sides [objects]: the
    square root of each object's area, in pixels of the frame. anchor_sides: of all anchor sizes, in pixels.
    """

    images: int
    levels: pd.DataFrame
    best_iou: np.ndarray
    sides: np.ndarray
    anchor_sides: tuple[float, ...]

    @property
    def anchors(self) -> int:
        """Anchors per image."""
        return int(self.levels["anchors"].sum())

    @property
    def objects(self) -> float:
        """Objects per image."""
        return len(self.sides) / self.images

    @property
    def positive(self) -> float:
        """Anchors assigned to an object, per image."""
        return float(self.levels["positive"].sum())

    @property
    def background_per_positive(self) -> float:
        """How many background anchors there are for each positive one."""
        return float(self.levels["background"].sum()) / max(self.positive, 1e-9)


def measure(data: DetectionData, config: RunConfig, limit: int = 300) -> Imbalance:
    """Matches the first `limit` images to the config's anchors, as a training does, and counts."""
    grid = config_anchors(config)
    boxes, labels = data.boxes[:limit], data.labels[:limit]
    thresholds = {"pos_iou": config.pos_iou, "neg_iou": config.neg_iou, "best_iou": config.best_iou}
    match = match_dataset(grid.boxes, boxes, labels, config.image_size, torch.device("cpu"), **thresholds)[0]
    rows = []
    for level, part in zip(grid.levels, match.split(grid.per_level, dim=1), strict=True):
        rows.append(
            {
                "level": f"P{level}",
                "stride": 2**level,
                "side": config.anchor_size * 2**level,
                "anchors": part.shape[1],
                "positive": float((part >= 0).sum()) / len(boxes),
                "ignored": float((part == IGNORED).sum()) / len(boxes),
                "background": float((part == BACKGROUND).sum()) / len(boxes),
            }
        )
    best = [
        box_ops.pairwise_iou(grid.boxes, torch.from_numpy(b[valid])).amax(0).numpy()
        for b, valid in zip(boxes, labels >= 0, strict=True)
        if valid.any()
    ]
    area = box_ops.area(torch.from_numpy(boxes[labels >= 0])).numpy()
    octave = [2 ** (k / config.anchor_scales) for k in range(config.anchor_scales)]
    return Imbalance(
        images=len(boxes),
        levels=pd.DataFrame(rows).set_index("level"),
        best_iou=np.concatenate(best) if best else np.zeros(0, np.float32),
        sides=np.sqrt(area),
        anchor_sides=tuple(config.anchor_size * 2**level * k for level in config.levels for k in octave),
    )


def reach(best_iou: np.ndarray, thresholds: Sequence[float] = (0.4, 0.5, 0.6, 0.7)) -> pd.DataFrame:
    """For each IoU: how many objects have no anchor that overlaps them at least so much, and their share."""
    missed = [int((best_iou < t).sum()) for t in thresholds]
    share = [100 * m / max(len(best_iou), 1) for m in missed]
    index = pd.Index(thresholds, name="IoU at least")
    return pd.DataFrame({"objects without an anchor": missed, "share, %": share}, index=index)


def best_iou(boxes: np.ndarray, config: RunConfig) -> np.ndarray:
    """IoU of each box [O, 4], in the frame's pixels, with the config's best anchor: [O].

    A level's anchors of one shape differ in their place only, and their overlap with a box shrinks with their
    distance from it in x and in y. So the best of them is the one whose centre is nearest to the box's, and
    one anchor a level and shape need be tried instead of all.
    """
    best = np.zeros(len(boxes))
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    for level in config.levels:
        stride = 2**level
        cells = -(-config.image_size // stride)
        center = (np.clip(middle // stride, 0, cells - 1) + 0.5)[:, None] * stride  # [O, 1, 2]
        shapes = anchor_shapes(config.anchor_size * stride, config.anchor_scales, config.anchor_ratios)
        shapes = shapes.double().numpy()  # [S, 2]
        low = np.maximum(boxes[:, None, :2], center - shapes / 2)
        high = np.minimum(boxes[:, None, 2:], center + shapes / 2)
        overlap = (high - low).clip(min=0).prod(-1)  # [O, S]
        union = area[:, None] + shapes.prod(-1) - overlap
        best = np.maximum(best, (overlap / union).max(1))
    return best


def reach_of_rows(data: DetectionData, e: Evidence, name: str = "1c") -> pd.DataFrame:
    """`tables.table` of an ablation of anchors with, per row: anchors an image, and the shares of the objects
    of `data` whose best anchor has an IoU of .5 (`reach_50`) or .4 (`reach_40`) at least, in percent.
    """
    boxes = data.boxes[data.labels >= 0].astype(float)
    frame = table(e, name)
    for i, row in enumerate(get_ablation(name).rows_for(e.study.base)):
        config = e.study.base.replace(**row.changes)
        iou = best_iou(boxes, config)
        frame.loc[i, "anchors"] = len(config_anchors(config).boxes)
        frame.loc[i, "reach_50"] = 100 * float((iou >= 0.5).mean())
        frame.loc[i, "reach_40"] = 100 * float((iou >= 0.4).mean())
    return frame


def drowning(
    background: int = 100_000,
    objects: int = 100,
    p_background: float = 0.01,
    p_object: float = 0.1,
    losses: Sequence[tuple[float, float]] = ((0.5, 0.0), (0.75, 0.0), (0.25, 2.0)),
) -> pd.DataFrame:
    """Who owns the loss when many easy background anchors meet a few hard objects, for several (α, γ).

    p_background, p_object: the object probability that the detector gives to each. Losses are sums.
    """
    logits = torch.tensor([[math.log(p / (1 - p))] for p in (p_background, p_object)], dtype=torch.float64)
    labels = torch.tensor([BACKGROUND, 0])
    rows = []
    for alpha, gamma in losses:
        one = focal_terms(logits, labels, alpha, gamma).squeeze(1).tolist()
        sums = (background * one[0], objects * one[1])
        name = f"focal loss, γ = {gamma:g}" if gamma else "cross entropy"
        rows.append(
            {
                "loss": f"{name}, α = {alpha:g}",
                "one background": one[0],
                "one object": one[1],
                "all background": sums[0],
                "all objects": sums[1],
                "objects' share, %": 100 * sums[1] / sum(sums),
            }
        )
    return pd.DataFrame(rows).set_index("loss")


def first_loss(
    prior: float, alpha: float, gamma: float, anchors: int = 100_000, classes: int = 80, positive: int = 100
) -> float:
    """The classification loss of an untrained detector that says `prior` everywhere, per positive anchor."""
    logit = torch.tensor([[math.log(prior / (1 - prior))]], dtype=torch.float64)
    one_object, one_background = (
        float(focal_terms(logit, torch.tensor([label]), alpha, gamma)) for label in (0, BACKGROUND)
    )
    return (positive * one_object + (anchors * classes - positive) * one_background) / positive
