"""COCO-format JSON, checked entry by entry, and made targets (S×S frame) and truth (original frame).

Files that people annotate themselves have gaps in the ids, lack `info`, `area` or `iscrowd`, and hold boxes
of no area; all of that is taken.  What would make training or AP silently wrong is refused, with its place.
"""

import json
import logging
import reprlib
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, NotRequired, Self

import numpy as np
from pydantic import AfterValidator, FailFast, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from focalrepro.config import Resize
from focalrepro.data.split import DatasetError, pictures_in

Classes = Literal["all", "supercategories"]
log = logging.getLogger(__name__)


def _stays_inside(name: str) -> str:
    """A file name must stay within the image folder, whichever system reads it, and name something in it."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or name[0] in "/\\" or PureWindowsPath(name).drive or "\0" in name:
        raise ValueError("it must name a file and nowhere leave the image folder")
    return name


Id = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Side = Annotated[int, Field(strict=True, ge=1, lt=2**31)]
Pixels = Annotated[float, Field(strict=True, ge=-1e9, le=1e9)]
Text = Annotated[str, Field(strict=True, min_length=1)]


class _Image(TypedDict):
    id: Id
    file_name: Annotated[Text, AfterValidator(_stays_inside)]
    height: Side
    width: Side


class _Category(TypedDict):
    id: Id
    name: Text
    supercategory: NotRequired[Any]


class _Annotation(TypedDict):
    id: Id
    image_id: Id
    category_id: Id
    bbox: Annotated[list[Pixels], Field(min_length=4, max_length=4)]
    area: NotRequired[Annotated[float, Field(strict=True, ge=0, le=1e10)]]
    iscrowd: NotRequired[Annotated[int, Field(ge=0, le=1)]]


class _File(TypedDict):
    images: Annotated[list[_Image], Field(min_length=1), FailFast()]
    annotations: Annotated[list[_Annotation], FailFast()]
    categories: Annotated[list[_Category], Field(min_length=1), FailFast()]
    info: NotRequired[Any]


_FILE = TypeAdapter(_File)
_ONCE = (
    *((kind, "id", "ids must be unique") for kind in ("images", "categories", "annotations")),
    ("categories", "name", "merge the two, or rename one"),
)


@dataclass(frozen=True)
class Annotations:
    """A checked COCO file: images by ascending id, and only the fields that detection needs."""

    path: Path
    info: dict
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]

    def first(self, limit: int) -> Self:
        """Keep the `limit` images of lowest id and their annotations; 0 keeps all."""
        if limit < 0:
            raise DatasetError(f"limit is {limit}: give a number of images, or 0 for all of them")
        return self.only({image["id"] for image in self.images[: limit or None]})

    def only(self, ids: set[int]) -> Self:
        """The images with these ids and their annotations."""
        return Annotations(**of_images(vars(self), ids))


# The annotations as arrays for training and as a COCO dict for evaluation: fields of `DetectionData`.
Targets = namedtuple("Targets", "boxes labels sizes image_ids categories coco pictures")


def read_annotations(path: Path) -> Annotations:
    """A COCO-format detection file, read and checked. Raises DatasetError."""
    path = Path(path)
    if not path.is_file():  # also a pipe or a socket, whose reading would never end
        raise DatasetError(f"{path}: no such annotation file, or no regular one; check the path")
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"), object_hook=_without_outline)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable as JSON ({error}); export or fetch it again") from error
    if not isinstance(raw, dict):
        raise DatasetError(f"{path}: holds a {type(raw).__name__}, a COCO file is an object with `images`, …")
    try:
        found = _FILE.validate_python(raw)
    except ValidationError as error:
        raise DatasetError(f"{path}: {describe_fault(error)}") from None
    for kind, field, mend in _ONCE:
        seen: dict[Any, int] = {}
        for index, entry in enumerate(found[kind]):
            if (first := seen.setdefault(entry[field], index)) != index:
                what = f"{entry[field]!r} is also {kind}[{first}]'s {field}"
                raise DatasetError(f"{path}: {kind}[{index}].{field}: {what}; {mend}")
    known = {kind: {entry["id"] for entry in found[kind]} for kind in ("images", "categories")}
    for index, entry in enumerate(found["annotations"]):
        for field, kind in (("image_id", "images"), ("category_id", "categories")):
            if entry[field] not in known[kind]:
                what = f"annotations[{index}].{field}: none of the {kind} has the id {entry[field]}"
                raise DatasetError(f"{path}: {what}; add it to `{kind}` or remove the annotation")
        entry.setdefault("area", max(entry["bbox"][2], 0) * max(entry["bbox"][3], 0))
        entry.setdefault("iscrowd", 0)
    images, categories = (sorted(found[kind], key=lambda e: e["id"]) for kind in known)
    info = found["info"] if isinstance(found.get("info"), dict) else {}
    return Annotations(path, info, images, found["annotations"], categories)


def of_images(content: dict[str, Any], ids: set[int]) -> dict[str, Any]:
    """A COCO file's content, of the images with these ids alone."""
    images = [image for image in content["images"] if image["id"] in ids]
    annotations = [annotation for annotation in content["annotations"] if annotation["image_id"] in ids]
    return content | {"images": images, "annotations": annotations}


