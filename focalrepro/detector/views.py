"""Views: other pictures of a training image, each encoded once where the backbone is frozen.

A frozen backbone's maps cannot be mirrored or cropped as they are: a strided convolution samples one side of
each cell, so a mirrored map is off the map of the mirrored image by a part of a cell, and boxes learned from
it would be, too. So the image is changed and encoded again. View 0 is the image, view 1 its mirror image; of
the others each is a crop of its own, enlarged to the frame, and every odd one is mirrored besides.
"""

import numpy as np
from PIL import Image

from focalrepro.data import DetectionData

SIDES = (0.5, 0.85)  # a crop's side, as a share of the image's
LEAST_VISIBLE = 0.4  # an object of which a crop shows less is not one of its objects


def view_of(
    data: DetectionData, row: int, view: int, pixels: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One view of an image: uint8 [3, S, S], boxes float32 [M, 4] in it, labels int64 [M], padding last.

    Which crop it is follows from the view's number, the image's id and where the image lies in its frame
    alone. pixels: False returns the image as it came, where only the objects are wanted.
    """
    image, size = data.images[row], data.frame
    boxes, labels = data.boxes[row].copy(), data.labels[row].copy()
    if view >= 2:
        picture = None if data.pictures is None else data.pictures[row]
        x, y, side = _crop(view, int(data.image_ids[row]), size, picture)
        if pixels:
            whole = Image.fromarray(image.transpose(1, 2, 0))
            enlarged = whole.resize((size, size), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side))
            image = np.asarray(enlarged).transpose(2, 0, 1)
        boxes, labels = _cropped(boxes, labels, np.array([x, y, x, y], np.float32), side, size)
    if view % 2:
        image = image[:, :, ::-1] if pixels else image
        left = np.where(labels >= 0, size - boxes[:, 2], 0)
        boxes[:, 2] = np.where(labels >= 0, size - boxes[:, 0], 0)
        boxes[:, 0] = left
    return np.ascontiguousarray(image) if pixels else image, boxes, labels


def picture_in(view: int, image_id: int, picture: np.ndarray, size: int) -> np.ndarray:
    """Where a view shows the picture, float32 [4] as `picture` is: the rest of the view is padding."""
    if view >= 2:
        x, y, side = _crop(view, image_id, size, picture)
        picture = np.clip(picture - np.array([x, y, x, y]), 0, side) * (size / side)
    x1, y1, x2, y2 = picture
    return np.array([size - x2, y1, size - x1, y2] if view % 2 else picture, np.float32)


def _crop(view: int, image_id: int, size: int, picture: np.ndarray | None) -> tuple[float, float, float]:
    """x, y and side of a view's crop, which leaves the picture, at the top left, only where it must."""
    rng = np.random.default_rng([view - 1, image_id % 2**64])  # a COCO file's ids may be negative
    side = rng.uniform(*SIDES) * size
    room = np.array([size, size]) if picture is None else picture[2:].astype(np.float64)
    x, y = rng.uniform(0, np.maximum(room - side, 0))
    return x, y, side


def _cropped(
    boxes: np.ndarray, labels: np.ndarray, origin: np.ndarray, side: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The objects that a crop shows, clipped to it and in the frame's pixels."""
    shown = np.clip(boxes - origin, 0, side)
    area, visible = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes, shown))
    kept = (labels >= 0) & (visible > 0) & (visible >= LEAST_VISIBLE * np.maximum(area, 1e-6))
    new_boxes, new_labels = np.zeros_like(boxes), np.full_like(labels, -1)
    new_boxes[: kept.sum()] = (shown[kept] * (size / side)).astype(np.float32)
    new_labels[: kept.sum()] = labels[kept]
    return new_boxes, new_labels
