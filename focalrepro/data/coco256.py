"""coco256: 5,705 training and 2,939 validation images of COCO 2017, squashed to 256×256.

The manifest in `data/manifests/` fixes which images these are, so an imported copy and a download hold the
same images with the same boxes.  This file knows the layout and imports a copy; `download.py` makes one from
COCO's own address.
"""

import json
import os
import shutil
from pathlib import Path

from focalrepro.data.annotations import Annotations, read_annotations
from focalrepro.data.registry import Descriptor, Part, describe
from focalrepro.data.sources import list_files, locate
from focalrepro.data.split import DatasetError
from focalrepro.data.weights import BACKBONE, WEIGHTS, check_weights
from focalrepro.files import new_folder, repo_root

NAME = "coco256"
SIDE = 256
SPLITS = {"train": "train2017", "val": "val2017"}


def load_manifest(path: Path | None = None) -> dict:
    """The image ids of both splits and the checksum of the official annotation archive."""
    path = path or (repo_root() or Path()) / "data" / "manifests" / f"{NAME}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        mend = "run from a checkout (pip install -e .), restore it from git"
        raise DatasetError(f"{path}: the manifest is not readable ({error}); {mend}") from error


def annotations_file(official: str) -> str:
    """Path of a split's annotations within the dataset's folder."""
    return f"annotations/instances_{official}.json"


def finish(folder: Path, images: dict[str, list[str]], made_by: str) -> None:
    """Write `dataset.json`, with each split's tar files or folders in `folder`, and its weights if there."""
    parts = {
        s: Part(annotations=annotations_file(official), images=images[s]) for s, official in SPLITS.items()
    }
    weights = {BACKBONE: WEIGHTS} if (folder / WEIGHTS).is_file() else {}
    Descriptor(name=NAME, **parts, weights=weights, made_by=made_by).write(folder)


def add_weights(root: Path, weights: Path) -> None:
    """Put the backbone's weights into the prepared folder and name them in its `dataset.json`."""
    found = describe(NAME, root)
    check_weights(weights)
    take(weights, root / NAME / WEIGHTS)
    found.model_copy(update={"weights": {BACKBONE: WEIGHTS}}).write(root / NAME)


def import_coco256(
    source: Path, root: Path, *, weights: Path | None = None, manifest: Path | None = None
) -> Path:
    """Take over a folder with `annotations/`, `train2017*.tar`, `val2017.tar` and the backbone's weights.

    All is looked for and the image ids compared with the manifest before anything is written.  Files are
    hard-linked if possible, else copied; the source is never changed.  `weights` stands in for the source's.

    Returns the dataset's folder.  Raises DatasetError with a list of all that is missing.
    """
    source, root = Path(source), Path(root)
    if not source.is_dir():
        what = "give the folder that holds annotations/ and the tar files"
        raise DatasetError(f"{source}: no such folder; {what}")
    expected = load_manifest(manifest)
    tars = {split: sorted(source.glob(f"{official}*.tar")) for split, official in SPLITS.items()}
    missing = [annotations_file(o) for o in SPLITS.values() if not (source / annotations_file(o)).is_file()]
    missing += [f"{official}*.tar" for split, official in SPLITS.items() if not tars[split]]
    if missing:
        raise DatasetError(f"{source}: not a whole copy of {NAME}; missing: {', '.join(missing)}")
    for split, official in SPLITS.items():
        found = read_annotations(source / annotations_file(official))
        check_ids(found, expected[official])
        locate([image["file_name"] for image in found.images], list_files(tars[split], root / "cache"))
    if weights is None and (source / WEIGHTS).is_file():
        weights = source / WEIGHTS
    if weights is not None:
        check_weights(weights)
    with new_folder(root / NAME) as folder:
        for official in SPLITS.values():
            take(source / annotations_file(official), folder / annotations_file(official))
        for path in (*tars["train"], *tars["val"]):
            take(path, folder / path.name)
        if weights is not None:
            take(weights, folder / WEIGHTS)
        images = {split: [path.name for path in paths] for split, paths in tars.items()}
        finish(folder, images, f"focalrepro data {NAME} --from PATH")
    return root / NAME


def check_ids(found: Annotations, expected: list[int]) -> None:
    """The annotations must list exactly the manifest's images: another subset would be another benchmark."""
    ids = {image["id"] for image in found.images}
    absent, extra = sorted(set(expected) - ids), sorted(ids - set(expected))
    if absent or extra:
        what = f"{len(absent)} missing {absent[:5]}, {len(extra)} too many {extra[:5]}"
        mend = "for another subset use `focalrepro data register`"
        raise DatasetError(f"{found.path}: not the images of the manifest: {what}; {mend}")


def take(source: Path, target: Path) -> None:
    """Hard-link `source` to `target`, or copy it (times kept) where a link is not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)
