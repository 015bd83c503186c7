"""COCO-format JSON, checked entry by entry, and turned into targets (squashed frame) and truth (original frame).

Files that people annotate themselves have gaps in the category ids, lack `info`, `area` or `iscrowd`, and hold
boxes of no area; all of that is taken.  What would make training or AP silently wrong is refused, with the
place and the mend.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import numpy as np

from focalrepro.data.split import DatasetError

Classes = Literal["all", "supercategories"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotations:
    """A checked COCO file: images by ascending id, and only the fields that detection needs."""

    path: Path
    info: dict
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]

    def first(self, limit: int) -> Annotations:
        """Keep the `limit` images of lowest id and their annotations; 0 keeps all."""
        if limit < 0:
            raise DatasetError(f"limit is {limit}: give a number of images, or 0 for all of them")
        if limit == 0 or limit >= len(self.images):
            return self
        images = self.images[:limit]
        kept = {image["id"] for image in images}
        return replace(
            self, images=images, annotations=[a for a in self.annotations if a["image_id"] in kept]
        )


@dataclass(frozen=True)
class Targets:
    """The annotations as arrays for training and as a COCO dict for evaluation; see `DetectionData`."""

    boxes: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    image_ids: np.ndarray
    categories: tuple[str, ...]
    coco: dict


# ---------------------------------------------------------------------------------------------- reading


def read_annotations(path: Path) -> Annotations:
    """Read and check a COCO-format detection file.

    Raises DatasetError naming the file, the entry and field, and the mend.
    """
    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"), object_hook=_without_outline)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such annotation file; check the path") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path}: not readable as JSON ({error}); export or fetch it again") from error
    if not isinstance(raw, dict):
        raise DatasetError(f"{path}: holds a {type(raw).__name__}, a COCO file is an object with `images`, …")
    for field in ("images", "annotations", "categories"):
        if not isinstance(raw.get(field), list):
            raise DatasetError(f"{path}: `{field}` is missing or not a list; this is no COCO detection file")
    check = _Checker(path)
    images = sorted(check.images(raw["images"]), key=lambda image: image["id"])
    categories = sorted(check.categories(raw["categories"]), key=lambda category: category["id"])
    known_images = {image["id"] for image in images}
    known_categories = {category["id"] for category in categories}
    annotations = check.annotations(raw["annotations"], known_images, known_categories)
    info = raw.get("info")
    return Annotations(path, info if isinstance(info, dict) else {}, images, annotations, categories)


def _without_outline(entry: dict) -> dict:
    """Drop an object's outline as soon as it is read: of COCO's 450 MB of training annotations it is most."""
    entry.pop("segmentation", None)
    return entry


class _Checker:
    """Checks entries of one file, so that every complaint names the file, the entry and the mend."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, where: str, what: str, mend: str) -> DatasetError:
        return DatasetError(f"{self.path}: {where}: {what}; {mend}")

    def integer(self, entry: dict, field: str, where: str) -> int:
        if field not in entry:
            raise self.fail(where, f"`{field}` is missing", f"add an integer `{field}`")
        value = entry[field]
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(f"{where}.{field}", f"{value!r} is not an integer", "write it as a whole number")
        return value

    def unique(self, entries: list, kind: str) -> list[tuple[int, str, dict]]:
        """[(id, "kind[index]", entry)], with every id present, an integer and there once."""
        seen: dict[int, int] = {}
        out = []
        for index, entry in enumerate(entries):
            where = f"{kind}[{index}]"
            if not isinstance(entry, dict):
                raise self.fail(
                    where, f"is a {type(entry).__name__}, not an object", "remove or mend the entry"
                )
            key = self.integer(entry, "id", where)
            if key in seen:
                raise self.fail(
                    f"{where}.id", f"{key} is also {kind}[{seen[key]}]'s id", "ids must be unique"
                )
            seen[key] = index
            out.append((key, where, entry))
        return out

    def images(self, entries: list) -> list[dict]:
        out = []
        for key, where, entry in self.unique(entries, "images"):
            name = entry.get("file_name")
            if not isinstance(name, str) or not name:
                raise self.fail(where, "`file_name` is missing or empty", "add the image's file name")
            self.inside(name, where)
            sides = {field: self.integer(entry, field, where) for field in ("height", "width")}
            for field, value in sides.items():
                if value <= 0:
                    raise self.fail(f"{where}.{field}", f"is {value}", "give the image's size in pixels")
            out.append({"id": key, "file_name": name, **sides})
        if not out:
            raise self.fail("images", "the list is empty", "a dataset needs at least one image")
        return out

    def inside(self, name: str, where: str) -> None:
        """A file name must stay within the image folder, whichever system reads it."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or name.startswith(("/", "\\")) or PureWindowsPath(name).drive or "\0" in name:
            mend = "give a path relative to the image folder, without `..`"
            raise self.fail(f"{where}.file_name", f"{name!r} leaves the image folder", mend)

    def categories(self, entries: list) -> list[dict]:
        out = []
        for key, where, entry in self.unique(entries, "categories"):
            name = entry.get("name")
            if not isinstance(name, str) or not name:
                raise self.fail(where, "`name` is missing or empty", "add the category's name")
            group = entry.get("supercategory")
            out.append({"id": key, "name": name, "supercategory": group if isinstance(group, str) else ""})
        if not out:
            raise self.fail("categories", "the list is empty", "a dataset needs at least one category")
        return out

    def annotations(self, entries: list, images: set[int], categories: set[int]) -> list[dict]:
        out = []
        for _, where, entry in self.unique(entries, "annotations"):
            image = self.integer(entry, "image_id", where)
            if image not in images:
                mend = "add the image to `images` or remove the annotation"
                raise self.fail(f"{where}.image_id", f"no image has the id {image}", mend)
            category = self.integer(entry, "category_id", where)
            if category not in categories:
                mend = "add it to `categories` or remove the annotation"
                raise self.fail(f"{where}.category_id", f"no category has the id {category}", mend)
            box = entry.get("bbox")
            if not (isinstance(box, list) and len(box) == 4 and all(_is_finite(v) for v in box)):
                mend = "write it as [x, y, width, height] in pixels"
                raise self.fail(f"{where}.bbox", f"{box!r} is not four finite numbers", mend)
            area = entry.get("area", box[2] * box[3])
            if not _is_finite(area):
                raise self.fail(
                    f"{where}.area", f"{area!r} is not a number", "remove it to use width × height"
                )
            crowd = entry.get("iscrowd", 0)
            if crowd not in (0, 1):
                raise self.fail(f"{where}.iscrowd", f"{crowd!r} is neither 0 nor 1", "remove it to mean 0")
            out.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "bbox": [float(v) for v in box],
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
        return out


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# ---------------------------------------------------------------------------------------------- targets


def class_map(found: Annotations, classes: Classes) -> tuple[dict[int, int], list[dict]]:
    """({category id of the file: label 0..K-1}, K category entries with id = label + 1).

    "supercategories" merges the categories of one supercategory; order is that of first appearance by id.
    """
    if classes == "all":
        names = [(category["name"], category["supercategory"]) for category in found.categories]
        labels = {category["id"]: k for k, category in enumerate(found.categories)}
    elif classes == "supercategories":
        nameless = [category["name"] for category in found.categories if not category["supercategory"]]
        if nameless:
            raise DatasetError(
                f"{found.path}: categories {nameless[:5]} have no `supercategory`; add it, or use classes='all'"
            )
        groups = list(dict.fromkeys(category["supercategory"] for category in found.categories))
        names = [(group, group) for group in groups]
        labels = {category["id"]: groups.index(category["supercategory"]) for category in found.categories}
    else:
        raise DatasetError(f"classes is {classes!r}: choose 'all' or 'supercategories'")
    entries = [{"id": k + 1, "name": name, "supercategory": group} for k, (name, group) in enumerate(names)]
    return labels, entries


def make_targets(found: Annotations, size: int, classes: Classes) -> Targets:
    """Arrays in the size×size frame and a COCO dict in the original frame.

    A box that leaves its image is clipped for training and kept as written for evaluation, as pycocotools
    does.  A box with no area inside its image is left out of both, and counted in a log line.  A crowd box
    stands for "any number of objects here": it is no training target, but excuses detections in evaluation.
    """
    label_of, categories = class_map(found, classes)
    row_of = {image["id"]: row for row, image in enumerate(found.images)}
    sizes = np.array([(image["height"], image["width"]) for image in found.images], np.float32).reshape(-1, 2)
    annotations = found.annotations
    rows = np.array([row_of[a["image_id"]] for a in annotations], np.int64)
    xywh = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)
    limits = sizes[rows][:, ::-1].astype(np.float64)  # width, height
    low = np.clip(xywh[:, :2], 0, limits) * (size / limits)
    high = np.clip(xywh[:, :2] + xywh[:, 2:], 0, limits) * (size / limits)
    corners = np.concatenate([low, high], axis=1).astype(np.float32)
    # Judged after rounding to float32: a sliver that collapses there would have no area in training either.
    solid = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    if not solid.all():
        log.warning("%s: left out %d boxes that have no area inside their image", found.path, (~solid).sum())

    truth = [
        {**annotation, "id": number, "category_id": label_of[annotation["category_id"]] + 1}
        for number, annotation in enumerate(
            (a for a, ok in zip(annotations, solid, strict=True) if ok), start=1
        )
    ]
    crowd = np.array([a["iscrowd"] for a in annotations], bool)
    keep = np.flatnonzero(solid & ~crowd)
    counts = np.bincount(rows[keep], minlength=len(found.images))
    most = max(1, int(counts.max(initial=0)))
    boxes = np.zeros((len(found.images), most, 4), np.float32)
    labels = np.full((len(found.images), most), -1, np.int64)
    filled = np.zeros(len(found.images), np.int64)
    for index in keep:
        row = rows[index]
        boxes[row, filled[row]] = corners[index]
        labels[row, filled[row]] = label_of[annotations[index]["category_id"]]
        filled[row] += 1
    return Targets(
        boxes=boxes,
        labels=labels,
        sizes=sizes,
        image_ids=np.array([image["id"] for image in found.images], np.int64),
        categories=tuple(category["name"] for category in categories),
        # Evaluators count annotation ids from 1 and read 0 as "unmatched", so the ids are given anew.
        coco={"info": found.info, "images": found.images, "annotations": truth, "categories": categories},
    )
