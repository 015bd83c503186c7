"""Prepared datasets by name: a folder `<data root>/<name>/` whose `dataset.json` says where its parts lie.

The embedded digits, COCO and a user's own data are all such folders, so one function loads them all.  Their
digest is over content: the same on every machine, wherever the files lie, in a folder or a tar file.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from focalrepro.config import RARITIES, Resize, did_you_mean
from focalrepro.data.annotations import Classes, Targets, describe_fault, make_targets, read_annotations
from focalrepro.data.pixels import RESIZE, load_pixels
from focalrepro.data.sources import list_files, locate
from focalrepro.data.split import DatasetError, DetectionData
from focalrepro.data.weights import BACKBONE, WEIGHTS
from focalrepro.files import data_root, write_json

DESCRIPTOR = "dataset.json"
SPLITS = ("train", "val")
COMMANDS = {name: f"focalrepro data {name}" for name in ("synthetic", *RARITIES)} | {
    "coco": "focalrepro data coco --from PATH (or without --from, to download COCO's archives, 20 GB)",
    "coco256": "focalrepro data coco256 --from PATH (or without --from, to download the images from COCO)",
}
REGISTER = "focalrepro data register --name {} --train-annotations FILE --train-images PATH"
# Folders of the data root that are no datasets, and of the results that are no profile's.
_RESERVED = {"cache", "runs", "downloads", "weights", "losses", "bench", "figures", "stress"}


class Part(BaseModel):
    """Where one split lies: paths that are absolute or start from the dataset's folder."""

    annotations: str
    images: list[str]


class Descriptor(BaseModel):
    """`dataset.json`; `weights` are {backbone: path}."""

    name: str = ""
    train: Part
    val: Part
    weights: dict[str, str] = {}
    made_by: str = ""
    parameters: dict[str, Any] = {}

    def write(self, folder: Path) -> None:
        """Makes the folder a prepared dataset."""
        write_json(folder / DESCRIPTOR, self.model_dump(exclude_defaults=True) | {"weights": self.weights})


def prepared(root: Path | None = None) -> list[str]:
    """Names of the datasets that are ready to load, sorted."""
    found = (root or data_root()).glob(f"*/{DESCRIPTOR}")
    return sorted(path.parent.name for path in found if not path.parent.name.startswith("."))


def describe(name: str, root: Path | None = None) -> Descriptor:
    """The descriptor of a prepared dataset.  Raises DatasetError that says the command which prepares it."""
    root = root or data_root()
    path = root / name / DESCRIPTOR
    if not _is_name(name) or not path.is_file():
        if name in COMMANDS:
            raise DatasetError(f"dataset {name!r} is not in {root} yet; run: {COMMANDS[name]}")
        hint = did_you_mean(name, {*prepared(root), *COMMANDS})
        there = ", ".join(prepared(root)) or "none"
        what = f"unknown dataset {name!r}; registered in {root}: {there}"
        raise DatasetError(f"{what}{hint}; to register your own, run: {REGISTER.format(name)}")
    try:
        return Descriptor.model_validate_json(path.read_bytes())
    except ValidationError as error:
        what, mend = describe_fault(error), f"move {path.parent} away and register it again"
        mend = f"remove it and run: {COMMANDS[name]}" if name in COMMANDS else mend
        raise DatasetError(f"{path}: not a dataset descriptor ({what}); {mend}") from None


def written(name: str, root: Path) -> tuple[int, ...]:
    """When a dataset's descriptor and its annotations were last written, in ns. Errors: as `describe`."""
    of = describe(name, root)
    paths = [root / name / path for path in (DESCRIPTOR, of.train.annotations, of.val.annotations)]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)


def load(name: str, split: str, size: int, *, root: Path | None = None, **more: Any) -> DetectionData:
    """Load `split` ("train" or "val") of a prepared dataset at size×size pixels.

    more: `limit`, `classes`, `resize` and `cache` of `load_coco`.  Raises DatasetError as `describe` does.
    """
    root = root or data_root()
    descriptor = describe(name, root)
    if split not in SPLITS:
        raise DatasetError(f"split is {split!r}: choose one of {', '.join(SPLITS)}")
    part: Part = getattr(descriptor, split)
    paths = [root / name / path for path in (part.annotations, *part.images)]  # an absolute path stays itself
    return load_coco(paths[0], paths[1:], size, name=name, split=split, **{"cache": root / "cache"} | more)


