"""How rare objects are among a dataset's anchors, and which a set of anchors can learn at all (Table 1c)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector import boxes as box_ops
from focalrepro.detector.matching import BACKGROUND, IGNORED, match_dataset
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.tables import table
from focalrepro.study.ablations import get_ablation
from focalrepro.training.batches import batches, config_anchors

BATCHES = 500  # of a training that `divisors` looks at: on photos all of them would take minutes


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
    def background_per_positive(self) -> float:
        """Background anchors for each one that is assigned to an object."""
        return float(self.levels["background"].sum()) / max(self.levels["positive"].sum(), 1e-9)


def measure(data: DetectionData, config: RunConfig, limit: int = 300) -> Imbalance:
    """Matches the first `limit` images to the config's anchors, as a training does, and counts."""
    grid, rows = config_anchors(config), []
    boxes, labels = data.boxes[:limit], data.labels[:limit]
    pictures = None if data.pictures is None else data.pictures[:limit]
    match = _matched(data, config, slice(limit))
    shown = None if pictures is None else torch.from_numpy(pictures)
    on_picture = box_ops.share_on(grid.boxes, shown).split(grid.per_level)
    for level, part, on in zip(grid.levels, match.split(grid.per_level, dim=1), on_picture, strict=True):
        count = float(on.sum())  # the others are on padding, and ignored
        entry = {"level": f"P{level}", "side": config.anchor_size * 2**level, "anchors": round(count)}
        entry["positive"] = float((part >= 0).sum()) / len(boxes)
        entry["ignored"] = float((part == IGNORED).sum()) / len(boxes) - (part.shape[1] - count)
        rows.append(entry | {"background": float((part == BACKGROUND).sum()) / len(boxes)})
    best = []
    for row in np.flatnonzero((labels >= 0).any(1)):
        iou = box_ops.pairwise_iou(grid.boxes, torch.from_numpy(boxes[row][labels[row] >= 0]))
        if shown is not None:
            iou[box_ops.outside(grid.boxes, shown[row : row + 1])[0]] = 0
        best.append(iou.amax(0).numpy())
    area = box_ops.area(torch.from_numpy(boxes[labels >= 0])).numpy()
    octave = [2 ** (k / config.anchor_scales) for k in range(config.anchor_scales)]
    return Imbalance(
        images=len(boxes),
        levels=pd.DataFrame(rows).set_index("level"),
        best_iou=np.concatenate(best) if best else np.zeros(0, np.float32),
        sides=np.sqrt(area),
        anchor_sides=tuple(config.anchor_size * 2**level * k for level in config.levels for k in octave),
    )


def _matched(data: DetectionData, config: RunConfig, rows: slice | np.ndarray) -> torch.Tensor:
    """The object of each anchor of some images, or BACKGROUND or IGNORED: [images, anchors]."""
    boxes, labels = data.boxes[rows], data.labels[rows]
    pictures = None if data.pictures is None else data.pictures[rows]
    thresholds = config.pos_iou, config.neg_iou, config.best_iou
    anchors = config_anchors(config).boxes
    return match_dataset(anchors, boxes, labels, torch.device("cpu"), pictures, *thresholds)


def divisors(data: DetectionData, config: RunConfig) -> dict[str, float]:
    """What a training's first batches would be divided by, of whole images; data: the training split.

    The share of batches in which no image has an object, in percent; quantiles of the anchors that are
    assigned in a batch; and the mean weight of a term of the background, as the paper divides and with one
    more for each image, in parts of its weight where each batch is divided by the mean number.
    """
    index = batches(len(data.labels), config)[0][:BATCHES]
    images, places = np.unique(index, return_inverse=True)
    parts = np.split(images, range(256, len(images), 256))
    each = np.concatenate([(_matched(data, config, part) >= 0).sum(1).numpy() for part in parts])
    assigned = each[places.reshape(index.shape)].sum(1)
    found = {"without objects": 100 * float((data.labels < 0).all(1)[index].all(1).mean())}
    found |= {f"{q:.0%} have at most": float(np.quantile(assigned, q)) for q in (0.05, 0.5, 0.95)}
    weights = {"the paper": assigned.clip(1), "one more for each image": assigned + index.shape[1]}
    return found | {f"weight, {name}": float((assigned.mean() / by).mean()) for name, by in weights.items()}


def reach(best_iou: np.ndarray, thresholds: Sequence[float] = (0.4, 0.5, 0.6, 0.7)) -> pd.Series:
    """For each IoU: the share, in percent, of objects whose best anchor overlaps them at least so much."""
    shares = [100 * float((best_iou >= t).mean()) if len(best_iou) else np.nan for t in thresholds]
    return pd.Series(shares, pd.Index(thresholds, name="IoU at least"), name="objects reached, %")


def reach_of_rows(data: DetectionData, e: Evidence) -> pd.DataFrame:
    """`tables.table` of Table 1c with, per row: anchors an image, and the shares of the objects of the first
    images that they reach at an IoU of .5 (`reach_50`) and .4 (`reach_40`), in percent."""
    frame = table(e, "1c")
    for i, row in enumerate(get_ablation("1c").rows_for(e.study.base)):
        measured = measure(data, e.study.base.replace(**row.changes))
        frame.loc[i, "anchors"] = measured.anchors
        frame.loc[i, ["reach_40", "reach_50"]] = reach(measured.best_iou, (0.4, 0.5)).to_list()
    return frame
