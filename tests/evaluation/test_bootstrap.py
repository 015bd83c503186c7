"""The weighted bootstrap against real evaluations, of the images as they are and of duplicated images."""

import copy
import math

import numpy as np
import pytest
from test_coco_ap import CLASSES, make_case, reference

from focalrepro.evaluation.coco_ap import bootstrap_weights, evaluate_coco, replicates_of, weighted_ap
from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.match_table import match_table

STATISTICS = ("AP", "AP50", "AP75")


def duplicated(coco, image_ids, detections, weights):
    """The case in which image i occurs weights[i] times, each time under an id of its own."""
    images, annotations, parts, ids = [], [], [], []
    for row, (image_id, weight) in enumerate(zip(image_ids.tolist(), weights.tolist(), strict=True)):
        mine = np.flatnonzero(detections.image_index == row)
        for copy_number in range(weight):
            new = 100 * image_id + copy_number  # keeps the order of the ids
            images.append({"id": new, "width": 640, "height": 640})
            for annotation in coco["annotations"]:
                if annotation["image_id"] == image_id:
                    annotations.append({**annotation, "image_id": new, "id": len(annotations) + 1})
            parts.append(
                Detections(
                    np.full(len(mine), len(ids), np.int64),
                    detections.boxes[mine],
                    detections.scores[mine],
                    detections.labels[mine],
                )
            )
            ids.append(new)
    bigger = {"images": images, "annotations": annotations, "categories": coco["categories"]}
    return bigger, np.array(ids), Detections.concat(parts)


@pytest.mark.parametrize("seed", range(4))
def test_weights_of_one_are_coco(seed):
    case = make_case(seed)
    ours = weighted_ap(match_table(*case), np.ones((1, len(case[1]))))[0]
    metrics = evaluate_coco(*case).metrics
    np.testing.assert_allclose(ours, [metrics[name] for name in STATISTICS], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours, 100 * reference(*case).stats[:3], rtol=0, atol=1e-9)
    assert ours.min() > 5


def test_every_match_is_coco_s():
    """Not the summary alone: matched and ignored flags of each image at each threshold."""
    case = make_case(7, crowd=0.4)
    image_ids = case[1]
    table, evaluation = match_table(*case), reference(*case)
    per_image = {}
    for entry in evaluation.evalImgs:
        if entry is not None and entry["aRng"] == [0, 1e10]:
            per_image[entry["category_id"], entry["image_id"]] = entry
    ignored = 0
    for k, matches in enumerate(table.classes):
        for row, image_id in enumerate(image_ids.tolist()):
            mine = matches.image == row
            if (k + 1, image_id) not in per_image:
                assert not mine.any()
                continue
            entry = per_image[k + 1, image_id]
            np.testing.assert_array_equal(matches.ignored[:, mine], entry["dtIgnore"])
            flags = (entry["dtMatches"] > 0) & ~entry["dtIgnore"].astype(bool)
            np.testing.assert_array_equal(matches.matched[:, mine], flags)
            assert (matches.gt_image == row).sum() == (entry["gtIgnore"] == 0).sum()
            ignored += int(entry["dtIgnore"].sum())
    assert ignored > 50
    assert max(np.bincount(matches.image).max() for matches in table.classes) == 100  # the cut was needed
    assert len(table.classes) == CLASSES


@pytest.mark.parametrize("seed", range(3))
def test_integer_weights_are_duplicated_images(seed):
    case = make_case(seed, decimals=None)  # distinct scores: exact, whatever the order of the copies
    weights = bootstrap_weights(len(case[1]), replicates=3, seed=seed)
    ours = weighted_ap(match_table(*case), weights)
    for row, replicate in zip(ours, weights, strict=True):
        metrics = evaluate_coco(*duplicated(*case, replicate)).metrics
        np.testing.assert_allclose(row, [metrics[name] for name in STATISTICS], rtol=0, atol=1e-9)
    assert np.ptp(ours[:, 0]) > 0.1


