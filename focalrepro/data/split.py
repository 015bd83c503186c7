"""What every dataset becomes before anything is trained on it: an array of pixels, of boxes, of labels.

The embedded digits and COCO end in the same `DetectionData`, so training and evaluation know of no dataset
by name.
"""

from dataclasses import dataclass

import numpy as np

from focalrepro.config import Resize


class DatasetError(ValueError):
    """A dataset is absent, incomplete or wrong.  The message names the file, the place in it and the mend.

    What the system refuses (permission, disk, memory) stays an OSError or MemoryError, which `files.refusal`
    puts into one line for the terminal.
    """


def pictures_in(sizes: np.ndarray, frame: int, resize: Resize) -> np.ndarray | None:
    """Where images of sizes [N,2] (height, width) lie in their frame: `DetectionData.pictures`."""
    if resize == "squash":
        return None
    corner = sizes[:, ::-1].astype(np.float64) * frame / sizes.max(axis=1, keepdims=True)
    return np.concatenate([np.zeros_like(corner), corner], axis=1).astype(np.float32)


def scale_of(sizes: np.ndarray, frame: int, pictures: np.ndarray | None) -> np.ndarray:
    """float32 [N,2], original pixels in one of the frame's, down and across."""
    return sizes / (frame if pictures is None else pictures[:, [3, 2]])


@dataclass(frozen=True, eq=False)
class DetectionData:
    """One split: N images, squashed or letterboxed to S×S pixels, at most M boxes in one of them, K classes.

    Training reads `images`, `boxes` and `labels` (the S×S frame); evaluation reads `coco` (the original
    frame, crowd boxes included), because AP is a statement about the original images.
    """

    name: str
    split: str
    images: np.ndarray  # uint8 [N,3,S,S], RGB, mapped from disk (read-only): slicing reads only what is asked
    boxes: np.ndarray  # float32 [N,M,4], x1,y1,x2,y2 in the frame, clipped to it; zeros where `labels` is -1
    labels: np.ndarray  # int64 [N,M], 0..K-1; -1 is padding, always after the real boxes of the image
    sizes: np.ndarray  # float32 [N,2], original height and width in pixels
    image_ids: np.ndarray  # int64 [N], ascending
    categories: tuple[str, ...]  # K names; label k is categories[k]
    coco: dict  # COCO-format, in the original frame; category_id = label + 1; annotation ids count from 1
    # sha256 (hex) of all that a run depends on: image files, frame, targets and evaluation annotations.
    digest: str
    # float32 [N,4], where each image lies in the frame, whose rest is padding; None: it fills its frame.
    pictures: np.ndarray | None = None
    # sha256 (hex) of the images and their frame alone: the key of what is computed from pixels only.
    pixels_digest: str = ""

    @property
    def frame(self) -> int:
        """S, the side of the frame in pixels."""
        return int(self.images.shape[-1])

    @property
    def scale(self) -> np.ndarray:
        """float32 [N,2], original pixels in one of the frame's, down and across."""
        return scale_of(self.sizes, self.frame, self.pictures)

    def __len__(self) -> int:
        return len(self.image_ids)
