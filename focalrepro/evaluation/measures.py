"""All that a record says of a run's detections: one pass without a threshold, one matching, many readings.

The validation images are split by id: on `tune` everything is chosen that is chosen at all (learning rates,
what maps scores to probabilities), on `test` everything is judged. AP is that of the test images without a
threshold; AP at the paper's .05 and at others stands beside it, and comes from the same detections.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval

from focalrepro.data import DetectionData
from focalrepro.data.annotations import of_images
from focalrepro.evaluation.coco_ap import ap_of, replicates_of, summarise
from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.match_table import MatchTable, match_table, match_tables
from focalrepro.evaluation.record import PAPER_THRESHOLD

TUNE_SHARE = 939 / 2939  # of the validation images: 939 of COCO's subset, the other 2,000 are test images
THRESHOLDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
REPLICATES = 1000
EXAMPLES, SHOWN = 12, 20  # images whose best detections a record keeps, so many of each


def splits(image_ids: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of the tune and of the test images, ascending: by the order of the sha256 of their ids.

    With one image it is a test image.
    """
    order = sorted(range(len(image_ids)), key=lambda i: _hash(int(image_ids[i])))
    tune = len(order) - images_that_judge(len(order))
    return {"tune": np.sort(order[:tune]).astype(np.int64), "test": np.sort(order[tune:]).astype(np.int64)}


def images_that_judge(count: int) -> int:
    """How many of so many validation images are test images."""
    return count - round(TUNE_SHARE * count)


def _hash(image_id: int) -> str:
    return hashlib.sha256(str(image_id).encode()).hexdigest()


def measures(data: DetectionData, detections: Detections, merged: Detections) -> dict[str, Any]:
    """The fields of a record that follow from a split's detections, with and without classes; JSON's types.

    AP and its kin in percent, null where no such object is.
    """
    rows, names = splits(data.image_ids), list(data.categories)
    tables = match_tables(data.coco, data.image_ids, detections)
    parts = {key: {area: table.images(r) for area, table in tables.items()} for key, r in rows.items()}
    whole, tune, test = tables["all"], parts["tune"]["all"], parts["test"]["all"]
    at_paper = {area: table.above(PAPER_THRESHOLD) for area, table in parts["test"].items()}
    coco = summarise(parts["test"], names)
    replicates, at_05 = (replicates_of(table, REPLICATES) for table in (test, at_paper["all"]))
    agnostic = match_table(_one_class(data.coco), data.image_ids, merged).images(rows["test"])
    counted = {"tune": tune, "test": test, "test_at_05": at_paper["all"]}
    return {
        "metrics": numbers(coco.metrics),
        "per_class": numbers(coco.per_class),
        "at_05": numbers(summarise(at_paper, names).metrics),
        "tune": _few(tune) | {"AP_at_05": _few(tune, PAPER_THRESHOLD)["AP"]},
        "whole": _few(whole) | {"AP_at_05": _few(whole, PAPER_THRESHOLD)["AP"]},
        "agnostic": _few(agnostic),
        "thresholds": {f"{t:g}": _few(test, t)["AP"] for t in THRESHOLDS},
        "tide": tide(data, rows["test"], detections),
        "scores": {key: score_histogram(part["all"]) for key, part in parts.items()},
        "detections": {k: sum(len(c.image) for c in table.classes) for k, table in counted.items()},
        "bootstrap": {
            "what": "percent, over resamples of the test images; seed 0 for every run, so paired",
            "AP": [number(v, 3) for v in replicates[:, 0]],
            "AP50": [number(v, 3) for v in replicates[:, 1]],
            "AP_at_05": [number(v, 3) for v in at_05[:, 0]],
        },
        "examples": examples(data, rows["test"], detections),
    }


def _few(table: MatchTable, score: float = 0.0) -> dict[str, float | None]:
    """AP, AP50 and AP75 of a match table's detections that score above a threshold, if one is given."""
    return numbers(ap_of(table.above(score) if score else table))


