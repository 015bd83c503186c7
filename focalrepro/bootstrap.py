"""Bootstrap over images of COCO's AP, from one matching of detections to objects.

Which object a detection matches depends on its image alone, so resampling images changes no match: an
image drawn w times only counts w times. A replicate is therefore AP with integer image weights,

    TP_i = Σ_{j ≤ i} w_j [j is matched],   FP_i = Σ_{j ≤ i} w_j [j is not matched],   j in order of score,
    recall_i = TP_i / Σ_objects w,         precision_i = TP_i / (TP_i + FP_i),
    AP = mean over 101 recall thresholds r of max{precision_i : recall_i ≥ r},

and 1,000 replicates cost one matching and some cumulative sums. Weights of one give COCO's AP.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from focalrepro.coco_ap import check_indices, ground_truth_of
from focalrepro.detections import Detections

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as COCO computes them, to the last bit
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # COCO's maxDets, per image and category

_PAIRS_AT_ONCE = 1 << 20  # bounds the memory of the IoU computation
_CELLS_AT_ONCE = 1 << 21  # matched detections × replicates: float64, some six temporaries, about 100 MB


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """One category: its D detections in COCO's order (descending score), and its G objects.

    image:     int64 [D], dataset row of each detection
    matched:   bool [10, D], true positive at each of IOU_THRESHOLDS
    ignored:   bool [10, D], matched to a crowd region: neither true nor false
    gt_image:  int64 [G], dataset row of each object that is no crowd region
    score:     float32 [D], confidence of each detection
    """

    image: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    gt_image: np.ndarray
    score: np.ndarray


@dataclass(frozen=True, eq=False)
class MatchTable:
    """All matches of one set of detections on `n_images` images; categories in order of their id."""

    n_images: int
    classes: tuple[ClassMatches, ...]


def _pairs(det_group: np.ndarray, det_box: np.ndarray, gt_group: np.ndarray, gt: dict) -> tuple:
    """Pairs of detection and object of the same image and category with IoU ≥ .5.

    det_group: int64 [D]; det_box: float64 [D, 4] x, y, w, h; gt_group: int64 [G], ascending;
    gt: "box" float64 [G, 4] and "crowd" bool [G]. Returns det int64 [P], ascending, gt int64 [P] and
    iou float64 [P].
    """
    first = np.searchsorted(gt_group, det_group, side="left")
    count = np.searchsorted(gt_group, det_group, side="right") - first
    # Cut the detections where the number of pairs passes a multiple of the bound.
    blocks = np.flatnonzero(np.diff(np.cumsum(count) // _PAIRS_AT_ONCE)) + 1
    found: list[tuple] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for start, stop in itertools.pairwise([0, *blocks.tolist(), len(count)]):
        n = count[start:stop]
        det = np.repeat(np.arange(start, stop), n)
        within = np.arange(len(det)) - np.repeat(np.cumsum(n) - n, n)
        obj = first[det] + within
        dx, dy, dw, dh = det_box[det].T
        gx, gy, gw, gh = gt["box"][obj].T
        # The operations and their order are those of COCO's bbIou: a match may hang on the last bit.
        width = np.minimum(dx + dw, gx + gw) - np.maximum(dx, gx)
        height = np.minimum(dy + dh, gy + gh) - np.maximum(dy, gy)
        hit = np.flatnonzero((width > 0) & (height > 0))
        inter = (width * height)[hit]
        det_area, gt_area = (dw * dh)[hit], (gw * gh)[hit]
        # Against a crowd region the union is the detection alone: lying inside it is a full overlap.
        union = np.where(gt["crowd"][obj[hit]], det_area, det_area + gt_area - inter)
        iou = inter / union
        good = iou >= IOU_THRESHOLDS[0]
        found.append((det[hit][good], obj[hit][good], iou[good]))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def _match(det_group: np.ndarray, det_box: np.ndarray, gt_group: np.ndarray, gt: dict) -> tuple:
    """COCO's greedy matching (evaluateImg of its API) for all images and categories at once.

    Detections are taken in descending score; each takes the free object of highest IoU, the later one
    among equals, and a crowd region, which is never used up, only when no object is left for it.
    Arguments as in `_pairs`, with the detections of a group in descending score.
    Returns matched and ignored, bool [10, D].
    """
    det, obj, iou = _pairs(det_group, det_box, gt_group, gt)
    crowd = gt["crowd"][obj]
    order = np.lexsort((obj, iou, ~crowd, det))  # within a detection the preferred object comes last
    det, obj, iou, crowd = det[order], obj[order], iou[order], crowd[order]

    matched = np.zeros((len(IOU_THRESHOLDS), len(det_group)), bool)
    ignored = np.zeros_like(matched)
    taken = np.zeros((len(IOU_THRESHOLDS), len(gt_group)), bool)
    close = iou >= IOU_THRESHOLDS[:, None]  # [10, P]

    # Round r settles the r-th detection that has a candidate in every group: groups are independent.
    owner, owner_start, owner_count = np.unique(det, return_index=True, return_counts=True)
    _, group_start, group_count = np.unique(det_group[owner], return_index=True, return_counts=True)
    turn = np.arange(len(owner)) - np.repeat(group_start, group_count)
    by_turn = np.argsort(turn, kind="stable")
    bounds = np.searchsorted(turn[by_turn], np.arange(turn.max(initial=-1) + 2))
    for start, stop in itertools.pairwise(bounds.tolist()):
        mine = by_turn[start:stop]
        n = owner_count[mine]
        offset = np.cumsum(n) - n
        pair = np.arange(n.sum()) + np.repeat(owner_start[mine] - offset, n)
        free = close[:, pair] & (crowd[pair] | ~taken[:, obj[pair]])
        best = np.maximum.reduceat(np.where(free, pair, -1), offset, axis=1)  # [10, detections]
        threshold, column = np.nonzero(best >= 0)
        chosen = best[threshold, column]
        ignored[threshold, det[chosen]] = crowd[chosen]
        matched[threshold, det[chosen]] = ~crowd[chosen]
        taken[threshold, obj[chosen]] = True
    return matched, ignored


def match_table(coco: dict, image_ids: np.ndarray, detections: Detections) -> MatchTable:
    """Match `detections` to the objects of `coco` as COCO does over all areas.

    Arguments and errors as in `focalrepro.coco_ap.evaluate_coco`.
    """
    check_indices(coco, image_ids, detections)
    truth = ground_truth_of(coco, image_ids)
    categories = np.array(sorted(category["id"] for category in truth["categories"]), np.int64)
    ids = np.asarray(image_ids, np.int64)
    by_id = np.argsort(ids)  # COCO walks the images in order of id, which decides ties of the score
    n = max(len(ids), 1)

    annotations = truth["annotations"]
    gt_rank = np.searchsorted(ids[by_id], np.array([a["image_id"] for a in annotations], np.int64))
    gt_class = np.searchsorted(categories, np.array([a["category_id"] for a in annotations], np.int64))
    gt_order = np.argsort(gt_class * n + gt_rank, kind="stable")
    gt_group = (gt_class * n + gt_rank)[gt_order]
    gt = {
        "box": np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)[gt_order],
        "crowd": np.array([a["iscrowd"] for a in annotations], bool)[gt_order],
    }

    rank = np.empty(len(ids), np.int64)
    rank[by_id] = np.arange(len(ids))
    group = np.searchsorted(categories, detections.labels + 1) * n + rank[detections.image_index]
    order = np.lexsort((-detections.scores, group))  # stable, so ties keep the order of the input
    group = group[order]
    place = np.arange(len(group)) - np.searchsorted(group, group, side="left")
    order, group = order[place < MAX_DETECTIONS], group[place < MAX_DETECTIONS]
    matched, ignored = _match(group, detections.xywh()[order], gt_group, gt)

    score, image = detections.scores[order], detections.image_index[order]
    classes = []
    for k in range(len(categories)):
        low, high = np.searchsorted(group, [k * n, (k + 1) * n])
        by_score = low + np.argsort(-score[low:high], kind="stable")
        objects = (gt_group // n == k) & ~gt["crowd"]
        classes.append(
            ClassMatches(
                image=image[by_score],
                matched=matched[:, by_score],
                ignored=ignored[:, by_score],
                gt_image=by_id[gt_group[objects] % n],
                score=score[by_score],
            )
        )
    return MatchTable(n_images=len(ids), classes=tuple(classes))


def _class_ap(matches: ClassMatches, threshold: int, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """AP of one category at one IoU threshold, float64 [R] in 0..1.

    weights: float64 [N, R]; objects: float64 [R], the weighted number of objects, above 0
    """
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
    """AP, AP50 and AP75 in percent for each row of image weights, float64 [R, 3].

    weights: [R, N], non-negative; 0 drops an image, 2 counts it twice, and so on

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
    replicates = len(weights)
    total = np.zeros((replicates, len(IOU_THRESHOLDS)))  # sum of AP over the categories present
    present = np.zeros((replicates, 1))
    for start in range(0, replicates, step):
        part = slice(start, start + step)
        # Image by image in memory: every sum over detections then runs along contiguous replicates.
        columns = np.ascontiguousarray(weights[part].T, dtype=np.float64)
        for matches in table.classes:
            objects = np.bincount(matches.gt_image, minlength=table.n_images) @ columns
            here = objects > 0
            present[part, 0] += here
            if not here.any():
                continue
            divisor = np.where(here, objects, 1.0)
            for t in range(len(IOU_THRESHOLDS)):
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


