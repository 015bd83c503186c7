"""Views of a training image: the objects lie where the picture shows them."""

import numpy as np
import pytest

from focalrepro.data import DetectionData
from focalrepro.detector import views
from focalrepro.detector.views import LEAST_VISIBLE


def picture(boxes, size=64):
    """White rectangles on black."""
    image = np.zeros((3, size, size), np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[:, y1:y2, x1:x2] = 255
    return image


BOXES = np.array([[10, 20, 30, 40], [40, 4, 60, 24], [0, 0, 0, 0]], np.float32)
LABELS = np.array([3, 1, -1])
IMAGE = picture(BOXES[:2].astype(int))


def view_of(image, boxes, labels, view, image_id, **more):
    """The view of an image that is a dataset of its own."""
    given = {"images": image, "boxes": boxes, "labels": labels, "sizes": (64, 64), "image_ids": image_id}
    rest = {"name": "made", "split": "train", "categories": ("a",), "coco": {}, "digest": "d"}
    data = DetectionData(**{name: np.asarray(value)[None] for name, value in given.items()}, **rest)
    return views.view_of(data, 0, view, **more)


def test_view_0_is_the_image_and_view_1_its_mirror_image():
    image, boxes, labels = view_of(IMAGE, BOXES, LABELS, 0, 7)
    assert np.array_equal(image, IMAGE) and np.array_equal(boxes, BOXES) and np.array_equal(labels, LABELS)
    image, boxes, labels = view_of(IMAGE, BOXES, LABELS, 1, 7)
    assert np.array_equal(image, IMAGE[:, :, ::-1]) and np.array_equal(labels, LABELS)
    assert boxes.tolist() == [[34, 20, 54, 40], [4, 4, 24, 24], [0, 0, 0, 0]]


@pytest.mark.parametrize("view", [2, 3, 4, 5])
def test_a_crops_boxes_are_the_rectangles_that_it_shows(view):
    seen = 0
    for image_id in range(40):
        image, boxes, labels = view_of(IMAGE, BOXES, LABELS, view, image_id)
        assert image.shape == IMAGE.shape and image.flags["C_CONTIGUOUS"]
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            if label < 0:
                assert (x1, y1, x2, y2) == (0, 0, 0, 0)
                continue
            seen += 1
            inside = image[0, round(y1) + 2 : round(y2) - 1, round(x1) + 2 : round(x2) - 1]
            assert inside.size == 0 or inside.min() > 200
    assert seen > 10


def test_the_crop_follows_from_view_and_id_alone_and_differs_between_them():
    first, again = (view_of(IMAGE, BOXES, LABELS, 2, 5)[0] for _ in range(2))
    assert np.array_equal(first, again)
    for view, image_id in ((4, 5), (2, 6), (2, -5)):
        assert not np.array_equal(first, view_of(IMAGE, BOXES, LABELS, view, image_id)[0])


def test_an_object_that_a_crop_hardly_shows_is_not_its_object():
    """Of a square of 20 pixels, enlarged to more: what is dropped shows less than the least share of it."""
    rng = np.random.default_rng(0)
    dropped = kept = 0
    for image_id in range(200):
        corner = rng.integers(0, 44, 2)
        box = np.array([[*corner, *(corner + 20)]], np.float32)
        image, boxes, labels = view_of(picture(box.astype(int)), box, np.array([0]), 2, image_id)
        white = int((image[0] > 127).sum())
        if labels[0] < 0:
            dropped += 1
            assert white <= LEAST_VISIBLE * 400 / 0.5**2 + 60  # the most that a crop enlarges, and the edges
        else:
            kept += 1
            area = float(np.prod(boxes[0, 2:] - boxes[0, :2]))
            assert white == pytest.approx(area, rel=0.15, abs=40)
    assert dropped > 20 and kept > 20


def test_objects_without_pixels_are_the_same_objects():
    for view in range(6):
        _, boxes, labels = view_of(IMAGE, BOXES, LABELS, view, 9)
        _, same_boxes, same_labels = view_of(IMAGE, BOXES, LABELS, view, 9, pixels=False)
        assert np.array_equal(boxes, same_boxes) and np.array_equal(labels, same_labels)