def _one_class(coco: dict) -> dict:
    """The same ground truth with all categories merged into one."""
    objects = [{**annotation, "category_id": 1} for annotation in coco["annotations"]]
    return {"images": coco["images"], "annotations": objects, "categories": [{"id": 1, "name": "object"}]}


def tide(data: DetectionData, rows: np.ndarray, detections: Detections) -> dict[str, float] | None:
    """AP50 in points that mending each kind of error would give (TIDE, Bolya et al. 2020, arXiv 2008.08115).

    Cls: found, named wrongly; Loc: named rightly, IoU .1 to .5; Both; Dupe: found already; Bkg: IoU below .1
    with every object; Miss: not found. null without detections or objects.
    """
    chosen = np.isin(detections.image_index, rows)
    judged = of_images(data.coco, set(data.image_ids[rows].tolist()))
    if not chosen.any() or all(thing.get("iscrowd", 0) for thing in judged["annotations"]):
        return None
    at = {image: row for row, image in enumerate(data.image_ids.tolist())}  # ids may be negative, unlike rows
    images = [image | {"id": at[image["id"]]} for image in judged["images"]]
    objects = [thing | {"image_id": at[thing["image_id"]]} for thing in judged["annotations"]]
    truth = COCO({"images": images, "annotations": objects, "categories": judged["categories"]})
    mine = detections.taken(chosen).to_coco(np.arange(len(data)))
    evaluator = COCOeval(truth, truth.load_res(mine), "bbox")
    evaluator.evaluate()
    found = evaluator.tide_errors(pos_thr=0.5, bg_thr=0.1)
    kinds = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FP", "FN")
    gains = {kind: number(100 * found["delta_ap"][kind]) for kind in kinds}
    return {"AP50": number(100 * found["ap_base"])} | gains


# Edges of the score histogram's bins, a tenth wide; the ends take what is beyond.
LOGITS = np.linspace(-12, 12, 241)


def score_histogram(table: MatchTable) -> dict[str, list[int]]:
    """How many detections have a logit in each of the 240 bins between LOGITS: right at IoU .5, and wrong.

    Those matched to a crowd region are neither and left out.
    """
    right, wrong = np.zeros((2, len(LOGITS) - 1), np.int64)
    for c in table.classes:
        p = np.clip(c.score.astype(np.float64), 1e-12, 1 - 1e-12)
        at = np.clip(np.searchsorted(LOGITS, np.log(p / (1 - p)), side="right") - 1, 0, len(right) - 1)
        right += np.bincount(at[~c.ignored[0] & c.matched[0]], minlength=len(right))
        wrong += np.bincount(at[~c.ignored[0] & ~c.matched[0]], minlength=len(wrong))
    return {"right": right.tolist(), "wrong": wrong.tolist()}


def examples(data: DetectionData, rows: np.ndarray, detections: Detections) -> list[dict[str, Any]]:
    """The best detections on the first dozen of the test images by the order of `splits`; boxes in pixels."""
    kept = []
    for row in sorted(rows, key=lambda i: _hash(int(data.image_ids[i])))[:EXAMPLES]:
        at = np.flatnonzero(detections.image_index == row)
        best = detections.taken(at[np.argsort(-detections.scores[at], kind="stable")][:SHOWN])
        shown = {
            "image_id": int(data.image_ids[row]),
            "boxes": [[round(float(v), 1) for v in box] for box in best.boxes],
            "scores": [number(v) for v in best.scores],
            "labels": best.labels.tolist(),
        }
        kept.append(shown)
    return kept


def numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    """Every value as `number` has it."""
    return {name: number(value) for name, value in values.items()}


def number(value: float, digits: int = 4) -> float | None:
    """A float for JSON, which has no NaN: a metric without any object is null."""
    return None if np.isnan(value) else round(float(value), digits)