def bootstrap_ap(
    coco: dict, image_ids: np.ndarray, detections: Detections, replicates: int = 1000, seed: int = 0
) -> np.ndarray:
    """AP, AP50, AP75 in percent of `replicates` resamples of the images, float64 [R, 3]."""
    return replicates_of(match_table(coco, image_ids, detections), replicates, seed)


def replicates_of(table: MatchTable, replicates: int = 1000, seed: int = 0) -> np.ndarray:
    """AP, AP50, AP75 in percent of resamples of a match table's images, float64 [R, 3]."""
    return weighted_ap(table, bootstrap_weights(table.n_images, replicates, seed))


def interval(
    replicates: np.ndarray, level: float = 0.95, estimate: float | None = None
) -> tuple[float, float]:
    """Bootstrap interval of one statistic's replicates, [R]; those that are nan are left out.

    Without `estimate` it is the percentile interval. With the statistic of the images as they are it is
    the basic one, 2 · estimate − quantile. AP needs the latter: the fewer different images, the higher
    the precision envelope rides on noise, so AP grows a little with every resampling and the
    percentile interval sits too high by twice that bias. In a difference of two runs it mostly cancels,
    and the percentile interval serves.

    Raises ValueError for another shape or a level outside 0..1.
    """
    values = np.asarray(replicates, np.float64)
    if values.ndim != 1:
        raise ValueError(f"replicates have shape {values.shape}, expected [R]")
    if not 0 < level < 1:
        raise ValueError("level must lie between 0 and 1")
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    if estimate is not None:
        low, high = 2 * estimate - high, 2 * estimate - low
    return float(low), float(high)


def paired_interval(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of a − b, both [R] from the same images and the same `bootstrap_weights`."""
    if np.shape(a) != np.shape(b):
        raise ValueError(f"{np.shape(a)} and {np.shape(b)} replicates cannot be paired")
    return interval(np.asarray(a) - np.asarray(b), level)
