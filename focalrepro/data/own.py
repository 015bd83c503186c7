"""A user's own dataset in COCO's form, YOLO's or Pascal VOC's, registered under a name.

Everything is registered in COCO's form, and images stay where they are. A fault is told with its file, the
line or the field, and the mend.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree

import numpy as np
import yaml
from PIL import Image

from focalrepro.data.annotations import of_images, read_annotations
from focalrepro.data.pixels import is_turned
from focalrepro.data.registry import (
    SPLITS,
    Descriptor,
    Part,
    check_name,
    check_replaced,
    describe,
    prepared,
    weights_path,
)
from focalrepro.data.sources import list_files, locate, walk
from focalrepro.data.split import DatasetError
from focalrepro.data.weights import BACKBONE, given_weights
from focalrepro.files import data_root, new_folder, write_json

VAL_SHARE = 0.2  # of the images, where nobody says which
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# A COCO file's content, or where it is; and the folders and tar files of its images.
Split = tuple[dict[str, Any] | Path, Sequence[Path]]


def register_own(
    name: str,
    data: Path,
    images: Sequence[Path] = (),
    val_data: Path | None = None,
    val_images: Sequence[Path] = (),
    weights: Path | None = None,
    recipe: dict[str, Any] | None = None,
) -> Path:
    """Registers a dataset whose images stay where they are; returns its folder. Half of it is never there.

    data: a COCO JSON, whose images are given beside it; a data.yaml, or its folder; or a folder of Pascal
    VOC's form. Where no validation split is given or found, a random fifth of the images becomes it, the same
    at each call. Every annotation is checked and every image is looked up, none is decoded. weights: the
    backbone's safetensors file, or as before. recipe: the fields of RunConfig that its profile has otherwise;
    None: as before.
    """
    root = data_root()
    check_name(name)
    sources = [str(Path(path).resolve()) for path in (data, val_data) if path is not None]
    known = describe(name) if name in prepared() else None
    recipe = (known.parameters.get("recipe", {}) if known else {}) if recipe is None else recipe
    files, has = {} if weights is None else given_weights(weights), known.weights if known else {}
    runs, mend = root / "runs" / name, f"give another name, or remove {root / name}"
    if known and (before := known.parameters.get("sources", sources)) != sources:
        raise DatasetError(f"{name!r} is the name of {' and '.join(before)} already; {mend}")
    if files and files != _began_with(name) and any(runs.glob("*.json")):  # whose ids do not name them
        what = f"{runs} has runs that began with other weights than {weights}"
        raise DatasetError(f"{what}; give another name, or remove that folder")
    parts = _read(Path(data), images)
    if val_images and val_data is None:
        raise DatasetError("images for validation are given without their annotations: give these, too")
    if val_data is not None:
        shared = images if Path(val_data).is_file() else ()
        parts = [parts[0], _read(Path(val_data), val_images or shared)[-1]]
        if all((Path(path) / "Annotations").is_dir() for path in (data, val_data)):
            parts = _numbered_alike(parts)
    elif len(parts) == 1:
        parts = _split(data, *parts[0])
    given = [path for path in (data, val_data) if path] + [path for _, where in parts for path in where]
    check_replaced(root / name, "give another name, or move it", given)
    described, classes, files_of = {}, {}, {}
    with new_folder(root / name) as folder:
        for split, (content, where) in zip(SPLITS, parts, strict=True):
            file = f"{split}.json" if isinstance(content, dict) else str(content.resolve())
            if isinstance(content, dict):
                write_json(folder / file, content)
            found = read_annotations(folder / file)
            files_of[split] = set(locate(found, list_files(where)))
            classes[split] = {(category["id"], category["name"]) for category in found.categories}
            described[split] = Part(annotations=file, images=[str(Path(place).resolve()) for place in where])
        if odd := sorted(classes["train"] ^ classes["val"]):
            what = f"{' and '.join(sources)} have different categories (id, name): {odd[:5]}"
            raise DatasetError(f"{what}; a label must mean the same in both, so give them the same list")
        if both := sorted(file.name for file in files_of["train"] & files_of["val"]):
            what = f"{len(both)} images are in the training and the validation split, as {both[0]}"
            _fault(" and ".join(sources), what, "take them out of one, or give one split alone")
        more = {"weights": files or has, "parameters": {"sources": sources, "recipe": recipe}}
        made_by = f"focalrepro data register --name {name}"
        Descriptor(name=name, made_by=made_by, **described, **more).write(folder)
    return root / name


def _began_with(name: str) -> dict[str, str]:
    """The backbone's weights that a dataset's runs begin with, its own or those for all; {} without any."""
    with suppress(DatasetError):
        return {BACKBONE: str(weights_path(name, BACKBONE).resolve())}
    return {}


def _read(data: Path, images: Sequence[Path]) -> list[Split]:
    """One split or two."""
    data = data / "data.yaml" if (data / "data.yaml").is_file() else data
    if images and (data.suffix in (".yaml", ".yml") or data.is_dir()):
        _fault(data, "says itself where its images are", "leave out the folder or tar file of images")
    if data.suffix in (".yaml", ".yml"):
        return read_yolo(data)
    if (data / "Annotations").is_dir():
        return read_voc(data)
    if data.is_dir():
        _fault(data, "has neither data.yaml nor Annotations/", "give it, or a COCO JSON file")
    if not (images or data.exists()):
        _fault(data, "does not exist", "give a COCO JSON file, YOLO's data.yaml or a Pascal VOC folder")
    if not images:
        raise DatasetError(f"{data}: give the folder or tar file of its images, too")
    return [(data, images)]


def _split(data: Path, content: dict | Path, images: Sequence[Path]) -> list[Split]:
    """The images at random, whatever is on them: those of training and those of validation."""
    whole = content if isinstance(content, dict) else asdict(read_annotations(content))
    whole = {key: whole[key] for key in ("images", "annotations", "categories")}
    ids = [image["id"] for image in whole["images"]]
    if len(ids) < 2:
        _fault(data, "one image cannot be split", "give data for validation, too")
    order = np.random.default_rng(0).permutation(len(ids))
    val = {ids[i] for i in order[: max(1, round(VAL_SHARE * len(ids)))]}
    return [(of_images(whole, kept), images) for kept in (set(ids) - val, val)]


def read_yolo(file: Path) -> list[Split]:
    """The training and, where there is one, the validation split that a data.yaml names.

    The labels of images/a.jpg are labels/a.txt, else a.txt beside it; an image without is background. A line
    is `class x y width height`, as shares of the image, or a class and the outline of an object; where the
    file has `kpt_shape`, what follows the box are keypoints, which are not read.
    """
    try:
        given = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        _fault(file, f"not readable as YAML ({' '.join(str(error).split())})", "export it again")
    if not isinstance(given, dict) or not isinstance(given.get("train"), str):
        _fault(file, "`train` is no folder", "add that of the images, as train: images/train")
    names = given.get("names")
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict) or not names or not all(isinstance(key, int) for key in names):
        _fault(file, "`names` is no list of classes", "add it, as names: [cat, dog]")
    if not all(isinstance(word, (str, int, float)) for word in names.values()):  # aliases grow without bound
        _fault(file, "`names`: a class's name is no text", "write them as names: [cat, dog]")
    words = list(map(str, names.values()))
    if odd := [word for word in words if not word or words.count(word) > 1]:
        _fault(file, f"`names`: {odd[0]!r:.60} is empty or there twice", "give each class its own name")
    splits = []
    for split in ("train", "val") if given.get("val") else ("train",):
        root, inside = file.parent, str(given.get(split))
        places = [root / str(given.get("path", ".")) / inside, root / inside]
        places += [root / inside.removeprefix("../")]  # as Roboflow means it
        folder = next((place for place in places if place.is_dir()), None)
        what = f"`{split}`: there is no folder {places[0]}"
        folder = folder or _fault(file, what, "give that of its images, from here on")
        splits.append((_yolo_split(folder, names, pose="kpt_shape" in given), [folder]))
    return splits


def _yolo_split(folder: Path, names: dict[int, Any], pose: bool) -> dict[str, Any]:
    images, boxes, label = [], [], folder
    for number, path in enumerate(_images(folder), start=1):
        try:
            with Image.open(path) as image:
                width, height, turned = *image.size, is_turned(image)
        except Exception as error:  # decoders raise many kinds
            _fault(path, f"not an image ({error})", "fetch or export this file again")
        name = path.relative_to(folder).as_posix()
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        beside = path.with_suffix(".txt")
        label = Path("/labels/".join(str(beside.absolute()).rsplit("/images/", 1)))
        label = beside if beside.is_file() and not label.is_file() else label
        if turned and label.is_file():
            _fault(path, "asks by EXIF to be turned, and shares do not say of which form", "save it turned")
        lines = label.read_text("utf-8-sig", "replace").splitlines() if label.is_file() else []
        for at, words in enumerate(map(str.split, lines), start=1):
            if words:
                words = words[:5] if pose else words
                kind, shares = _yolo_line(f"{label}: line {at}", words, names)
                box = [v * side for v, side in zip(shares, (width, height) * 2, strict=True)]
                boxes.append({"image_id": number, "category_id": kind + 1, "bbox": box})
    if not boxes:
        _fault(folder, "its images have no labels", f"the last one's would be {label}")
    return _coco(images, boxes, {key: str(name) for key, name in sorted(names.items())})


def _yolo_line(place: str, words: list[str], names: dict[int, Any]) -> tuple[int, list[float]]:
    """The class, and x, y, width and height of its box, as shares of the image."""
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        mend = "give `class x y width height`, or a class and the x y of an outline's points"
        _fault(place, f"{' '.join(words)!r:.60} has {len(words)} numbers", mend)
    if words[0] not in map(str, names):
        _fault(place, f"class {words[0]!r:.20}", f"give one of `names`, {min(names)} … {max(names)}")
    values = [_number(place, f"number {i}", word) for i, word in enumerate(words[1:], start=2)]
    if far := [v for v in values if not -0.5 <= v <= 1.5]:
        _fault(place, f"{far[0]:g} is no share of the image", "divide pixels by its width or height")
    if len(values) == 4:
        x, y, w, h = values
        return int(words[0]), [x - w / 2, y - h / 2, w, h]
    x, y = values[::2], values[1::2]
    return int(words[0]), [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def read_voc(folder: Path) -> list[Split]:
    """Annotations/*.xml with the images of their names in JPEGImages/: one split, or the two that
    ImageSets/Main/train.txt and val.txt list.

    Corners count pixels from 1 and belong to the box. Objects marked `difficult` become crowd boxes: nothing
    learns them, and finding one counts neither way.
    """
    pictures: dict[str, Path] = {}
    for path in _images(folder / "JPEGImages"):
        if (first := pictures.setdefault(path.stem, path)) != path:
            _fault(path, f"its annotations could be those of {first}, too", "rename or remove one of them")
    images, boxes = [], []
    for number, file in enumerate(sorted((folder / "Annotations").glob("*.xml")), start=1):
        try:
            root = ElementTree.parse(file).getroot()
        except (OSError, ValueError, ElementTree.ParseError) as error:
            _fault(file, f"not readable as XML ({error})", "export it again")
        if file.stem not in pictures:
            _fault(file, f"no image {file.stem}.* in JPEGImages", "add it, or remove this file")
        sides = ("width", "height")
        size = {s: int(_number(file, f"size.{s}", root.findtext(f"size/{s}"), 1)) for s in sides}
        images.append({"id": number, "file_name": pictures[file.stem].name, **size})
        for at, found in enumerate(root.iter("object"), start=1):
            place, edges = f"{file}: object {at}", ("xmin", "ymin", "xmax", "ymax")
            x1, y1, x2, y2 = (_number(place, edge, found.findtext(f"bndbox/{edge}")) for edge in edges)
            name = found.findtext("name", "").strip() or _fault(place, "name is missing", "add the class")
            crowd = int(found.findtext("difficult", "").strip() == "1")
            box = {"image_id": number, "category_id": name, "iscrowd": crowd}
            boxes.append(box | {"bbox": [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]})
    names = sorted({box["category_id"] for box in boxes})
    if not names:
        _fault(folder / "Annotations", "there is no object in its .xml files", "label some")
    boxes = [box | {"category_id": names.index(box["category_id"]) + 1} for box in boxes]
    whole = _coco(images, boxes, dict(enumerate(names)))
    lists = [folder / "ImageSets" / "Main" / f"{split}.txt" for split in ("train", "val")]
    if not all(path.is_file() for path in lists):
        return [(whole, [folder / "JPEGImages"])]
    ids = {Path(image["file_name"]).stem: image["id"] for image in images}
    return [(of_images(whole, _listed(path, ids)), [folder / "JPEGImages"]) for path in lists]


def _listed(path: Path, ids: dict[str, int]) -> set[int]:
    """The ids of the images that a list of Pascal VOC's form names, one a line."""
    lines = map(str.strip, path.read_text("utf-8-sig", "replace").splitlines())
    for name in (names := [line for line in lines if line]):
        if name not in ids:
            _fault(path, f"{name!r:.60} has no file in Annotations", "add it, or take it off the list")
    if not names:
        _fault(path, "lists no image", "name some, one a line, or remove it")
    return {ids[name] for name in names}


def _numbered_alike(parts: list[Split]) -> list[Split]:
    """Splits of Pascal VOC's form, which has no list of classes: each class has the same id in all."""
    names = sorted({c["name"] for content, _ in parts for c in content["categories"]})
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    alike = []
    for content, images in parts:
        new = {c["id"]: names.index(c["name"]) + 1 for c in content["categories"]}
        boxes = [box | {"category_id": new[box["category_id"]]} for box in content["annotations"]]
        alike.append((content | {"annotations": boxes, "categories": categories}, images))
    return alike


def _coco(images: list[dict], boxes: list[dict], names: dict[int, str]) -> dict[str, Any]:
    categories = [{"id": key + 1, "name": name} for key, name in names.items()]
    annotations = [{"id": number, **box} for number, box in enumerate(boxes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _images(folder: Path) -> list[Path]:
    found = sorted(path for path in walk(folder) if path.suffix.lower() in SUFFIXES)
    return found or _fault(folder, "no images here", f"put them there, as {', '.join(SUFFIXES)}")


def _number(place: object, field: str, text: str | None, least: float = -math.inf) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value >= least:
        return value
    what = f"{field} is {'missing' if text is None else repr(text[:40])}"
    _fault(place, what, f"it must be a number{' of 1 or more' * (least == 1)}")


def _fault(place: object, what: str, mend: str) -> NoReturn:
    raise DatasetError(f"{place}: {what}; {mend}")
