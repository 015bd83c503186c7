"""COCO's average precision and recall of a set of detections, from their match tables.

The numbers are pycocotools' (asserted by a test), but they also exist for an empty set of detections and tell
"no such object" (nan) from "nothing found" (0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.match_table import RECALL_THRESHOLDS, ClassMatches, MatchTable, match_tables

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")  # COCO's order


@dataclass(frozen=True)
class CocoResult:
    """One evaluation, in percent; nan where the ground truth holds no such object.

    metrics:   value of each of METRICS
    per_class: AP over IoU .50:.95 by category name
    """

    metrics: dict[str, float]
    per_class: dict[str, float]


def average_precision(matches: ClassMatches) -> np.ndarray:
    """AP of one category at each IoU threshold, [10] in 0..1; nan without an object.

    It is the mean, over 101 recalls, of the best precision at that recall or a higher one.
    """
    if not len(matches.gt_image):
        return np.full(len(matches.matched), math.nan)
    true = np.cumsum(matches.matched, axis=1)
    false = np.cumsum(~(matches.matched | matches.ignored), axis=1)
    precision = true / (true + false + np.spacing(1))  # the evaluator's guard against 0 / 0
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    result = np.zeros(len(precision))
    for t, recall in enumerate(true / len(matches.gt_image)):
        at = np.searchsorted(recall, RECALL_THRESHOLDS, side="left")
        result[t] = precision[t, at[at < precision.shape[1]]].sum() / len(RECALL_THRESHOLDS)
    return result


def average_recall(matches: ClassMatches, detections: int) -> float:
    """Share of a category's objects found by so many detections an image, mean over IoU; nan without any."""
    if not len(matches.gt_image):
        return math.nan
    found = (matches.matched & (matches.place < detections)).sum(axis=1)
    return float((found / len(matches.gt_image)).mean())


def _mean(values: np.ndarray) -> float:
    """The mean over what is there, in percent; nan if nothing is."""
    values = values[~np.isnan(values)]
    return 100.0 * float(values.mean()) if len(values) else math.nan


def summarise(tables: Mapping[str, MatchTable], names: list[str]) -> CocoResult:
    """COCO's metrics from the match tables of all AREAS; names of the categories, in order of their id."""
    precision = {
        area: np.array([average_precision(c) for c in table.classes]).reshape(-1, 10)
        for area, table in tables.items()
    }
    overall = precision["all"]
    metrics = {"AP": _mean(overall), "AP50": _mean(overall[:, 0]), "AP75": _mean(overall[:, 5])}
    metrics |= {f"AP{area[0]}": _mean(precision[area]) for area in ("small", "medium", "large")}
    for most in (1, 10, 100):
        recall = np.array([average_recall(c, most) for c in tables["all"].classes])
        metrics[f"AR{most}"] = _mean(recall)
    per_class = {name: 100.0 * float(row.mean()) for name, row in zip(names, overall, strict=True)}
    return CocoResult(metrics, per_class)


def category_names(coco: dict) -> list[str]:
    """In order of their id, as match tables have their categories."""
    return [c["name"] for c in sorted(coco["categories"], key=lambda c: c["id"])]


def evaluate_coco(coco: dict, image_ids: np.ndarray, detections: Detections) -> CocoResult:
    """Evaluate detections on the images `image_ids` of `coco`; arguments and errors as in `match_tables`."""
    return summarise(match_tables(coco, image_ids, detections), category_names(coco))
