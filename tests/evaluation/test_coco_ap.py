"""coco_ap against pycocotools, the reference evaluator."""

import contextlib
import copy
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from focalrepro.evaluation.coco_ap import METRICS, evaluate_coco
from focalrepro.evaluation.detections import Detections

CLASSES = 5


def make_case(seed, images=30, decimals=1, crowd=0.15, per_image=14, crowded_image=True):
    """Random (coco, image_ids, detections): boxes near objects, equal scores, crowd regions, empty images.

    `decimals` rounds the scores and so sets how many are equal; None leaves them distinct.
    """
    rng = np.random.default_rng(seed)
    image_ids = rng.permutation(10 * images)[:images] + 1  # neither sorted nor contiguous
    annotations, parts = [], []
    for row, image_id in enumerate(image_ids.tolist()):
        objects = rng.integers(0, 9) if row % 7 else 0
        corner, size = rng.uniform(0, 300, (objects, 2)), np.exp(rng.uniform(2.3, 5.5, (objects, 2)))
        labels = rng.integers(0, CLASSES - 1, objects)  # the last class has no object
        for box, label in zip(np.concatenate([corner, size], 1).round(2).tolist(), labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(rng.random() < crowd),
                }
            )
        count = per_image if row % 5 else 0
        if crowded_image and row == 3:
            count = 350
        near = rng.integers(0, objects, count) if objects else np.zeros(count, int)
        centre = corner[near] if objects else rng.uniform(0, 300, (count, 2))
        extent = size[near] if objects else np.full((count, 2), 50.0)
        x1y1 = centre + extent * rng.normal(0, 0.08, (count, 2))
        x2y2 = x1y1 + extent * np.exp(rng.normal(0, 0.12, (count, 2)))
        guess = labels[near] if objects else np.zeros(count, int)
        guess = np.where(rng.random(count) < 0.25, rng.integers(0, CLASSES, count), guess)
        scores = rng.random(count)
        parts.append(
            Detections(
                image_index=np.full(count, row, np.int64),
                boxes=np.concatenate([x1y1, x2y2], 1).astype(np.float32),
                scores=(scores if decimals is None else scores.round(decimals)).astype(np.float32),
                labels=guess.astype(np.int64),
            )
        )
    coco = {
        "images": [{"id": i, "width": 640, "height": 640} for i in image_ids.tolist()],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": f"class{k}"} for k in range(CLASSES)],
    }
    everything = Detections.concat(parts)
    shuffle = rng.permutation(len(everything))  # the order of the input decides ties within an image
    names = ("image_index", "boxes", "scores", "labels")
    return coco, image_ids, Detections(**{name: getattr(everything, name)[shuffle] for name in names})


def reference(coco, image_ids, detections):
    """pycocotools' evaluation object after `summarize`."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(coco)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections.to_coco(image_ids)), "bbox")
        evaluation.params.imgIds = sorted(image_ids.tolist())
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools(seed):
    coco, image_ids, detections = make_case(seed)
    result = evaluate_coco(coco, image_ids, detections)
    evaluation = reference(coco, image_ids, detections)
    np.testing.assert_allclose(
        [result.metrics[name] for name in METRICS], 100 * evaluation.stats[:9], rtol=0, atol=1e-10
    )
    assert result.metrics["AP50"] > result.metrics["AP"] > 5  # the data exercise the matching
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    for k in range(CLASSES - 1):
        assert result.per_class[f"class{k}"] == pytest.approx(100 * precision[:, :, k].mean(), abs=1e-10)
    assert math.isnan(result.per_class[f"class{CLASSES - 1}"])


def test_equals_faster_coco_eval():
    """A second evaluator, of another implementation: the same numbers on a case with areas of its own."""
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster

    coco, image_ids, detections = make_case(7, images=40, per_image=30)
    for i, annotation in enumerate(coco["annotations"]):
        annotation["area"] *= 0.5 + (i % 3) / 4  # as of masks, not of boxes
    results = detections.to_coco(image_ids)
    for number, result in enumerate(results, start=1):
        result |= {"id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
    truth = copy.deepcopy(coco)
    evaluation = COCOeval_faster(FasterCOCO(truth), FasterCOCO({**truth, "annotations": results}), "bbox")
    evaluation.run()
    ours = evaluate_coco(coco, image_ids, detections).metrics
    np.testing.assert_allclose(
        [ours[name] for name in METRICS], 100 * np.array(evaluation.stats[:9]), rtol=0, atol=1e-9
    )


def test_subset_of_the_images_equals_pycocotools():
    coco, image_ids, detections = make_case(5)
    keep = detections.image_index < 12
    names = ("image_index", "boxes", "scores", "labels")
    part = Detections(**{name: getattr(detections, name)[keep] for name in names})
    metrics = evaluate_coco(coco, image_ids[:12], part).metrics
    expected = 100 * reference(coco, image_ids[:12], part).stats[0]
    assert metrics["AP"] == pytest.approx(expected, abs=1e-10)
    assert metrics["AP"] != pytest.approx(evaluate_coco(coco, image_ids, part).metrics["AP"], abs=0.1)


def test_no_detections_is_zero_and_no_object_is_nan():
    coco, image_ids, _ = make_case(0)
    for annotation in coco["annotations"]:
        annotation["area"] = 500.0  # all small
    result = evaluate_coco(coco, image_ids, Detections.empty())
    for name in METRICS:
        expected = math.nan if name in ("APm", "APl") else 0.0
        assert result.metrics[name] == pytest.approx(expected, nan_ok=True), name
    assert result.per_class["class0"] == 0.0
    assert math.isnan(result.per_class[f"class{CLASSES - 1}"])
    assert evaluate_coco(coco, image_ids, Detections.empty()).per_class["class1"] == 0.0


def test_is_silent_and_leaves_the_ground_truth_alone(capfd):
    coco, image_ids, detections = make_case(1, images=8)
    before = copy.deepcopy(coco)
    evaluate_coco(coco, image_ids, detections)
    assert coco == before
    assert capfd.readouterr() == ("", "")


def test_detections_check_their_arrays():
    good = make_case(0, images=4)[2]
    with pytest.raises(TypeError, match="scores"):
        Detections(good.image_index, good.boxes, good.scores.astype(np.float64), good.labels)
    with pytest.raises(ValueError, match="boxes"):
        Detections(good.image_index, good.boxes[:, :3].copy(), good.scores, good.labels)
    with pytest.raises(ValueError, match="finite"):
        Detections(good.image_index, good.boxes, good.scores * np.float32("nan"), good.labels)


def test_to_coco_writes_ids_and_width():
    detections = Detections(
        np.array([1]), np.array([[10, 20, 40, 25]], np.float32), np.array([0.5], np.float32), np.array([2])
    )
    expected = {"image_id": 77, "category_id": 3, "bbox": [10.0, 20.0, 30.0, 5.0], "score": 0.5}
    assert detections.to_coco(np.array([5, 77])) == [expected]
    assert len(Detections.concat([detections, detections])) == 2
    assert len(Detections.concat([])) == 0
