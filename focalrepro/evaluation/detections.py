"""What a detector found on a dataset, as flat arrays: the interface between decoding and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SCHEMA = {  # field: (dtype, columns; 0 for a flat array)
    "image_index": (np.dtype(np.int64), 0),
    "boxes": (np.dtype(np.float32), 4),
    "scores": (np.dtype(np.float32), 0),
    "labels": (np.dtype(np.int64), 0),
}


@dataclass(frozen=True, eq=False)
class Detections:
    """D detections on the images of one dataset, in any order.

    image_index: int64 [D], row of the image in the dataset
    boxes:       float32 [D, 4], x1, y1, x2, y2 in pixels of the original image
    scores:      float32 [D]
    labels:      int64 [D], class in 0..K-1

    The order matters for one thing only: among equal scores in one image, COCO prefers the earlier.

    Raises TypeError for another dtype and ValueError for shapes that do not agree or values that are
    not finite: a NaN must not sort itself quietly into a precision-recall curve.
    """

    image_index: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.image_index)
        for name, (dtype, columns) in _SCHEMA.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != dtype:
                raise TypeError(f"{name} must be a numpy array of {dtype}")
            shape = (count, columns) if columns else (count,)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise ValueError("boxes and scores must be finite")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """No detections, which is what a collapsed detector such as Table 1a's α = .10 leaves."""
        return cls(**{n: np.zeros((0, c) if c else 0, t) for n, (t, c) in _SCHEMA.items()})

    @classmethod
    def concat(cls, parts: Sequence[Detections]) -> Detections:
        """The detections of `parts` one after the other; they share one numbering of images."""
        if not parts:
            return cls.empty()
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _SCHEMA})

    def xywh(self) -> np.ndarray:
        """Boxes as COCO writes them: float64 [D, 4] of x1, y1, width, height."""
        boxes = self.boxes.astype(np.float64)
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

    def to_coco(self, image_ids: np.ndarray) -> list[dict]:
        """COCO's result format, a list of D dicts; category_id is label + 1.

        image_ids: int [N], the COCO id of each dataset row
        """
        ids = np.asarray(image_ids, dtype=np.int64)[self.image_index].tolist()
        rows = zip(ids, (self.labels + 1).tolist(), self.xywh().tolist(), self.scores.tolist(), strict=True)
        return [{"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in rows]
