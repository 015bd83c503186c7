"""Which detection found which object: COCO's matching, vectorised over images, categories and IoU thresholds.

Everything that is said of a run's detections comes from this one matching: AP and recall (`coco_ap`), the
bootstrap (there), the histogram of the scores (`measures`). That it is COCO's own is asserted by
tests against pycocotools and faster-coco-eval, to the last digits.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from focalrepro.data.annotations import of_images
from focalrepro.evaluation.detections import Detections

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as COCO computes them, to the last bit
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # COCO's maxDets, per image and category
AREAS = {  # squared pixels of the original image
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}

_PAIRS_AT_ONCE = 1 << 20  # bounds the memory of the IoU computation


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """One category: its D detections in COCO's order (descending score), and its G objects.

    ignored: neither true nor false: matched to a crowd region or to an object of another size, or itself of
    another size and matched to nothing.
    """

    image: np.ndarray  # int64 [D], dataset row of each detection
    matched: np.ndarray  # bool [10, D], true positive at each of IOU_THRESHOLDS
    ignored: np.ndarray  # bool [10, D]
    gt_image: np.ndarray  # int64 [G], dataset row of each object that counts
    score: np.ndarray  # float32 [D], confidence of each detection
    place: np.ndarray  # int64 [D], 0 for that of highest score in its image and category, then 1, …

    def kept(self, rows: np.ndarray) -> Self:
        """With some of the detections only, bool [D]; the objects stay."""
        names = ("image", "matched", "ignored", "score", "place")
        return replace(self, **{name: getattr(self, name)[..., rows] for name in names})


@dataclass(frozen=True, eq=False)
class MatchTable:
    """All matches of one set of detections on `n_images` images; categories in order of their id."""

    n_images: int
    classes: tuple[ClassMatches, ...]

    def above(self, threshold: float) -> Self:
        """The matches of the detections that score above a threshold.

        Exact, since detections are matched in descending score: those below change nothing above.
        """
        return replace(self, classes=tuple(c.kept(c.score > threshold) for c in self.classes))

    def images(self, rows: np.ndarray) -> Self:
        """The matches on some images, int64 [n], which are numbered anew in that order."""
        new = np.full(self.n_images, -1)
        new[rows] = np.arange(len(rows))
        classes = []
        for c in self.classes:
            part = c.kept(new[c.image] >= 0)
            objects = new[c.gt_image]
            classes.append(replace(part, image=new[part.image], gt_image=objects[objects >= 0]))
        return MatchTable(len(rows), tuple(classes))


def _pairs(det_group: np.ndarray, det_box: np.ndarray, gt_group: np.ndarray, gt: dict) -> tuple:
    """Pairs of detection and object of the same image and category (group) with IoU ≥ .5.

    det_group [D]; det_box [D, 4] x, y, w, h; gt_group [G], ascending; gt: "box" [G, 4] and "crowd" [G].
    Returns det [P], ascending, gt [P] and iou [P].
    """
    first = np.searchsorted(gt_group, det_group, side="left")
    count = np.searchsorted(gt_group, det_group, side="right") - first
    # Cut the detections where the number of pairs passes a multiple of the bound.
    blocks = np.flatnonzero(np.diff(np.cumsum(count) // _PAIRS_AT_ONCE)) + 1
    found: list[tuple] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for start, stop in itertools.pairwise([0, *blocks.tolist(), len(count)]):
        n = count[start:stop]
        det = np.repeat(np.arange(start, stop), n)
        obj = first[det] + np.arange(len(det)) - np.repeat(np.cumsum(n) - n, n)
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


def _match(pairs: tuple, det_group: np.ndarray, gt: dict, counts: np.ndarray) -> tuple:
    """COCO's greedy matching (evaluateImg of its API) for all images and categories at once.

    Detections are taken in descending score; each takes the free object of highest IoU, the later one
    among equals, and one that does not count only when no other is left for it. A crowd region is never
    used up. pairs: of `_pairs`; det_group: int64 [D], a group's detections in descending score;
    counts: bool [G], the objects that count, which a crowd region never does.
    Returns matched and ignored, bool [10, D].
    """
    det, obj, iou = pairs
    order = np.lexsort((obj, iou, counts[obj], det))  # within a detection the preferred object comes last
    det, obj, iou = det[order], obj[order], iou[order]
    crowd = gt["crowd"][obj]
    matched = np.zeros((len(IOU_THRESHOLDS), len(det_group)), bool)
    ignored = np.zeros_like(matched)
    taken = np.zeros((len(IOU_THRESHOLDS), len(counts)), bool)
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
        matched[threshold, det[chosen]] = counts[obj[chosen]]
        ignored[threshold, det[chosen]] = ~counts[obj[chosen]]
        taken[threshold, obj[chosen]] = True
    return matched, ignored


def match_table(coco: dict, image_ids: np.ndarray, detections: Detections) -> MatchTable:
    """Match `detections` to the objects of `coco` as COCO does over all areas; see `match_tables`."""
    return match_tables(coco, image_ids, detections, ("all",))["all"]


def match_tables(
    coco: dict, image_ids: np.ndarray, detections: Detections, areas: Sequence[str] = tuple(AREAS)
) -> dict[str, MatchTable]:
    """Match `detections` to the objects of `coco` as COCO does, once for each of AREAS' names.

    coco: ground truth as `annotations.make_targets` has it, category ids label + 1. image_ids: int [N], of
    each dataset row. At most 100 detections an image and category count, as in COCO.
    """
    categories = np.array(sorted(category["id"] for category in coco["categories"]), np.int64)
    ids = np.asarray(image_ids, np.int64)
    by_id = np.argsort(ids)  # COCO walks the images in order of id, which decides ties of the score
    n = max(len(ids), 1)
    annotations = of_images(coco, set(ids.tolist()))["annotations"]
    gt_rank = np.searchsorted(ids[by_id], np.array([a["image_id"] for a in annotations], np.int64))
    gt_class = np.searchsorted(categories, np.array([a["category_id"] for a in annotations], np.int64))
    gt_order = np.argsort(gt_class * n + gt_rank, kind="stable")
    gt_group = (gt_class * n + gt_rank)[gt_order]
    gt = {
        "box": np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)[gt_order],
        "area": np.array([a["area"] for a in annotations], np.float64)[gt_order],
        "crowd": np.array([a["iscrowd"] for a in annotations], bool)[gt_order],
    }
    rank = np.argsort(by_id)
    group = np.searchsorted(categories, detections.labels + 1) * n + rank[detections.image_index]
    order = np.lexsort((-detections.scores, group))  # stable, so ties keep the order of the input
    group = group[order]
    place = np.arange(len(group)) - np.searchsorted(group, group, side="left")
    counted = place < MAX_DETECTIONS
    order, group, place = order[counted], group[counted], place[counted]
    box, score, image = detections.xywh()[order], detections.scores[order], detections.image_index[order]
    pairs = _pairs(group, box, gt_group, gt)
    bounds = np.searchsorted(group, np.arange(len(categories) + 1) * n)
    rows = [low + np.argsort(-score[low:high], kind="stable") for low, high in itertools.pairwise(bounds)]
    tables = {}
    for name in areas:
        least, most = AREAS[name]
        counts = ~gt["crowd"] & (gt["area"] >= least) & (gt["area"] <= most)
        matched, ignored = _match(pairs, group, gt, counts)
        area = box[:, 2] * box[:, 3]
        ignored |= ~matched & ~((area >= least) & (area <= most))
        objects, kinds = by_id[gt_group[counts] % n], gt_group[counts] // n
        every = ClassMatches(image, matched, ignored, objects, score, place)
        each = (replace(every.kept(r), gt_image=objects[kinds == k]) for k, r in enumerate(rows))
        tables[name] = MatchTable(len(ids), tuple(each))
    return tables
