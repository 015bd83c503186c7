"""COCO's average precision and recall of a set of detections, by faster-coco-eval.

Results agree with pycocotools (asserted by a test), the reference evaluator, but also exist for an empty
set of detections and tell "no such object" (nan) from "nothing found" (0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from focalrepro.detections import Detections

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")  # COCO's order


@dataclass(frozen=True)
class CocoResult:
    """One evaluation, in percent; nan where the ground truth holds no such object.

    metrics:   value of each of METRICS
    per_class: AP over IoU .50:.95 by category name
    """

    metrics: dict[str, float]
    per_class: dict[str, float]


def ground_truth_of(coco: dict, image_ids: np.ndarray) -> dict:
    """The COCO-format dict restricted to `image_ids`, annotations renumbered from 1.

    It is a copy because evaluators write into what they are given, and renumbered because they read
    annotation id 0 as "unmatched". `area` defaults to width × height, `iscrowd` to 0.

    Raises ValueError for duplicate image ids or ids that `coco` does not hold.
    """
    ids = set(np.asarray(image_ids).tolist())
    if len(ids) != len(image_ids):
        raise ValueError("image_ids holds an id twice")
    images = [dict(image) for image in coco["images"] if image["id"] in ids]
    if len(images) != len(ids):
        raise ValueError(f"{len(ids) - len(images)} of the image_ids are not images of the ground truth")
    annotations = []
    for annotation in coco["annotations"]:
        if annotation["image_id"] in ids:
            x, y, width, height = annotation["bbox"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": annotation["image_id"],
                    "category_id": annotation["category_id"],
                    "bbox": [x, y, width, height],
                    "area": annotation.get("area", width * height),
                    "iscrowd": int(annotation.get("iscrowd", 0)),
                }
            )
    return {"images": images, "annotations": annotations, "categories": [dict(c) for c in coco["categories"]]}


def check_indices(coco: dict, image_ids: np.ndarray, detections: Detections) -> None:
    """Raise ValueError for a detection on an unknown image row or of an unknown category.

    The evaluators drop the latter without a word, which would hide an off-by-one in the labels.
    """
    rows, labels = detections.image_index, detections.labels
    if len(rows) and (rows.min() < 0 or rows.max() >= len(image_ids)):
        raise ValueError(f"image_index leaves 0..{len(image_ids) - 1}")
    if not np.isin(labels + 1, [category["id"] for category in coco["categories"]]).all():
        raise ValueError("a label + 1 is no category id of the ground truth")


def _percent(value: float) -> float:
    """COCO's −1 ("no such object") as nan, anything else in percent."""
    return math.nan if value < 0 else 100.0 * float(value)


def evaluate_coco(coco: dict, image_ids: np.ndarray, detections: Detections) -> CocoResult:
    """Evaluate `detections` on the images `image_ids` of `coco`; silent, and `coco` stays as it is.

    coco:      COCO-format ground truth, boxes x, y, w, h in pixels, category ids label + 1
    image_ids: int [N], the COCO id of each dataset row

    At most 100 detections an image and category count, as in COCO. Raises ValueError where
    `ground_truth_of` or `check_indices` does.
    """
    check_indices(coco, image_ids, detections)
    truth = ground_truth_of(coco, image_ids)
    results = detections.to_coco(image_ids)
    for number, result in enumerate(results, start=1):
        result |= {"id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
    # A COCO object built directly, as `loadRes` would but without a polygon for every box.
    evaluation = COCOeval_faster(COCO(truth), COCO({**truth, "annotations": results}), iouType="bbox")
    evaluation.run()
    metrics = dict(zip(METRICS, map(_percent, evaluation.stats), strict=False))  # AR by size is left out

    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class], all areas, 100 dets
    names = {category["id"]: category["name"] for category in truth["categories"]}
    per_class = {
        names[category]: _percent(precision[:, :, k].mean())  # −1 everywhere or nowhere in a class
        for k, category in enumerate(evaluation.params.catIds)
    }
    return CocoResult(metrics=metrics, per_class=per_class)


def coco_metrics(coco: dict, image_ids: np.ndarray, detections: Detections) -> dict[str, float]:
    """METRICS by name, in percent; see `evaluate_coco`."""
    return evaluate_coco(coco, image_ids, detections).metrics


def per_class_ap(coco: dict, image_ids: np.ndarray, detections: Detections) -> dict[str, float]:
    """AP in percent by category name; see `evaluate_coco`, which gives both at once."""
    return evaluate_coco(coco, image_ids, detections).per_class
