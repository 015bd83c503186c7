"""Letterboxed images: objects lie where the pixels are, boxes come back, squashed copies are refused."""

import io
import json

import numpy as np
import pytest
from made import box_entry, encoded, image_entry
from PIL import Image

from focalrepro.config import RunConfig
from focalrepro.data import DatasetError, load_coco
from focalrepro.data.pixels import PADDING, letterbox

SHAPES = {2: (60, 40), 5: (37, 100), 7: (333, 50), 9: (24, 24), 11: (1, 500)}  # width, height
BOXES = {2: [6, 4, 30, 20], 5: [3.5, 71.25, 30, 28.75], 7: [300, 10, 33, 39], 9: [0, 0, 24, 24]}


@pytest.fixture
def wide(made):
    made.value["images"] = [image_entry(key, None, *shape) for key, shape in SHAPES.items()]
    made.value["annotations"] = [box_entry(key, key, box) for key, box in BOXES.items()]
    for key, (width, height) in SHAPES.items():
        (made.images / f"{key:03d}.png").write_bytes(encoded(width, height, seed=key))
    return made


@pytest.mark.parametrize("size", [20, 32, 97])
def test_boxes_survive_there_and_back(wide, size):
    data = wide.load(size=size, resize="letterbox")
    for row, key in enumerate(BOXES):
        x, y, w, h = BOXES[key]
        back = data.boxes[row, 0] * data.scale[row, [1, 0, 1, 0]]
        np.testing.assert_allclose(back, [x, y, x + w, y + h], rtol=1e-6, atol=1e-4)
        shape = (data.boxes[row, 0, 2:] - data.boxes[row, 0, :2]) / np.array([w, h])
        assert shape[0] == pytest.approx(shape[1], rel=1e-4), "the aspect ratio stays"
        corners = np.array(SHAPES[key]) * size / max(SHAPES[key])
        np.testing.assert_allclose(data.pictures[row], [0, 0, *corners], rtol=1e-6)
        assert (data.boxes[row, 0, 2:] <= data.pictures[row, 2:] + 1e-4).all()


def test_beyond_the_picture_is_padding_and_nothing_else(wide):
    data = wide.load(size=32, resize="letterbox")
    assert data.images.shape == (5, 3, 32, 32)
    for image, (_, _, right, bottom) in zip(data.images, data.pictures, strict=True):
        padding = np.ones((32, 32), bool)
        padding[: max(1, int(bottom + 1e-4)), : max(1, int(right + 1e-4))] = False
        assert (image[:, padding].T == PADDING).all()
        assert padding.all(0).all() or (image[:, ~padding].T != PADDING).any()


@pytest.mark.parametrize("shape", [(301, 200), (200, 301), (77, 500)])
def test_a_box_lies_where_its_pixels_are(shape):
    width, height = shape
    box = np.array([0.4 * width, 0.3 * height, 0.9 * width, 0.95 * height]).round()
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 255
    shown = np.asarray(letterbox(Image.fromarray(pixels), 64)).astype(float)[..., 0]
    shown[np.abs(shown - PADDING[0]) < 1] = 0
    x1, y1, x2, y2 = box * 64 / max(shape)
    assert shown.sum() / 255 == pytest.approx((x2 - x1) * (y2 - y1), rel=0.03)
    rows, columns = shown.sum(1), shown.sum(0)
    assert (rows * (np.arange(64) + 0.5)).sum() / rows.sum() == pytest.approx((y1 + y2) / 2, abs=0.1)
    assert (columns * (np.arange(64) + 0.5)).sum() / columns.sum() == pytest.approx((x1 + x2) / 2, abs=0.1)


def test_it_is_another_dataset_and_squares_are_the_same_pixels(wide):
    squashed, boxed = wide.load(), wide.load(resize="letterbox")
    assert squashed.pictures is None and len({squashed.digest, boxed.digest}) == 2
    assert squashed.pixels_digest != boxed.pixels_digest
    np.testing.assert_array_equal(squashed.images[3], boxed.images[3])
    assert squashed.coco == boxed.coco, "AP is computed in the original frame"
    with pytest.raises(DatasetError, match="resize is 'crop': choose one of squash, letterbox"):
        wide.load(resize="crop")


def test_copies_squashed_beforehand_have_lost_their_shape(made):
    for key in (2, 5, 7):
        (made.images / f"{key:03d}.png").write_bytes(encoded(32, 32, seed=key))
    assert made.load(size=20).pictures is None
    with pytest.raises(DatasetError, match=r"002\.png: is 32×32 pixels.*need resize=squash"):
        made.load(size=20, resize="letterbox")


def test_a_panorama_takes_no_more_memory_than_its_frame(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (40_000, 2)).save(stream, "PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    value = {"images": [image_entry(1, "a.png", 40_000, 2)], "annotations": [], "categories": []}
    value["categories"].append({"id": 1, "name": "a"})
    (tmp_path / "a.json").write_text(json.dumps(value))
    paths = tmp_path / "a.json", [tmp_path]
    data = load_coco(*paths, 16, name="n", split="s", cache=tmp_path / "c", resize="letterbox")
    assert data.images[0, :, 0].max() == 0 and (data.images[0, :, 1:].T == PADDING).all()


def test_the_default_leaves_run_ids_as_they_were():
    assert RunConfig().run_id("a", "b", 3) == "1fd9f8f911b3"
    assert RunConfig(resize="letterbox").run_id("a", "b", 3) != RunConfig().run_id("a", "b", 3)
