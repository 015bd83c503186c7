"""`focalrepro data`: makes a dataset ready; a reproduction calls `ensure` for the one that it needs."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from focalrepro.data import coco
from focalrepro.data.coco import SUBSET, WHOLE
from focalrepro.data.own import register_own
from focalrepro.data.registry import describe, prepared, weights_path
from focalrepro.data.split import DatasetError, named_errors
from focalrepro.data.synthetic import NAME as EMBEDDED
from focalrepro.data.synthetic import RARE, generate
from focalrepro.data.weights import BACKBONE, ONNX_BYTES, WEIGHTS, check_weights, fetch_weights
from focalrepro.files import data_root

DRAWN = (EMBEDDED, *RARE)
MEGABYTES = {"images": 1400, "annotations": 253, "weights": ONNX_BYTES // 10**6}
MEGABYTES |= {archive.name: archive.size // 10**6 for archive in coco.ARCHIVES}


@named_errors()
def ensure(dataset: str) -> None:
    """Makes an embedded dataset, coco256 or coco ready; DatasetError says how to get any other."""
    if dataset in (*DRAWN, SUBSET, WHOLE):
        _get(dataset)
    describe(dataset)


def _get(dataset: str, source: Path | None = None, weights: Path | None = None) -> Path:
    """Draws it, takes a copy of it, or fetches it."""
    root = data_root()
    if dataset in DRAWN:
        return generate(root, dataset)
    if dataset == WHOLE:
        return coco.import_coco(source, root) if source else get_coco(root)
    return coco.import_coco256(source, root, weights) if source else get_coco256(root, weights)


def draw_if_absent(dataset: str, root: Path) -> None:
    """Makes an embedded dataset that is not there yet: seconds, and no network. One of other sizes stays."""
    if dataset in DRAWN and dataset not in prepared(root):
        generate(root, dataset)


def get_coco(root: Path) -> Path:
    """All of COCO, fetching what is missing after asking."""
    if WHOLE not in prepared(root):
        archives = [archive.name for archive in coco.ARCHIVES]
        agree(f"{WHOLE}: its archives", archives, f"give a copy: focalrepro data {WHOLE} --from PATH")
    return coco.download_coco(root)


def get_coco256(root: Path, weights: Path | None = None) -> Path:
    """coco256 with its weights, fetching what is missing after asking; `weights` is a file to take."""
    if weights is not None:
        check_weights(weights)  # before the long part
    parts = [] if SUBSET in prepared(root) else ["images", "annotations"]
    parts += [] if weights is not None or _has_weights(root) else ["weights"]
    agree(f"{SUBSET}: its", parts, f"give a copy: focalrepro data {SUBSET} --from PATH")
    if "weights" in parts:
        fetch_weights(coco.unfinished(root))  # first, since it fails sooner
    folder = coco.download_coco256(root)
    fetched = coco.unfinished(root) / WEIGHTS  # still there if the images had been there before
    if weights is not None or fetched.is_file():
        coco.add_weights(root, weights or fetched)
        fetched.unlink(missing_ok=True)
    return folder


def _has_weights(root: Path) -> bool:
    with suppress(DatasetError):
        return (coco.unfinished(root) / WEIGHTS).is_file() or weights_path(SUBSET, BACKBONE, root).is_file()
    return False


def ensure_weights(dataset: str, backbone: str) -> None:
    """The weights that a dataset's frozen backbone begins with, fetched where nobody has given some."""
    if backbone == BACKBONE:
        try:
            weights_path(dataset, backbone)
        except DatasetError:
            get_weights()


def get_weights() -> Path:
    """The backbone's weights for data that brings none, fetched once, after asking."""
    path = data_root() / "weights" / WEIGHTS
    if not path.is_file():
        agree(f"{BACKBONE}: its", ["weights"], "give their file with --weights FILE")
        fetch_weights(path.parent)
    return path


def agree(what: str, parts: list[str], instead: str) -> None:
    """Asks before a download of more than 100 MB, unless YES=1.  DatasetError where nobody says yes."""
    megabytes = sum(MEGABYTES[part] for part in parts)
    if megabytes <= 100 or os.environ.get("YES", "0") not in ("", "0"):
        return
    question = f"{what} {' and '.join(parts)} are {megabytes:,} MB over the network"
    mend = f"set YES=1 to fetch them, or {instead}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise DatasetError(f"{question}, and nobody is here to be asked; {mend}")
    if not input(f"{question}. Fetch them? [y/N] ").strip().lower().startswith("y"):
        raise DatasetError(f"{question}: not fetched; {mend}")


@named_errors()
def prepare_dataset(
    dataset: str, source: Path | None = None, weights: Path | None = None, name: str = "", *splits: Any
) -> int:
    """Generates, imports, downloads or registers; prints where the dataset lies. Returns the exit status.

    splits: annotations and images of the training and of the validation split, to register, as
    `register_own` has them.
    weights: a file for the backbone, or the backbone's name, which fetches it from the model zoo.
    """
    if dataset == "list":
        print("\n".join(prepared()) or f"no dataset is prepared in {data_root()}")
        return 0
    if dataset == "register" and not (name and splits[0]):
        raise DatasetError("register also needs --name and --train-annotations")
    if weights == Path(BACKBONE) and not weights.exists():
        weights = get_weights()
    own = dataset == "register"
    print(f"ready: {register_own(name, *splits, weights) if own else _get(dataset, source, weights)}")
    return 0