def load_coco(
    annotations: Path,
    images: Sequence[Path],
    size: int,
    *,
    name: str,
    split: str,
    limit: int = 0,
    classes: Classes = "all",
    resize: Resize = "squash",
    cache: Path,
) -> DetectionData:
    """Load one split of any COCO-format detection dataset, squashed or letterboxed to size×size pixels.

    `images` are folders and uncompressed tar files, mixed as one likes; an image is found by its path or base
    name in them.  `limit` keeps the images of lowest id (0: all).  The decoded pixels are kept in `cache`, so
    only the first load of a selection takes long.  Raises DatasetError if anything is missing or malformed.
    """
    if size < 1:
        raise DatasetError(f"size is {size}: give the side of the frame in pixels")
    if resize not in RESIZE:
        raise DatasetError(f"resize is {resize!r}: choose one of {', '.join(RESIZE)}")
    found = read_annotations(Path(annotations)).first(limit)
    targets = make_targets(found, size, classes, resize)
    files = locate(found, list_files(images))
    pixels, key = load_pixels(files, targets.sizes, size, Path(cache), resize)
    both = {"digest": _digest(key, targets), "pixels_digest": key}
    return DetectionData(name=name, split=split, images=pixels, **targets._asdict(), **both)


def _digest(pixels_digest: str, targets: Targets) -> str:
    """sha256 over pixels' sources and frame, targets, and what evaluation reads; no path, no description."""
    key = hashlib.sha256(f"detection 1 {pixels_digest}\n".encode())
    for array in (targets.boxes, targets.labels, targets.sizes, targets.image_ids):
        key.update(f"{array.dtype} {array.shape}\n".encode() + array.tobytes())
    judged = ("image_id", "category_id", "bbox", "area", "iscrowd")
    truth = [[annotation[field] for field in judged] for annotation in targets.coco["annotations"]]
    key.update(json.dumps([targets.categories, truth]).encode())
    return key.hexdigest()


def weights_path(name: str, backbone: str, root: Path | None = None) -> Path:
    """A backbone's pretrained weights: this dataset's, else those fetched by themselves, else those that came
    with a built-in dataset. What another dataset of one's own was given is its alone. DatasetError if there
    are none."""
    root = root or data_root()
    if given := describe(name, root).weights.get(backbone):
        if (path := root / name / given).is_file():
            return path
        mend = f"prepare {name!r} again or give the file with --weights"
        raise DatasetError(f"{path}: the weights are gone; {mend}")
    places = [root / "weights" / WEIGHTS] if backbone == BACKBONE else []
    there = {owner: describe(owner, root).weights.get(backbone) for owner in {*prepared(root)} & {*COMMANDS}}
    places += [root / owner / given for owner, given in sorted(there.items()) if given]
    if path := next((path for path in places if path.is_file()), None):
        return path
    again = name if name in COMMANDS else f"register --name {name} …"
    mend = f"focalrepro data {again} --weights FILE, or --weights {BACKBONE} to fetch {BACKBONE}'s 102 MB"
    raise DatasetError(f"no prepared dataset has weights for {backbone!r}; run: {mend}")


def check_name(name: str) -> None:
    """DatasetError where it cannot be the name of a user's dataset."""
    if not _is_name(name) or name in COMMANDS or name.startswith("synthetic"):
        taken = ", ".join(sorted({*_RESERVED, *COMMANDS}))
        rule = (
            f"use letters, digits, '.', '_' and '-', nothing that begins with synthetic, and none of {taken}"
        )
        raise DatasetError(f"{name!r} cannot be a dataset's name: {rule}")


def check_replaced(folder: Path, mend: str, sources: Sequence[Path] = ()) -> None:
    """DatasetError where making a dataset's folder anew would remove a user's own files.

    That is a folder which was not made here, or in which one of the sources lies.
    """
    mine = (folder / DESCRIPTOR).is_file() or (folder.is_dir() and not any(folder.iterdir()))
    if folder.exists() and not mine:
        raise DatasetError(f"{folder}: is there already, without {DESCRIPTOR}, and would be replaced; {mend}")
    for path in sources:
        if Path(path).resolve().is_relative_to(folder.resolve()):
            raise DatasetError(f"{path}: lies in {folder}, which would be replaced; {mend}")


def _is_name(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)) and name not in _RESERVED
