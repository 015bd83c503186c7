"""Folders of YOLO's and of Pascal VOC's form, read into COCO's, in which everything is registered.

Images stay where they are. A fault is told with its file, the line or the field, and the mend.
"""

import math
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree

import yaml
from PIL import Image

from focalrepro.data.pixels import is_turned
from focalrepro.data.split import DatasetError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
Split = tuple[dict[str, Any], list[Path]]  # a COCO file's content, and the folder of its images


def read_yolo(file: Path) -> list[Split]:
    """The training and, where there is one, the validation split that a data.yaml names.

    The labels of images/a.jpg are labels/a.txt, else a.txt beside it; an image without is background. A line
    is `class x y width height`, as shares of the image, or a class and the outline of an object.
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
    splits = []
    for split in ("train", "val") if given.get("val") else ("train",):
        root, inside = file.parent, str(given.get(split))
        places = (root / str(given.get("path", ".")) / inside, root / inside)
        places += (root / inside.removeprefix("../"),)  # as Roboflow means it
        if not (found := [place for place in places if place.is_dir()]):
            _fault(
                file, f"`{split}`: there is no folder {places[0]}", "give that of its images, from here on"
            )
        splits.append((_yolo_split(found[0], names), [found[0]]))
    return splits


def _yolo_split(folder: Path, names: dict[int, Any]) -> dict[str, Any]:
    images, boxes, label = [], [], folder
    for number, path in enumerate(_images(folder), start=1):
        try:
            with Image.open(path) as image:
                width, height, turned = *image.size, is_turned(image)
        except Exception as error:  # decoders raise many kinds
            _fault(path, f"not an image ({error})", "fetch or export this file again")
        name = path.relative_to(folder).as_posix()
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        label = beside = path.with_suffix(".txt")
        if "images" in path.parts:
            before, _, after = str(beside).rpartition("/images/")
            label = Path(f"{before}/labels/{after}")
        label = beside if beside.is_file() and not label.is_file() else label
        if turned and label.is_file():
            _fault(path, "asks by EXIF to be turned, and shares do not say of which form", "save it turned")
        lines = label.read_text("utf-8", "replace").splitlines() if label.is_file() else []
        for at, words in enumerate(map(str.split, lines), start=1):
            if words:
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
    pictures = {path.stem: path.name for path in _images(folder / "JPEGImages")}
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
        images.append({"id": number, "file_name": pictures[file.stem], **size})
        for at, found in enumerate(root.iter("object"), start=1):
            place, edges = f"{file}: object {at}", ("xmin", "ymin", "xmax", "ymax")
            x1, y1, x2, y2 = (_number(place, edge, found.findtext(f"bndbox/{edge}")) for edge in edges)
            name = found.findtext("name", "").strip() or _fault(place, "name is missing", "add the class")
            crowd = int(found.findtext("difficult", "").strip() == "1")
            box = {"image_id": number, "category_id": name, "iscrowd": crowd}
            boxes.append(box | {"bbox": [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]})
    names = dict(enumerate(sorted({box["category_id"] for box in boxes})))
    ids = {name: key + 1 for key, name in names.items()}
    whole = _coco(images, [box | {"category_id": ids[box["category_id"]]} for box in boxes], names)
    lists = [folder / "ImageSets" / "Main" / f"{split}.txt" for split in ("train", "val")]
    if not all(path.is_file() for path in lists):
        return [(whole, [folder / "JPEGImages"])]
    stems = [set(path.read_text("utf-8", "replace").split()) for path in lists]
    listed = [{i["id"] for i in images if Path(i["file_name"]).stem in of} for of in stems]
    return [(only(whole, kept), [folder / "JPEGImages"]) for kept in listed]


def _coco(images: list[dict], boxes: list[dict], names: dict[int, str]) -> dict[str, Any]:
    categories = [{"id": key + 1, "name": name} for key, name in names.items()]
    annotations = [{"id": number, **box} for number, box in enumerate(boxes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def only(whole: dict[str, Any], ids: set[int]) -> dict[str, Any]:
    """The part of a COCO file's content that is of the images with these ids."""
    kept = {"images": [image for image in whole["images"] if image["id"] in ids]}
    return whole | kept | {"annotations": [a for a in whole["annotations"] if a["image_id"] in ids]}


def _images(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
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