def test_zero_weight_drops_the_image():
    case = make_case(4, decimals=None)
    weights = np.ones((1, len(case[1])), np.int16)
    weights[0, 5:] = 0
    metrics = evaluate_coco(*duplicated(*case, weights[0])).metrics
    ours = weighted_ap(match_table(*case), weights)[0]
    np.testing.assert_allclose(ours, [metrics[name] for name in STATISTICS], rtol=0, atol=1e-9)


def tiny():
    """Two images: class 0 found perfectly on the first, class 1 missed on the second."""
    boxes, more = [[10.0, 10.0, 50.0, 40.0], [5.0, 5.0, 30.0, 30.0]], {"area": 900.0, "iscrowd": 0}
    coco = {
        "images": [{"id": 4}, {"id": 9}],
        "annotations": [
            {"id": k + 1, "image_id": (4, 9)[k], "category_id": k + 1, "bbox": boxes[k]} | more
            for k in range(2)
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    found = np.array([[10, 10, 60, 50]], np.float32)
    detections = Detections(np.array([0]), found, np.array([0.9], np.float32), np.array([0]))
    return coco, np.array([4, 9]), detections


def test_class_absent_from_a_replicate_is_left_out():
    weights = np.array([[1, 1], [2, 0], [0, 2], [0, 0]])
    ap = weighted_ap(match_table(*tiny()), weights)[:, 0]
    assert ap == pytest.approx([50.0, 100.0, 0.0, math.nan], nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("later_is_right", [False, True])
def test_equal_overlaps_go_to_the_later_object(later_is_right):
    """The first detection overlaps both objects equally; the second only fits the left one."""
    left, right = [0.0, 0.0, 100.0, 100.0], [20.0, 0.0, 100.0, 100.0]
    boxes = [left, right] if later_is_right else [right, left]
    coco = {
        "images": [{"id": 1}],
        "annotations": [
            {"id": k + 1, "image_id": 1, "category_id": 1, "bbox": b, "area": 1e4, "iscrowd": 0}
            for k, b in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "a"}],
    }
    corners = np.array([[10, 0, 110, 100], [-20, 0, 80, 100]], np.float32)
    detections = Detections(
        np.zeros(2, np.int64), corners, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    )
    case = coco, np.array([1]), detections
    ours = weighted_ap(match_table(*case), np.ones((1, 1)))[0]
    np.testing.assert_allclose(ours, 100 * reference(*case).stats[:3], rtol=0, atol=1e-9)
    assert (ours[1] == pytest.approx(100.0)) == later_is_right


def test_no_detections():
    coco, image_ids, _ = tiny()
    replicates = replicates_of(match_table(coco, image_ids, Detections.empty()), 5)
    assert replicates.shape == (5, 3) and (replicates == 0).all()
    nothing = {**copy.deepcopy(coco), "annotations": []}
    assert np.isnan(replicates_of(match_table(nothing, image_ids, tiny()[2]), 5)).all()


def test_chunks_do_not_change_the_result(monkeypatch):
    case = make_case(2)
    table = match_table(*case)
    weights = bootstrap_weights(len(case[1]), replicates=11)
    whole = weighted_ap(table, weights)
    monkeypatch.setattr("focalrepro.evaluation.coco_ap._CELLS_AT_ONCE", 4 * len(case[1]))
    monkeypatch.setattr("focalrepro.evaluation.match_table._PAIRS_AT_ONCE", 50)
    np.testing.assert_allclose(weighted_ap(match_table(*case), weights), whole, rtol=0, atol=1e-10)


def test_bootstrap_weights_are_draws_with_replacement():
    weights = bootstrap_weights(200, replicates=400)
    assert (weights.sum(axis=1) == 200).all()
    assert weights.var() == pytest.approx(1.0, abs=0.05)  # Poisson-like: variance 1 - 1/n
    np.testing.assert_array_equal(weights, bootstrap_weights(200, replicates=400))
    assert (weights != bootstrap_weights(200, replicates=400, seed=1)).any()
    np.testing.assert_array_equal(weights[:7], bootstrap_weights(200, replicates=7))


def test_weights_are_checked():
    table = match_table(*tiny())
    with pytest.raises(ValueError, match="shape"):
        weighted_ap(table, np.ones((3, 5)))
    with pytest.raises(ValueError, match="negative"):
        weighted_ap(table, -np.ones((3, 2)))
