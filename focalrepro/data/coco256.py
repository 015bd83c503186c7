"""coco256: 5,705 training and 2,939 validation images of COCO 2017, squashed to 256×256.

The manifest in `data/manifests/` fixes which images these are, so an imported copy and a download hold the
same images with the same boxes.  This file knows the layout and imports a copy; `download.py` makes one from
COCO's own address.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

from focalrepro.data.annotations import Annotations, read_annotations
from focalrepro.data.registry import DESCRIPTOR
from focalrepro.data.sources import TarSource, locate
from focalrepro.data.split import DatasetError
from focalrepro.files import new_folder, repo_root, write_json

NAME = "coco256"
SIDE = 256
WEIGHTS = "resnet50v2_imagenet_c4.safetensors"
SPLITS = {"train": "train2017", "val": "val2017"}
WEIGHTS_NOTE = (
    f"without {WEIGHTS} profile coco256 needs pretrained weights given by --weights: ImageNet weights of a "
    "pre-activation ResNet-50 up to stage 3, as in resnet50-v2-7 of the ONNX model zoo, saved as safetensors"
)
log = logging.getLogger(__name__)


def load_manifest(path: Path | None = None) -> dict:
    """The image ids of both splits and the checksum of the official annotation archive."""
    if path is None:
        root = repo_root()
        if root is None:
            raise DatasetError(
                "the list of coco256's images is in data/manifests/ of the repository; run from a checkout "
                "(pip install -e .)"
            )
        path = root / "data" / "manifests" / f"{NAME}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: the manifest is not readable ({error}); restore it from git") from error


def annotations_file(split: str) -> str:
    """Path of a split's annotations within the dataset's folder."""
    return f"annotations/instances_{split}.json"


def finish(folder: Path, images: dict[str, list[str]], weights: Path | None, made_by: str) -> None:
    """Write `dataset.json`, which makes the folder a prepared dataset, and take in the weights if given.

    `images` are each split's tar files or folders, relative to `folder`.
    """
    parts = {
        split: {"annotations": annotations_file(official), "images": images[split]}
        for split, official in SPLITS.items()
    }
    value = {"name": NAME, **parts, "weights": {}, "made_by": made_by}
    write_json(folder / DESCRIPTOR, value)
    if weights is None:
        log.warning("%s: no backbone weights; %s", folder, WEIGHTS_NOTE)
    else:
        add_weights(folder, weights)


def add_weights(folder: Path, weights: Path) -> None:
    """Put the backbone's weights into a prepared folder and name them in its `dataset.json`."""
    check_weights(weights)
    take(weights, folder / WEIGHTS)
    value = json.loads((folder / DESCRIPTOR).read_text(encoding="utf-8"))
    write_json(folder / DESCRIPTOR, {**value, "weights": {"resnet50v2": WEIGHTS}})


def import_coco256(
    source: Path, root: Path, *, weights: Path | None = None, manifest: Path | None = None
) -> Path:
    """Take over a folder with `annotations/`, `train2017*.tar`, `val2017.tar` and the backbone's weights.

    Every file is looked for and every image id compared with the manifest before anything is written.  Files
    are hard-linked where the file system allows it, else copied; the source is never changed.  `weights`
    stands in for the weights file of the source.  Returns the dataset's folder.

    Raises DatasetError with a list of all that is missing.
    """
    source, root = Path(source), Path(root)
    if not source.is_dir():
        raise DatasetError(
            f"{source}: no such folder; give the folder that holds annotations/ and the tar files"
        )
    expected = load_manifest(manifest)
    missing = []
    tars: dict[str, list[Path]] = {}
    for split, official in SPLITS.items():
        if not (source / annotations_file(official)).is_file():
            missing.append(annotations_file(official))
        tars[split] = sorted(source.glob(f"{official}*.tar"))
        if not tars[split]:
            missing.append(f"{official}*.tar")
    if missing:
        raise DatasetError(f"{source}: not a whole copy of {NAME}; missing: {', '.join(missing)}")
    for split, official in SPLITS.items():
        found = read_annotations(source / annotations_file(official))
        check_ids(found, expected[official])
        # `root/cache` also is where the loader keeps its index, so the tar files are scanned once.
        locate([i["file_name"] for i in found.images], [TarSource(t, root / "cache") for t in tars[split]])
    if weights is None and (source / WEIGHTS).is_file():
        weights = source / WEIGHTS
    if weights is not None:
        check_weights(weights)
    with new_folder(root / NAME) as folder:
        for official in SPLITS.values():
            take(source / annotations_file(official), folder / annotations_file(official))
        for path in (*tars["train"], *tars["val"]):
            take(path, folder / path.name)
        images = {split: [path.name for path in paths] for split, paths in tars.items()}
        finish(folder, images, weights, f"focalrepro data {NAME} --from PATH")
    return root / NAME


def check_ids(found: Annotations, expected: list[int]) -> None:
    """The annotations must list exactly the manifest's images: another subset would be another benchmark."""
    ids = {image["id"] for image in found.images}
    absent, extra = sorted(set(expected) - ids), sorted(ids - set(expected))
    if absent or extra:
        raise DatasetError(
            f"{found.path}: not the images of the manifest: {len(absent)} missing {absent[:5]}, {len(extra)} "
            f"too many {extra[:5]}; for another subset use `focalrepro data register`"
        )


def check_weights(path: Path) -> None:
    """Raise DatasetError if the weights are absent, cut short or no safetensors file (only its header is read)."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such weights file; check the path")
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(length)) if length < 100_000_000 else None
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DatasetError(f"{path}: not a safetensors file; fetch it again") from None
    whole = 8 + length + max(ends, default=0)
    if path.stat().st_size != whole:
        raise DatasetError(f"{path}: has {path.stat().st_size} bytes of {whole}; fetch it again")


def take(source: Path, target: Path) -> None:
    """Hard-link `source` to `target`, or copy it (times kept) where a link is not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)
