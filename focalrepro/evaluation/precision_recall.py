"""Precision against recall, the curve that average precision (AP) is the area of."""

from dataclasses import dataclass

import numpy as np

from focalrepro.data import DetectionData
from focalrepro.evaluation.coco_ap import average_precision, evaluate_coco
from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.match_table import match_table

IOUS = (0.5, 0.75, 0.9)


@dataclass(frozen=True, eq=False)
class Curve:
    """One class at one IoU: going down the detections by score, [D] values each; objects is their number.

    ap: the area under it as COCO has it, in percent.
    """

    category: str
    iou: float
    recall: np.ndarray
    precision: np.ndarray
    objects: int
    ap: float


def curves(data: DetectionData, found: Detections, category: str) -> list[Curve]:
    """The class's curve at each of IOUS; ValueError lists the classes where there is none of that name."""
    if category not in data.categories:
        raise ValueError(f"there is no class {category!r}; there are {', '.join(data.categories)}")
    matches = match_table(data.coco, data.image_ids, found).classes[data.categories.index(category)]
    ap, result = 100 * np.nan_to_num(average_precision(matches)), []  # 0 without an object
    for iou in IOUS:
        row = round((iou - 0.5) / 0.05)  # COCO's ten thresholds: .50, .55, …, .95
        hit = matches.matched[row][~matches.ignored[row]]
        true = np.cumsum(hit)
        objects = len(matches.gt_image)
        precision = true / np.arange(1, len(hit) + 1)
        result.append(Curve(category, iou, true / max(objects, 1), precision, objects, float(ap[row])))
    return result


def median_class(data: DetectionData, found: Detections) -> str:
    """The class in the middle of the ranking by AP: neither the easiest nor the hardest to show."""
    scores = evaluate_coco(data.coco, data.image_ids, found).per_class
    ranked = sorted((ap, name) for name, ap in scores.items() if not np.isnan(ap))
    return ranked[len(ranked) // 2][1] if ranked else data.categories[0]
