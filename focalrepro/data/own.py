"""A user's own dataset, of whichever form, registered under a name, and split where it is one."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from focalrepro.data.annotations import read_annotations
from focalrepro.data.formats import Split, only, read_voc, read_yolo
from focalrepro.data.registry import DESCRIPTOR, SPLITS, Descriptor, Part, check_name, describe
from focalrepro.data.sources import list_files, locate
from focalrepro.data.split import DatasetError, named_errors
from focalrepro.data.weights import BACKBONE, check_weights
from focalrepro.files import data_root, new_folder, write_json

VAL_SHARE = 0.2  # of the images, where nobody says which


@named_errors()
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
    backbone's safetensors file. recipe: the fields of RunConfig that its profile has otherwise.
    """
    root = data_root()
    check_name(name)
    sources = [str(Path(path).resolve()) for path in (data, val_data) if path is not None]
    if (root / name / DESCRIPTOR).is_file():
        before = describe(name).parameters.get("sources", sources)
        if before != sources:
            what = f"{name!r} is the name of {' and '.join(before)} already"
            raise DatasetError(f"{what}; give another name, or remove {root / name}")
    parts = _read(Path(data), images)
    if val_data is not None:
        parts = [parts[0], _read(Path(val_data), val_images or images)[-1]]
    elif len(parts) == 1:
        parts = _split(*parts[0])
    if weights is not None:
        check_weights(weights)
    described, classes = {}, {}
    with new_folder(root / name) as folder:
        for split, (content, where) in zip(SPLITS, parts, strict=True):
            path = folder / f"{split}.json" if isinstance(content, dict) else Path(content).resolve()
            if isinstance(content, dict):
                write_json(path, content)
            found = read_annotations(path)
            locate(found, list_files(where, root / "cache"))
            classes[split] = {(category["id"], category["name"]) for category in found.categories}
            file = path.name if isinstance(content, dict) else str(path)
            images = [str(Path(source).resolve()) for source in where]
            described[split] = Part(annotations=file, images=images)
        if odd := sorted(classes["train"] ^ classes["val"]):
            what = f"{' and '.join(sources)} have different categories (id, name): {odd[:5]}"
            raise DatasetError(f"{what}; a label must mean the same in both, so give them the same list")
        files = {} if weights is None else {BACKBONE: str(Path(weights).resolve())}
        more = {"weights": files, "parameters": {"sources": sources, "recipe": recipe or {}}}
        made_by = f"focalrepro data register --name {name}"
        Descriptor(name=name, **described, made_by=made_by, **more).write(folder)
    return root / name


def _read(data: Path, images: Sequence[Path]) -> list[Split] | list[tuple[Path, Sequence[Path]]]:
    """One split or two: what COCO's JSON says, or where it is, and the places of the images."""
    data = data / "data.yaml" if (data / "data.yaml").is_file() else data
    if data.suffix in (".yaml", ".yml"):
        return read_yolo(data)
    if (data / "Annotations").is_dir():
        return read_voc(data)
    if data.is_dir():
        raise DatasetError(f"{data}: has neither data.yaml nor Annotations/; give it, or a COCO JSON file")
    if not images:
        raise DatasetError(f"{data}: give the folder or tar file of its images, too")
    return [(data, images)]


def _split(content: dict | Path, images: Sequence[Path]) -> list[Split]:
    """The images at random, whatever is on them: those of training and those of validation."""
    whole = content if isinstance(content, dict) else asdict(read_annotations(content))
    whole = {key: whole[key] for key in ("images", "annotations", "categories")}
    ids = [image["id"] for image in whole["images"]]
    if len(ids) < 2:
        raise DatasetError(f"{content}: one image cannot be split; give data for validation, too")
    order = np.random.default_rng(0).permutation(len(ids))
    val = {ids[i] for i in order[: max(1, round(VAL_SHARE * len(ids)))]}
    return [(only(whole, set(ids) - val), list(images)), (only(whole, val), list(images))]
