"""What a detector found on a dataset, as flat arrays: the interface between decoding and metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

_FIELDS = {"image_index": (np.int64, ()), "boxes": (np.float32, (4,)), "scores": (np.float32, ())}
_FIELDS |= {"labels": (np.int64, ())}  # of each its type, and the shape of one detection's


class NotFiniteError(ValueError):
    """A detector's weights are finite, and what it computes with them is not."""


@dataclass(frozen=True, eq=False)
class Detections:
    """D detections on the images of one dataset, in any order.

    The order matters for one thing only: among equal scores in one image, COCO prefers the earlier.

    Raises TypeError for another dtype and ValueError for shapes that do not agree or values that are
    not finite: a NaN must not sort itself quietly into a precision-recall curve.
    """

    image_index: np.ndarray  # int64 [D], row of the image in the dataset
    boxes: np.ndarray  # float32 [D, 4], x1, y1, x2, y2 in pixels of the original image
    scores: np.ndarray  # float32 [D]
    labels: np.ndarray  # int64 [D], class in 0..K-1

    def __post_init__(self) -> None:
        for name, (dtype, rest) in _FIELDS.items():
            array, shape = getattr(self, name), (len(self.image_index), *rest)
            if not isinstance(array, np.ndarray) or array.dtype != dtype:
                raise TypeError(f"{name} must be a numpy array of {np.dtype(dtype)}")
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise NotFiniteError("boxes and scores must be finite")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Self:
        """No detections, which is what a collapsed detector such as Table 1a's α = .10 leaves."""
        return cls(**{name: np.zeros((0, *rest), dtype) for name, (dtype, rest) in _FIELDS.items()})

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """The detections of `parts` one after the other; they share one numbering of images."""
        parts = parts or [cls.empty()]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS})

    def taken(self, rows: np.ndarray) -> Self:
        """Some of them, by index or by bool [D]."""
        return type(self)(**{name: getattr(self, name)[rows] for name in _FIELDS})

    def xywh(self) -> np.ndarray:
        """Boxes as COCO writes them: float64 [D, 4] of x1, y1, width, height."""
        boxes = self.boxes.astype(np.float64)
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

    def to_coco(self, image_ids: np.ndarray) -> list[dict]:
        """COCO's result format, a list of D dicts; image_ids: int [N], the COCO id of each dataset row."""
        ids = np.asarray(image_ids, dtype=np.int64)[self.image_index].tolist()
        rows = zip(ids, (self.labels + 1).tolist(), self.xywh().tolist(), self.scores.tolist(), strict=True)
        return [{"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in rows]
