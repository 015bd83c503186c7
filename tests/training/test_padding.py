"""Padding around letterboxed images: no anchor on it is anybody's, in any view."""

import numpy as np
import pytest
import torch

from focalrepro.data import DetectionData
from focalrepro.data.split import pictures_in
from focalrepro.detector.boxes import outside
from focalrepro.detector.matching import BACKGROUND, IGNORED, match
from focalrepro.detector.views import picture_in, view_of
from focalrepro.study.profiles import PROFILES
from focalrepro.training.batches import TrainData, config_anchors, matches

CONFIG = PROFILES["smoke"].base.replace(image_size=64, resize="letterbox")
SIZES = np.array([[30, 60], [100, 20], [64, 64]], np.float32)
PICTURES = pictures_in(SIZES, 64, "letterbox")
GRID = config_anchors(CONFIG).boxes


def dataset():
    """White pictures on black padding, each with an object at its far corner."""
    images = np.zeros((3, 3, 64, 64), np.uint8)
    boxes = np.zeros((3, 1, 4), np.float32)
    for image, box, (_, _, right, bottom) in zip(images, boxes, PICTURES, strict=True):
        image[:, : round(float(bottom)), : round(float(right))] = 255
        box[0] = max(right - 12, 0), max(bottom - 12, 0), right, bottom
    given = {"categories": ("a",), "coco": {}, "digest": "d", "pictures": PICTURES}
    return DetectionData(
        **{"name": "made", "split": "train", "images": images, "boxes": boxes, "sizes": SIZES, **given},
        **{"labels": np.zeros((3, 1), np.int64), "image_ids": np.arange(3)},
    )


@pytest.mark.parametrize("view", range(6))
def test_a_view_knows_where_it_shows_the_picture(view):
    data = dataset()
    for row in range(3):
        image, boxes, labels = view_of(data, row, view)
        x1, y1, x2, y2 = picture_in(view, row, PICTURES[row], 64)
        assert x2 > x1 and y2 > y1, "a crop always shows some of it"
        assert (image[0] / 255).sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.06)
        for box in boxes[labels >= 0]:
            assert (box >= np.array([x1, y1, x1, y1]) - 1e-3).all()
            assert (box <= np.array([x2, y2, x2, y2]) + 1e-3).all()


def test_no_anchor_on_padding_is_an_objects_or_background():
    source = TrainData(CONFIG, dataset(), torch.device("cpu"))
    assert source.match.shape[:2] == (2, 3), "as it is, and mirrored"
    for view in range(2):
        shown = np.stack([picture_in(view, row, PICTURES[row], 64) for row in range(3)])
        padding = outside(GRID, torch.from_numpy(shown))
        assert padding[:2].any(1).all() and not padding[2].any()
        assert (source.match[view][padding] == IGNORED).all()
        assert (source.match[view] == 0).any(1).all() and (source.match[view] == BACKGROUND).any(1).all()


def test_a_crops_padding_is_ignored_too():
    geometry = (64, CONFIG.levels, CONFIG.anchor_size, CONFIG.anchor_scales, CONFIG.anchor_ratios)
    found = matches(dataset(), 4, torch.device("cpu"), geometry, (0.5, 0.4, 0.4))
    for view in range(4):
        shown = np.stack([picture_in(view, row, PICTURES[row], 64) for row in range(3)])
        assert (found[view][outside(GRID, torch.from_numpy(shown))] == IGNORED).all()


def test_an_object_takes_its_best_anchor_on_the_picture():
    """The anchor that fits best has its centre on the padding; without padding it is the object's."""
    anchors = torch.tensor([[11.0, 0, 29, 16], [10, 0, 20, 7], [40, 40, 56, 56]])
    boxes, valid = torch.tensor([[[10.0, 0, 20, 16]]]), torch.ones(1, 1, dtype=torch.bool)
    assert match(anchors, boxes, valid).tolist() == [[0, IGNORED, BACKGROUND]]
    picture = torch.tensor([[0.0, 0, 20, 64]])
    assert outside(anchors, picture).tolist() == [[True, False, True]]
    assert match(anchors, boxes, valid, pictures=picture).tolist() == [[IGNORED, 0, IGNORED]]
