"""Prepared datasets by name: a folder `<data root>/<name>/` whose `dataset.json` says where its parts lie.

The embedded digits, COCO and a user's own data are all such folders, so one function loads them all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from focalrepro.data.annotations import Classes, Targets, make_targets, read_annotations
from focalrepro.data.pixels import load_pixels
from focalrepro.data.sources import locate, open_sources
from focalrepro.data.split import DatasetError, DetectionData
from focalrepro.files import data_root, write_json

DESCRIPTOR = "dataset.json"
SPLITS = ("train", "val")
COMMANDS = {
    "synthetic": "focalrepro data synthetic",
    "coco256": "focalrepro data coco256 --from PATH (or without --from, to download the images from COCO)",
}
# Folders of the data root that are no datasets.
_RESERVED = {"cache", "runs", "manifests", "downloads"}


def prepared(root: Path | None = None) -> list[str]:
    """Names of the datasets that are ready to load, sorted."""
    root = data_root() if root is None else Path(root)
    if not root.is_dir():
        return []
    return sorted(
        path.parent.name for path in root.glob(f"*/{DESCRIPTOR}") if not path.parent.name.startswith(".")
    )


def describe(name: str, root: Path | None = None) -> dict:
    """The descriptor of a prepared dataset.  Raises DatasetError that says the command which prepares it."""
    root = data_root() if root is None else Path(root)
    path = root / name / DESCRIPTOR
    if not _is_name(name) or not path.is_file():
        if name in COMMANDS:
            raise DatasetError(f"dataset {name!r} is not in {root} yet; run: {COMMANDS[name]}")
        there = ", ".join(prepared(root)) or "none"
        raise DatasetError(
            f"unknown dataset {name!r}; prepared in {root}: {there}. To prepare one: {COMMANDS['synthetic']}; "
            f"{COMMANDS['coco256']}; focalrepro data register --name NAME … for your own COCO-format data"
        )
    try:
        descriptor = json.loads(path.read_text(encoding="utf-8"))
        for split in SPLITS:
            part = descriptor[split]
            if not isinstance(part["annotations"], str) or not isinstance(part["images"], list):
                raise TypeError(f"`{split}` needs `annotations` (a path) and `images` (a list of paths)")
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: not a dataset descriptor ({error!r}); prepare the dataset again"
        ) from error
    return descriptor


def load(
    name: str,
    split: str,
    size: int,
    *,
    limit: int = 0,
    classes: Classes = "all",
    root: Path | None = None,
    progress: bool = True,
) -> DetectionData:
    """Load `split` ("train" or "val") of a prepared dataset at size×size pixels; see `load_coco`.

    Raises DatasetError with the command to run if the dataset is not prepared.
    """
    root = data_root() if root is None else Path(root)
    descriptor = describe(name, root)
    if split not in SPLITS:
        raise DatasetError(f"split is {split!r}: choose one of {', '.join(SPLITS)}")
    folder = root / name
    return load_coco(
        folder / descriptor[split]["annotations"],  # an absolute path stays itself
        [folder / path for path in descriptor[split]["images"]],
        size,
        name=name,
        split=split,
        limit=limit,
        classes=classes,
        cache=root / "cache",
        progress=progress,
    )


def weights_path(name: str, backbone: str, root: Path | None = None) -> Path:
    """Pretrained weights of a backbone: those that came with this dataset, else with any other that is prepared.

    Raises DatasetError if there are none.
    """
    root = data_root() if root is None else Path(root)
    describe(name, root)
    for owner in (name, *(other for other in prepared(root) if other != name)):
        given = describe(owner, root).get("weights", {}).get(backbone)
        if given is None:
            continue
        path = root / owner / given
        if not path.is_file():
            raise DatasetError(
                f"{path}: the weights are gone; prepare {owner!r} again or give the file with --weights"
            )
        return path
    raise DatasetError(
        f"no prepared dataset has weights for {backbone!r}; give the file: focalrepro data coco256 --weights FILE"
    )


def register(
    name: str,
    train_annotations: Path,
    train_images: Sequence[Path],
    val_annotations: Path,
    val_images: Sequence[Path],
    root: Path | None = None,
) -> Path:
    """Check a user's own COCO-format data and write its descriptor; the data stays where it is.

    Every annotation is checked and every image is looked up, none is decoded.  Returns the dataset's folder.
    """
    root = data_root() if root is None else Path(root)
    if not _is_name(name) or name in COMMANDS:
        raise DatasetError(
            f"{name!r} cannot be a dataset's name: use letters, digits, '.', '_' and '-', and none of "
            f"{', '.join(sorted({*_RESERVED, *COMMANDS}))}"
        )
    splits = {"train": (train_annotations, train_images), "val": (val_annotations, val_images)}
    descriptor: dict = {"name": name}
    seen = {}
    for split, (path, images) in splits.items():
        found = read_annotations(Path(path))
        locate([image["file_name"] for image in found.images], open_sources(images, root / "cache"))
        seen[split] = [(category["id"], category["name"]) for category in found.categories]
        descriptor[split] = {
            "annotations": str(Path(path).resolve()),
            "images": [str(Path(source).resolve()) for source in images],
        }
    if seen["train"] != seen["val"]:
        odd = sorted(set(seen["train"]) ^ set(seen["val"]))[:5]
        raise DatasetError(
            f"{train_annotations} and {val_annotations} have different categories (id, name): {odd}; "
            "a label must mean the same in both, so give them the same list"
        )
    descriptor |= {"weights": {}, "made_by": f"focalrepro data register --name {name}"}
    write_json(root / name / DESCRIPTOR, descriptor)
    return root / name


def _is_name(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)) and name not in _RESERVED


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
