"""COCO-format JSON with image folders or tar files -> `DetectionData`.

The digest is over content: two machines with the same images and annotations get the same one, wherever the
files lie and whether they come from a folder or a tar file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from focalrepro.datasets.annotations import Classes, Targets, make_targets, read_annotations
from focalrepro.datasets.data import DatasetError, DetectionData
from focalrepro.datasets.pixels import load_pixels
from focalrepro.datasets.sources import locate, open_sources


def load_coco(
    annotations: Path,
    images: Sequence[Path],
    size: int,
    *,
    name: str,
    split: str,
    limit: int = 0,
    classes: Classes = "all",
    cache: Path,
    progress: bool = True,
) -> DetectionData:
    """Load one split of any COCO-format detection dataset, squashed to size×size pixels.

    `images` are folders and uncompressed tar files, mixed as one likes; an image is found by its path or base
    name in them.  `limit` keeps the images of lowest id (0: all).  `classes="supercategories"` merges classes.
    The decoded pixels are kept in `cache`, so only the first load of a selection takes long.

    Raises DatasetError, naming the file, the entry and the mend, if anything is missing or malformed.
    """
    if size < 1:
        raise DatasetError(f"size is {size}: give the side of the squashed images in pixels")
    found = read_annotations(Path(annotations)).first(limit)
    targets = make_targets(found, size, classes)
    files = locate([image["file_name"] for image in found.images], open_sources(images, Path(cache)))
    pixels, pixels_digest = load_pixels(files, size, Path(cache), progress)
    return DetectionData(
        name=name,
        split=split,
        images=pixels,
        boxes=targets.boxes,
        labels=targets.labels,
        sizes=targets.sizes,
        image_ids=targets.image_ids,
        categories=targets.categories,
        coco=targets.coco,
        digest=_digest(pixels_digest, targets),
        pixels_digest=pixels_digest,
    )


def _digest(pixels_digest: str, targets: Targets) -> str:
    """sha256 over pixels' sources and frame, targets, and what evaluation reads; no path, no description."""
    key = hashlib.sha256(f"detection 1 {pixels_digest}\n".encode())
    for array in (targets.boxes, targets.labels, targets.sizes, targets.image_ids):
        key.update(f"{array.dtype} {array.shape}\n".encode())
        key.update(array.tobytes())
    judged = ("image_id", "category_id", "bbox", "area", "iscrowd")
    truth = [[annotation[field] for field in judged] for annotation in targets.coco["annotations"]]
    key.update(json.dumps([targets.categories, truth]).encode())
    return key.hexdigest()
