"""COCO's average precision and recall of a set of detections, from their match tables; and the bootstrap.

The numbers are pycocotools' (asserted by a test), but they also exist for an empty set of detections and tell
"no such object" (nan) from "nothing found" (0).

Which object a detection matches depends on its image alone, so resampling images changes no match: an
image drawn w times only counts w times. A replicate is therefore AP with integer image weights,

    TP_i = Σ_{j ≤ i} w_j [j is matched],   FP_i = Σ_{j ≤ i} w_j [j is not matched],   j in order of score,
    recall_i = TP_i / Σ_objects w,         precision_i = TP_i / (TP_i + FP_i),
    AP = mean over 101 recall thresholds r of max{precision_i : recall_i ≥ r},

and 1,000 replicates cost one matching and some cumulative sums. Weights of one give COCO's AP.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.match_table import RECALL_THRESHOLDS, ClassMatches, MatchTable, match_tables

_CELLS_AT_ONCE = 1 << 21  # matched detections × replicates: float64, some six temporaries, about 100 MB
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")  # COCO's order


@dataclass(frozen=True)
class CocoResult:
    """One evaluation, in percent; nan where the ground truth holds no such object."""

    metrics: dict[str, float]  # value of each of METRICS
    per_class: dict[str, float]  # AP over IoU .50:.95 by category name


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


def _precision(table: MatchTable) -> np.ndarray:
    return np.array([average_precision(c) for c in table.classes]).reshape(-1, 10)


def ap_of(table: MatchTable) -> dict[str, float]:
    """AP, AP50 and AP75 of a match table, in percent; nan without an object."""
    values = _precision(table)
    return {"AP": _mean(values), "AP50": _mean(values[:, 0]), "AP75": _mean(values[:, 5])}


def summarise(tables: Mapping[str, MatchTable], names: list[str]) -> CocoResult:
    """COCO's metrics from the match tables of all AREAS; names of the categories, in order of their id."""
    overall = tables["all"]
    metrics = ap_of(overall)
    metrics |= {f"AP{area[0]}": _mean(_precision(tables[area])) for area in ("small", "medium", "large")}
    for most in (1, 10, 100):
        metrics[f"AR{most}"] = _mean(np.array([average_recall(c, most) for c in overall.classes]))
    per_class = zip(names, _precision(overall), strict=True)
    return CocoResult(metrics, {name: 100.0 * float(row.mean()) for name, row in per_class})


def evaluate_coco(coco: dict, image_ids: np.ndarray, detections: Detections) -> CocoResult:
    """Evaluate detections on the images `image_ids` of `coco`; arguments as in `match_tables`."""
    names = [c["name"] for c in sorted(coco["categories"], key=lambda c: c["id"])]
    return summarise(match_tables(coco, image_ids, detections), names)


def _class_ap(matches: ClassMatches, threshold: int, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """AP of one category at one IoU threshold, [R] in 0..1; weights [N, R], objects [R]: their sum, not 0."""
    counted = ~matches.ignored[threshold]
    image, matched = matches.image[counted], matches.matched[threshold][counted]
    hits = np.flatnonzero(matched)
    if not len(hits):
        return np.zeros(weights.shape[1])
    # Precision peaks at true positives, so the curve is needed there only. Row i of `runs` adds up the
    # detections after hit i-1 up to hit i; those after the last hit change nothing.
    end = hits[-1] + 1
    pointers = np.concatenate([[0], hits + 1])
    runs = csr_array((np.ones(end), image[:end], pointers), shape=(len(hits), len(weights)))
    positives = np.cumsum(runs @ weights, axis=0)  # TP + FP at each hit, [hits, R]
    true = np.cumsum(weights[image[hits]], axis=0)
    reached = np.searchsorted(RECALL_THRESHOLDS, true / objects, side="right")
    precision = true
    precision /= positives + np.spacing(1)  # the evaluator's guard against 0 / 0
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    newly = np.diff(reached, axis=0, prepend=0)  # thresholds first reached at this hit
    return np.einsum("hr,hr->r", envelope, newly) / len(RECALL_THRESHOLDS)


def weighted_ap(table: MatchTable, weights: np.ndarray) -> np.ndarray:
    """AP, AP50 and AP75 in percent for each row of image weights [R, N], float64 [R, 3].

    A category without an object of positive weight is left out of its replicate's mean, as COCO leaves
    out absent categories; a replicate without any object gives nan. Raises ValueError for weights of
    another shape or below 0.
    """
    weights = np.asarray(weights)
    if weights.ndim != 2 or weights.shape[1] != table.n_images:
        raise ValueError(f"weights have shape {weights.shape}, expected [R, {table.n_images}]")
    if weights.size and not weights.min() >= 0:
        raise ValueError("weights must not be negative")
    most = max((c.matched.sum(axis=1).max() for c in table.classes), default=0)
    step = max(1, _CELLS_AT_ONCE // max(most, table.n_images, 1))
    total = np.zeros((len(weights), 10))  # sum of AP over the categories present
    present = np.zeros((len(weights), 1))
    for start in range(0, len(weights), step):
        part = slice(start, start + step)
        # Image by image in memory: every sum over detections then runs along contiguous replicates.
        columns = np.ascontiguousarray(weights[part].T, dtype=np.float64)
        for matches in table.classes:
            objects = np.bincount(matches.gt_image, minlength=table.n_images) @ columns
            here = objects > 0
            present[part, 0] += here
            divisor = np.where(here, objects, 1.0)
            for t in range(10 if here.any() else 0):
                total[part, t] += np.where(here, _class_ap(matches, t, columns, divisor), 0.0)
    mean = np.full_like(total, np.nan)
    np.divide(total, present, out=mean, where=present > 0)
    return 100.0 * np.stack([mean.mean(axis=1), mean[:, 0], mean[:, 5]], axis=1)


def bootstrap_weights(n_images: int, replicates: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each image is drawn when n_images are drawn with replacement: int16 [R, N].

    A function of its arguments alone, so replicate i of two runs on the same images has the same images
    in both and their difference is paired.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((replicates, n_images), np.int16)
    for row in weights:
        row += np.bincount(rng.integers(n_images, size=n_images), minlength=n_images).astype(np.int16)
    return weights


def replicates_of(table: MatchTable, replicates: int = 1000) -> np.ndarray:
    """AP, AP50, AP75 in percent of resamples of a match table's images, float64 [R, 3]."""
    return weighted_ap(table, bootstrap_weights(table.n_images, replicates))