def _without_outline(entry: dict) -> dict:
    """Drop an object's outline as soon as it is read: of COCO's 450 MB of training annotations it is most."""
    entry.pop("segmentation", None)
    return entry


def describe_fault(error: ValidationError) -> str:
    """The first fault of a checked file in one line: its place, what is there, and what it should be."""
    first = error.errors(include_url=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    there = "is missing" if first["type"] == "missing" else f"is {reprlib.repr(first['input'])}"
    mend = first["msg"].removeprefix("Value error, ").replace("Field required", "add the field")
    return f"{place} {there}".lstrip() + f"; {mend.replace('Input', 'it').replace(' after validation', '')}"


def class_map(found: Annotations, classes: Classes) -> tuple[dict[int, int], list[dict]]:
    """({category id of the file: label 0..K-1}, K category entries with id = label + 1).

    "supercategories" merges the categories of one supercategory; order is that of first appearance by id.
    """
    if classes not in ("all", "supercategories"):
        raise DatasetError(f"classes is {classes!r}: choose 'all' or 'supercategories'")
    groups = [str(c.get("supercategory") or "") for c in found.categories]
    names = [c["name"] for c in found.categories] if classes == "all" else groups
    if "" in names:
        nameless = [c["name"] for c, group in zip(found.categories, groups, strict=True) if not group]
        mend = "add it, or use classes='all'"
        raise DatasetError(f"{found.path}: categories {nameless[:5]} have no `supercategory`; {mend}")
    merged = dict(zip(names, groups, strict=True))
    entries = [{"id": k, "name": n, "supercategory": g} for k, (n, g) in enumerate(merged.items(), start=1)]
    label = {name: k for k, name in enumerate(merged)}
    return {c["id"]: label[name] for c, name in zip(found.categories, names, strict=True)}, entries


def make_targets(found: Annotations, size: int, classes: Classes, resize: Resize = "squash") -> Targets:
    """Arrays in the size×size frame and a COCO dict in the original frame.

    A letterboxed image lies at the frame's top left, and a box of it is scaled by one number. A box that
    leaves its image is clipped for training and kept as written for evaluation, as pycocotools does.  A box
    with no area inside its image is left out of both, and counted in a log line.  A crowd box stands for "any
    number of objects here": it is no training target, but excuses detections in evaluation.
    """
    label_of, categories = class_map(found, classes)
    annotations, count = found.annotations, len(found.images)
    row_of = {image["id"]: row for row, image in enumerate(found.images)}
    sizes = np.array([(image["height"], image["width"]) for image in found.images], np.float32).reshape(-1, 2)
    rows = np.array([row_of[a["image_id"]] for a in annotations], np.int64)
    xywh = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)
    limits = sizes[rows][:, ::-1].astype(np.float64)  # width, height
    spans = limits if resize == "squash" else limits.max(axis=1, keepdims=True)  # what fills the frame's side
    low = np.clip(xywh[:, :2], 0, limits) * (size / spans)
    high = np.clip(xywh[:, :2] + xywh[:, 2:], 0, limits) * (size / spans)
    corners = np.concatenate([low, high], axis=1).astype(np.float32)
    # Judged after rounding to float32: a sliver that collapses there would have no area in training either.
    solid = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    if not solid.all():
        log.warning("%s: left out %d boxes that have no area inside their image", found.path, (~solid).sum())
    # Evaluators count annotation ids from 1 and read 0 as "unmatched", so the ids are given anew.
    truth = [
        {**annotations[index], "id": number, "category_id": label_of[annotations[index]["category_id"]] + 1}
        for number, index in enumerate(np.flatnonzero(solid), start=1)
    ]
    keep = np.flatnonzero(solid & ~np.array([a["iscrowd"] for a in annotations], bool))
    keep = keep[np.argsort(rows[keep], kind="stable")]  # by image, and in the file's order within it
    counts = np.bincount(rows[keep], minlength=count)
    places = np.arange(len(keep)) - np.repeat(np.cumsum(counts) - counts, counts)
    boxes = np.zeros((count, max(1, int(counts.max(initial=0))), 4), np.float32)
    labels = np.full(boxes.shape[:2], -1, np.int64)
    boxes[rows[keep], places] = corners[keep]
    labels[rows[keep], places] = [label_of[annotations[index]["category_id"]] for index in keep]
    image_ids = np.array([image["id"] for image in found.images], np.int64)
    coco = {"info": found.info, "images": found.images, "annotations": truth, "categories": categories}
    names, pictures = tuple(c["name"] for c in categories), pictures_in(sizes, size, resize)
    return Targets(boxes, labels, sizes, image_ids, names, coco, pictures)
