"""What a record says of detections: splits, thresholds and classes merged,
against evaluations made the long way.
"""

import dataclasses

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from focalrepro.evaluation.coco_ap import evaluate_coco
from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.match_table import match_table
from focalrepro.evaluation.measures import LOGITS, measures, score_histogram, splits, tide


def noisy(data, rng, per_image=12):
    """Detections near the objects and anywhere, with scores between .001 and 1."""
    parts = []
    for row in range(len(data)):
        truth = data.boxes[row][data.labels[row] >= 0] * (data.sizes[row][0] / data.frame)
        near = truth + rng.normal(0, 3, truth.shape)
        far = rng.uniform(0, 60, (per_image, 4))
        far[:, 2:] += far[:, :2] + 5
        boxes = np.concatenate([near, far]).astype(np.float32)
        labels = np.concatenate(
            [data.labels[row][data.labels[row] >= 0], rng.integers(0, len(data.categories), per_image)]
        )
        scores = (10 ** rng.uniform(-3, 0, len(boxes))).astype(np.float32)
        parts.append(Detections(np.full(len(boxes), row), boxes, scores, labels.astype(np.int64)))
    return Detections.concat(parts)


@pytest.fixture(scope="module")
def case(tiny):
    data = tiny[0]
    found = noisy(data, np.random.default_rng(0))
    merged = dataclasses.replace(found, labels=np.zeros_like(found.labels))
    return data, found, measures(data, found, merged)


def of_rows(found, rows):
    kept = np.isin(found.image_index, rows)
    new = np.full(found.image_index.max() + 1, -1)
    new[rows] = np.arange(len(rows))
    return Detections(
        new[found.image_index[kept]], *(getattr(found, f)[kept] for f in ("boxes", "scores", "labels"))
    )


def test_every_image_is_tune_or_test_and_the_shares_are_the_protocols():
    ids = np.arange(100, 3039)
    parts = splits(ids)
    assert len(parts["tune"]) == 939 and len(parts["test"]) == 2000
    assert sorted([*parts["tune"], *parts["test"]]) == list(range(len(ids)))
    shuffled = splits(ids[::-1])  # by id, not by place
    assert set(ids[parts["tune"]]) == set(ids[::-1][shuffled["tune"]])


@pytest.mark.parametrize("part", ["test", "tune"])
def test_ap_is_that_of_the_parts_images_alone(case, part):
    data, found, record = case
    rows = splits(data.image_ids)[part]
    wanted = evaluate_coco(data.coco, data.image_ids[rows], of_rows(found, rows)).metrics
    got = record["metrics"] if part == "test" else record["tune"]
    for name in ("AP", "AP50", "AP75"):
        assert got[name] == pytest.approx(wanted[name], abs=1e-4)


def test_ap_above_a_threshold_is_that_of_the_detections_above_it(case):
    data, found, record = case
    rows = splits(data.image_ids)["test"]
    high = found.scores > 0.05
    cut = Detections(*(getattr(found, f)[high] for f in ("image_index", "boxes", "scores", "labels")))
    wanted = evaluate_coco(data.coco, data.image_ids[rows], of_rows(cut, rows)).metrics
    assert record["at_05"]["AP"] == pytest.approx(wanted["AP"], abs=1e-4)
    assert record["thresholds"]["0.05"] == record["at_05"]["AP"] < record["metrics"]["AP"]


def test_classes_merged_are_pycocotools_without_categories(case):
    data, found, record = case
    rows = splits(data.image_ids)["test"]
    truth = COCO()
    truth.dataset = {**data.coco, "info": {}}
    truth.createIndex()
    evaluator = COCOeval(truth, truth.loadRes(found.to_coco(data.image_ids)), "bbox")
    evaluator.params.useCats = 0
    evaluator.params.imgIds = data.image_ids[rows].tolist()
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert record["agnostic"]["AP"] == pytest.approx(100 * evaluator.stats[0], abs=1e-4)


def test_the_first_errors_of_tide_are_there_and_its_ap50_is_ours(case):
    _, _, record = case
    assert record["tide"]["AP50"] == pytest.approx(
        record["metrics"]["AP50"], abs=0.3
    )  # it interpolates otherwise
    assert record["tide"]["Bkg"] > 0 and record["tide"]["Cls"] >= 0


def test_histograms_count_every_detection_once(case):
    data, found, record = case
    table = match_table(data.coco, data.image_ids, found)
    for part, rows in splits(data.image_ids).items():
        counted = sum(sum(record["scores"][part][kind]) for kind in ("right", "wrong"))
        in_crowds = sum(int(c.ignored[0].sum()) for c in table.images(rows).classes)
        assert counted + in_crowds == np.isin(found.image_index, rows).sum() == record["detections"][part]
    histogram = score_histogram(table)
    right = sum(int(c.matched[0].sum()) for c in table.classes)
    assert sum(histogram["right"]) == right > 0 and len(histogram["right"]) == len(LOGITS) - 1


def test_nothing_found_is_zero_everywhere(tiny):
    record = measures(tiny[1], Detections.empty(), Detections.empty())
    assert record["metrics"]["AP"] == 0 == record["at_05"]["AP"] and record["tide"] is None
    assert all(not example["scores"] for example in record["examples"])


def test_examples_are_test_images_with_their_best_detections(case):
    data, _, record = case
    test_ids = set(data.image_ids[splits(data.image_ids)["test"]].tolist())
    assert len(record["examples"]) == 12
    for example in record["examples"]:
        assert example["image_id"] in test_ids
        assert example["scores"] == sorted(example["scores"], reverse=True)


def test_tide_takes_any_ids_and_says_nothing_without_objects(case):
    data, found, record = case
    coco = {key: [dict(entry) for entry in data.coco[key]] for key in ("images", "annotations", "categories")}
    for entry in coco["images"]:
        entry["id"] -= 10**6
    for entry in coco["annotations"]:
        entry["image_id"] -= 10**6
    rows = splits(data.image_ids)["test"]
    moved = dataclasses.replace(data, coco=data.coco | coco, image_ids=data.image_ids - 10**6)
    assert tide(moved, rows, found) == record["tide"]
    assert tide(dataclasses.replace(data, coco=data.coco | {"annotations": []}), rows, found) is None
