"""Which objects a set of anchors can learn at all: those with an anchor that overlaps them enough (Table 1c)."""

import numpy as np
import pandas as pd

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector.anchors import anchor_shapes
from focalrepro.narrate_tables import NONE
from focalrepro.results import table
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import get_profile
from focalrepro.training.batches import config_anchors

LEAST = 3  # rows without which a correlation says nothing


def best_iou(boxes: np.ndarray, config: RunConfig) -> np.ndarray:
    """IoU of each box [O, 4], in the frame's pixels, with the config's best anchor: [O].

    A level's anchors of one shape differ in their place only, and their overlap with a box shrinks with their
    distance from it in x and in y. So the best of them is the one whose centre is nearest to the box's, and one
    anchor a level and shape need be tried instead of all.
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


def measure(data: DetectionData, profile: str, records: list[dict], name: str = "1c") -> pd.DataFrame:
    """`results.table` of an ablation of anchors with, per row: anchors an image, and the shares of the objects of
    `data` whose best anchor has an IoU of .5 (`reach_50`) or .4 (`reach_40`) at least, in percent.
    """
    base = get_profile(profile).base
    boxes = data.boxes[data.labels >= 0].astype(float)
    frame = table(records, profile, name)
    for i, row in enumerate(get_ablation(name).rows_for(base)):
        config = base.replace(**row.changes)
        iou = best_iou(boxes, config)
        frame.loc[i, "anchors"] = len(config_anchors(config).boxes)
        frame.loc[i, "reach_50"] = 100 * float((iou >= 0.5).mean())
        frame.loc[i, "reach_40"] = 100 * float((iou >= 0.4).mean())
    return frame


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """`measure` for the eye."""
    one = lambda v: NONE if pd.isna(v) else f"{v:.1f}"  # noqa: E731
    columns = {
        "anchors an image": frame["anchors"].map("{:,.0f}".format),
        "objects reached at IoU ≥ .5, %": frame["reach_50"].map(one),
        "at IoU ≥ .4, %": frame["reach_40"].map(one),
        "AP": frame["AP"].map(one),
        "paper AP": frame["paper_AP"].map(one),
    }
    return pd.DataFrame(columns).set_axis(pd.Index(frame["row"], name=""), axis=0)


def reading(frame: pd.DataFrame) -> str:
    """What `measure` says, in words: how far the reach goes, and whether AP goes with it, here and in the paper."""
    low, high = (frame.loc[at] for at in (frame["reach_50"].idxmin(), frame["reach_50"].idxmax()))
    lines = [
        f"- At IoU ≥ .5, {low.row} reaches {low.reach_50:.0f} % of the training objects, {high.row} "
        f"{high.reach_50:.0f} %. At .4, down to which an object's best anchor still learns it, the shares are "
        f"{low.reach_40:.0f} % and {high.reach_40:.0f} %."
    ]
    for column, whose in (("AP", "here"), ("paper_AP", "in the paper")):
        both = frame.dropna(subset=[column])
        if len(both) >= LEAST and both[column].nunique() > 1:
            rho = both["reach_50"].corr(both[column], method="spearman")
            lines.append(
                f"- Rank correlation of that share with AP {whose}: {rho:.2f} ({len(both)} rows; 1: the set that "
                "reaches more objects is always the better one)."
            )
    if frame["AP"].notna().sum() < LEAST:
        lines.append("- Too few rows are run to set AP here against the reach.")
    return "\n".join(lines)
