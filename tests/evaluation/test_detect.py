"""From outputs to detections: thresholds, top-k, NMS, clipping, and boxes in the original image's pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.data.split import pictures_in
from focalrepro.detector.boxes import outside
from focalrepro.evaluation.coco_ap import evaluate_coco
from focalrepro.evaluation.detect import candidates, detect, select
from focalrepro.training.batches import config_anchors

CONFIG = RunConfig(
    image_size=64, first_level=3, last_level=4, anchor_size=2.0, precision="fp32", score_threshold=0.05
)
GRID = config_anchors(CONFIG)
ANCHORS, CLASSES = len(GRID.boxes), 3
LOW = -9.0


def outputs(scores):
    """Logits [A, K] with probability scores[(anchor, class)], all others near 0; offsets of zero."""
    logits = torch.full((ANCHORS, CLASSES), LOW)
    for (anchor, label), p in scores.items():
        logits[anchor, label] = torch.tensor(float(p)).logit()
    return logits, torch.zeros(ANCHORS, 4)


def far_apart(count, level=0):
    """Anchors of one level (first shape) at least two cells apart, so that NMS spares them all."""
    side = round((GRID.per_level[level] / GRID.shapes) ** 0.5)
    start = sum(GRID.per_level[:level])
    cells = [y * side + x for y in range(0, side, 2) for x in range(0, side, 2)][:count]
    assert len(cells) == count
    return [start + cell * GRID.shapes for cell in cells]


def test_the_threshold():
    a, b, c = far_apart(3)
    boxes, scores, labels = select(*outputs({(a, 0): 0.06, (b, 1): 0.04, (c, 2): 0.9}), GRID, CONFIG)
    assert scores.tolist() == pytest.approx([0.9, 0.06], abs=1e-6) and labels.tolist() == [2, 0]
    assert torch.equal(boxes, GRID.boxes[[c, a]].clamp(0, 64))
    strict = select(*outputs({(a, 0): 0.06, (c, 2): 0.9}), GRID, CONFIG.replace(score_threshold=0.5))
    assert strict[2].tolist() == [2]


def test_top_k_is_per_level():
    fine, coarse = far_apart(8), far_apart(4, level=1)
    wanted = {(anchor, 0): 0.5 + 0.05 * i for i, anchor in enumerate(fine)}
    wanted |= {(anchor, 1): 0.1 + 0.05 * i for i, anchor in enumerate(coarse)}
    _, scores, labels = select(*outputs(wanted), GRID, CONFIG.replace(topk=3))
    assert scores.tolist() == pytest.approx([0.85, 0.8, 0.75, 0.25, 0.2, 0.15], abs=1e-6)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_an_anchor_may_be_two_objects():
    (a,) = far_apart(1)
    boxes, _, labels = select(*outputs({(a, 0): 0.9, (a, 2): 0.8}), GRID, CONFIG)
    assert labels.tolist() == [0, 2] and torch.equal(boxes[0], boxes[1])


def test_nms_is_per_class():
    (a,) = far_apart(1)
    near = (
        a + GRID.shapes
    )  # the next cell: 8 px on, boxes 16 × 16 of the ratio .5: 22.6 wide, IoU 14.6 / 30.6
    overlap = {(a, 0): 0.9, (near, 0): 0.8, (near, 1): 0.7}
    assert select(*outputs(overlap), GRID, CONFIG.replace(nms=0.3))[2].tolist() == [0, 1]
    assert select(*outputs(overlap), GRID, CONFIG.replace(nms=0.7))[2].tolist() == [0, 0, 1]


def test_max_detections_keeps_the_best():
    spots = far_apart(6)
    wanted = {(anchor, i % CLASSES): 0.3 + 0.1 * i for i, anchor in enumerate(spots)}
    _, scores, _ = select(*outputs(wanted), GRID, CONFIG.replace(max_detections=2))
    assert scores.tolist() == pytest.approx([0.8, 0.7], abs=1e-6)


def test_boxes_are_decoded_and_clipped():
    a, b = far_apart(2)
    logits, offsets = outputs({(a, 0): 0.9, (b, 0): 0.8})
    offsets[b] = torch.tensor([1.0, 0.5, 0.0, float(torch.tensor(2.0).log())])
    offsets[a] = torch.tensor([0.0, 0.0, 9.0, 9.0])  # absurdly large: the whole frame
    boxes, _, _ = select(logits, offsets, GRID, CONFIG)
    assert boxes[0].tolist() == [0, 0, 64, 64]
    x1, y1, x2, y2 = GRID.boxes[b].tolist()
    width, height = x2 - x1, y2 - y1
    moved = [x1 + width, y1 + 0.5 * height - 0.5 * height, x2 + width, y2 + 0.5 * height + 0.5 * height]
    assert boxes[1].tolist() == pytest.approx([min(max(v, 0), 64) for v in moved], abs=1e-4)


class Fixed(nn.Module):
    """In place of a model: the same outputs for every image."""

    def __init__(self, scores):
        super().__init__()
        self.outputs = outputs(scores)

    def features(self, images):
        assert images.dtype == torch.uint8 and images.shape[1:] == (3, 64, 64)
        return [images]

    def predict(self, maps):
        return tuple(t.expand(len(maps[0]), *t.shape) for t in self.outputs)


def dataset(sizes, truth):
    """Images of the original (height, width) in sizes; truth: per image a list of (box xyxy, label)."""
    objects = [(i, box, label) for i, found in enumerate(truth) for box, label in found]
    coco = {
        "images": [{"id": 10 + i, "height": h, "width": w} for i, (h, w) in enumerate(sizes)],
        "annotations": [
            {
                **{"id": n, "image_id": 10 + i, "category_id": label + 1, "iscrowd": 0},
                **{"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)},
            }
            for n, (i, (x1, y1, x2, y2), label) in enumerate(objects, start=1)
        ],
        "categories": [{"id": k + 1, "name": f"c{k}"} for k in range(CLASSES)],
    }
    count = len(sizes)
    return DetectionData(
        name="made",
        split="val",
        images=np.zeros((count, 3, 64, 64), np.uint8),
        boxes=np.zeros((count, 1, 4), np.float32),
        labels=np.full((count, 1), -1),
        sizes=np.array(sizes, np.float32),
        image_ids=np.arange(10, 10 + count),
        categories=("c0", "c1", "c2"),
        coco=coco,
        digest="",
    )


def test_boxes_return_to_the_original_frame():
    """The frame squashes; an image of 128 × 320 is 2 times as high and 5 times as wide."""
    a = far_apart(8)[6]
    x1, y1, x2, y2 = GRID.boxes[a].clamp(0, 64).tolist()
    sizes = [(64, 64), (128, 320), (640, 32)]
    truth = [[((x1 * w / 64, y1 * h / 64, x2 * w / 64, y2 * h / 64), 1)] for h, w in sizes]
    data = dataset(sizes, truth)
    seen = []
    found, merged = detect(
        Fixed({(a, 1): 0.7}), CONFIG, data, torch.device("cpu"), lambda *s: seen.append(s), batch=2
    )
    assert found.image_index.tolist() == [0, 1, 2] and found.labels.tolist() == [1, 1, 1]
    for box, ((expected, _),) in zip(found.boxes, truth, strict=True):
        assert box.tolist() == pytest.approx(expected, rel=1e-6)
    assert evaluate_coco(data.coco, data.image_ids, found).metrics["AP"] == pytest.approx(100)
    assert np.array_equal(merged.boxes, found.boxes) and merged.labels.tolist() == [0, 0, 0]
    assert seen == [(2, 3), (3, 3)]


def test_letterboxed_boxes_return_and_padding_finds_nothing():
    """An image of 100 × 50 fills the frame's left half; detections lie there and on the padding."""
    sizes = np.array([[100, 50], [30, 60]], np.float32)
    pictures = pictures_in(sizes, 64, "letterbox")
    anchors = far_apart(16)
    data = replace(dataset(sizes.astype(int).tolist(), [[], []]), pictures=pictures)
    found, _ = detect(Fixed({(a, 1): 0.7 for a in anchors}), CONFIG, data, torch.device("cpu"))
    for row, (height, width) in enumerate(sizes):
        inside = ~outside(GRID.boxes[anchors], torch.from_numpy(pictures[row : row + 1]))[0]
        assert 0 < inside.sum() < len(anchors)
        limit = torch.tensor([width, height, width, height])
        expected = (GRID.boxes[anchors][inside] * max(height, width) / 64).clamp(min=0).minimum(limit)
        mine = found.boxes[found.image_index == row]
        np.testing.assert_allclose(np.sort(mine, axis=0), np.sort(expected.numpy(), axis=0), rtol=1e-5)
        assert (mine <= limit.numpy()).all()


def test_padding_is_left_out_without_a_threshold_too():
    logits, offsets = outputs({})
    picture = torch.tensor([0.0, 0, 64, 20])
    free = CONFIG.replace(score_threshold=0.0)
    boxes, scores, _ = candidates(logits + 20, offsets, GRID, free, picture)
    assert len(scores) and scores.min() > 0 and boxes[:, 3].max() <= 20
    assert len(candidates(logits, offsets, GRID, free)[1]) > len(scores)


def test_nothing_found_is_an_ap_of_zero():
    data = dataset([(64, 64)] * 2, [[((4, 4, 30, 30), 0)], []])
    found, _ = detect(Fixed({}), CONFIG, data, torch.device("cpu"))
    assert len(found) == 0 and found.boxes.shape == (0, 4)
    assert evaluate_coco(data.coco, data.image_ids, found).metrics["AP"] == 0
